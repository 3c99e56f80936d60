"""persist_entries: Raft's append rule, atomic as a whole."""

from __future__ import annotations

from stores import Store, indices, refused, run, state_of, terms

from pylogwal import ConflictError, Entry, HardState, InvalidEntryError, LogId


async def test_entries_come_back_as_they_were_written(store: Store) -> None:
    batch = [Entry(1, 0, b"", 0), Entry(2, 0, b"\0" * 100, 255), Entry(3, 2**64 - 1, b"x", 7)]
    await store.persist_entries(batch)
    assert store.get_entries(1, 3) == batch
    assert [await store.entry(i) for i in (1, 2, 3)] == batch


async def test_an_empty_batch_changes_nothing(store: Store) -> None:
    await store.persist_entries([])
    assert (store.first_index(), store.last_index()) == (1, 0)
    await store.persist_entries(run(1, 3))
    before = state_of(store)
    await store.persist_entries([])
    assert state_of(store) == before


async def test_any_iterable_of_entries_is_a_batch(store: Store) -> None:
    await store.persist_entries(iter(run(1, 2)))
    await store.persist_entries(tuple(run(3, 4)))
    await store.persist_entries(entry for entry in run(5, 6))
    assert indices(store) == [1, 2, 3, 4, 5, 6]


async def test_any_bytes_like_payload_is_taken_and_bytes_come_back(store: Store) -> None:
    given = [b"abc", bytearray(b"abc"), memoryview(b"abc"), memoryview(b"a_b_c_")[::2]]
    await store.persist_entries([Entry(i, 1, data) for i, data in enumerate(given, 1)])  # type: ignore[arg-type]
    for entry in store.get_entries(1, 4):
        assert type(entry.payload) is bytes
        assert entry.payload == b"abc"


async def test_a_payload_changed_after_the_call_does_not_change_the_log(store: Store) -> None:
    payload = bytearray(b"before")
    future = store.submit([Entry(1, 1, payload)])  # type: ignore[arg-type]
    payload[:] = b"after!"
    await future
    assert store.get_entries(1, 1)[0].payload == b"before"


async def test_a_blank_log_may_start_anywhere(store: Store) -> None:
    await store.persist_entries(run(2**40, 2**40 + 2, term=9))
    assert (store.first_index(), store.last_index()) == (2**40, 2**40 + 2)
    await store.persist_entries(run(2**40 + 3, 2**40 + 3, term=9))
    assert store.last_index() == 2**40 + 3


async def test_the_highest_index_there_is_can_be_written(store: Store) -> None:
    await store.persist_entries(run(2**64 - 4, 2**64 - 2))
    assert store.last_index() == 2**64 - 2
    assert len(store.get_entries(0, 2**64 - 1)) == 3


async def test_a_gap_after_the_last_entry_is_refused(store: Store) -> None:
    await store.persist_entries(run(1, 3))
    with refused(store, InvalidEntryError) as raised:
        await store.persist_entries(run(5, 6))
    assert raised.value.index == 5  # type: ignore[attr-defined]


async def test_a_gap_after_the_boundary_is_refused(store: Store) -> None:
    await store.purge(LogId(10, 3))
    with refused(store, InvalidEntryError):
        await store.persist_entries(run(12, 13, term=3))
    await store.persist_entries(run(11, 12, term=3))
    assert indices(store) == [11, 12]


async def test_a_term_below_the_entry_just_before_is_refused(store: Store) -> None:
    await store.persist_entries(run(1, 3, term=5))
    with refused(store, InvalidEntryError):
        await store.persist_entries(run(4, 4, term=4))
    with refused(store, InvalidEntryError):
        await store.persist_entries(run(2, 2, term=4))


async def test_a_term_below_the_boundary_is_refused(store: Store) -> None:
    await store.purge(LogId(10, 5))
    with refused(store, InvalidEntryError):
        await store.persist_entries(run(11, 11, term=4))
    with refused(store, InvalidEntryError):
        await store.persist_entries(run(9, 11, term=4))
    await store.persist_entries(run(11, 11, term=5))


async def test_a_refused_batch_writes_none_of_its_entries(store: Store) -> None:
    await store.persist_entries(run(1, 2))
    with refused(store, InvalidEntryError):
        await store.persist_entries([*run(3, 4), Entry(6, 1)])
    with refused(store, InvalidEntryError):
        await store.persist_entries([*run(3, 4, term=2), Entry(5, 1)])
    with refused(store, ConflictError):
        await store.persist_entries([Entry(2, 1, b"not what is there"), *run(3, 4)])


async def test_a_retry_of_the_same_batch_changes_nothing(store: Store) -> None:
    await store.persist_entries(run(1, 5))
    before = state_of(store)
    await store.persist_entries(run(1, 5))
    assert state_of(store) == before


async def test_a_late_retry_loses_nothing_that_came_after(store: Store) -> None:
    await store.persist_entries(run(1, 3))
    await store.persist_entries(run(4, 9, term=2))
    before = state_of(store)
    await store.persist_entries(run(1, 3))
    await store.persist_entries(run(2, 2))
    assert state_of(store) == before


async def test_an_overlap_that_agrees_appends_only_what_is_new(store: Store) -> None:
    await store.persist_entries(run(1, 5))
    await store.persist_entries([*run(3, 5), *run(6, 7, term=2)])
    assert state_of(store).entries == [*run(1, 5), *run(6, 7, term=2)]


async def test_from_the_first_term_that_differs_the_old_suffix_is_replaced(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.persist_entries([*run(3, 4), *run(5, 6, term=2)])
    assert state_of(store).entries == [*run(1, 4), *run(5, 6, term=2)]


async def test_the_whole_log_can_be_replaced_from_its_first_entry(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.persist_entries(run(1, 1, term=2))
    assert state_of(store).entries == run(1, 1, term=2)


async def test_a_suffix_of_a_higher_term_can_be_replaced_by_a_lower_one(store: Store) -> None:
    await store.persist_entries([*run(1, 2), *run(3, 6, term=7)])
    await store.persist_entries(run(3, 3, term=2))
    assert terms(store) == [1, 1, 2]


async def test_what_was_replaced_never_conflicts(store: Store) -> None:
    await store.persist_entries([*run(1, 2), *run(3, 6, term=2)])
    await store.persist_entries([Entry(3, 3, b"a"), Entry(4, 3, b"b")])
    await store.persist_entries([Entry(3, 3, b"a"), Entry(4, 3, b"b"), Entry(5, 3, b"c")])
    assert terms(store) == [1, 1, 3, 3, 3]


async def test_the_same_term_with_another_payload_is_a_conflict(store: Store) -> None:
    await store.persist_entries(run(1, 5))
    with refused(store, ConflictError) as raised:
        await store.persist_entries([*run(2, 3), Entry(4, 1, b"another")])
    assert raised.value.index == 4  # type: ignore[attr-defined]


async def test_the_same_term_with_another_kind_is_a_conflict(store: Store) -> None:
    await store.persist_entries([Entry(1, 1, b"same", 0)])
    with refused(store, ConflictError):
        await store.persist_entries([Entry(1, 1, b"same", 1)])


async def test_the_same_term_with_a_payload_of_another_length_is_a_conflict(store: Store) -> None:
    await store.persist_entries([Entry(1, 1, b"same")])
    for payload in (b"", b"sam", b"same\0"):
        with refused(store, ConflictError):
            await store.persist_entries([Entry(1, 1, payload)])


async def test_a_conflict_is_an_invalid_entry(store: Store) -> None:
    assert issubclass(ConflictError, InvalidEntryError)
    assert issubclass(InvalidEntryError, ValueError)


async def test_entries_at_or_below_the_boundary_are_skipped(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.purge(LogId(5, 1))
    before = state_of(store)
    await store.persist_entries(run(1, 3))
    await store.persist_entries([Entry(5, 1, b"another payload")])
    await store.persist_entries([Entry(4, 7), Entry(5, 7)])
    assert state_of(store) == before
    await store.persist_entries([*run(3, 9), *run(10, 11)])
    assert indices(store) == [6, 7, 8, 9, 10, 11]


async def test_a_batch_that_reaches_over_the_boundary_of_an_empty_log_appends(store: Store) -> None:
    await store.purge(LogId(5, 1))
    await store.persist_entries(run(3, 8))
    assert state_of(store).entries == run(6, 8)


async def test_below_the_first_entry_without_a_boundary_is_refused(store: Store) -> None:
    await store.persist_entries(run(10, 12))
    with refused(store, InvalidEntryError):
        await store.persist_entries(run(9, 12))
    with refused(store, InvalidEntryError):
        await store.persist_entries(run(9, 12, term=2))
    with refused(store, InvalidEntryError):
        await store.persist_entries(run(3, 4))


async def test_entries_and_hard_state_go_in_one_batch(store: Store) -> None:
    state = HardState(3, "n1", 2, b"extra")
    await store.persist_entries(run(1, 2), state)
    assert store.load_hard_state() == state
    assert indices(store) == [1, 2]
    assert store.durable_index() == 2


async def test_the_hard_state_is_written_also_where_every_entry_is_skipped(store: Store) -> None:
    await store.persist_entries(run(1, 3))
    await store.persist_entries(run(1, 3), HardState(4))
    assert store.load_hard_state() == HardState(4)
    await store.persist_entries([], HardState(5))
    assert store.load_hard_state() == HardState(5)
    await store.purge(LogId(3, 1))
    await store.persist_entries(run(1, 3), HardState(6))
    assert store.load_hard_state() == HardState(6)
    assert store.last_index() == 3


async def test_a_refused_batch_leaves_the_hard_state_too(store: Store) -> None:
    await store.persist_entries(run(1, 3), HardState(1))
    with refused(store, InvalidEntryError):
        await store.persist_entries(run(5, 6), HardState(2))
    with refused(store, ValueError):
        await store.persist_entries(run(4, 4), HardState(-1))


async def test_an_append_larger_than_a_segment_is_one_batch(store: Store) -> None:
    batch = run(1, 40, payload=b"large" * 1000)
    await store.persist_entries(batch)
    assert store.get_entries(1, 40) == batch


async def test_many_small_appends_over_many_segments_come_back(store: Store) -> None:
    for first in range(1, 400, 4):
        await store.persist_entries(run(first, first + 3, term=first, payload=b"p" * 700))
    assert indices(store) == list(range(1, 401))
    assert all(entry.payload == b"p" * 700 for entry in store.get_entries(1, 400))
