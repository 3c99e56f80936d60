"""truncate, and replace_range: truncate and persist as one."""

from __future__ import annotations

from stores import Store, indices, refused, run, state_of, terms

from pylogwal import Entry, HardState, InvalidEntryError, LogId, PurgedError


async def test_truncate_drops_the_entry_and_all_after_it(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.truncate(5)
    assert indices(store) == [1, 2, 3, 4]
    assert store.last_index() == 4
    assert await store.entry(5) is None


async def test_truncate_beyond_the_end_does_nothing(store: Store) -> None:
    await store.truncate(1)
    await store.truncate(5)
    assert state_of(store).last == 0
    await store.persist_entries(run(1, 9))
    before = state_of(store)
    for from_index in (10, 11, 2**64 - 1):
        await store.truncate(from_index)
        assert state_of(store) == before


async def test_truncate_at_or_below_the_boundary_is_refused(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.purge(LogId(4, 1))
    for from_index in (4, 3, 1, 0):
        with refused(store, PurgedError):
            await store.truncate(from_index)
    assert issubclass(PurgedError, ValueError)


async def test_truncate_just_above_the_boundary_drops_all_and_keeps_the_boundary(
    store: Store,
) -> None:
    await store.persist_entries(run(1, 9))
    await store.purge(LogId(4, 1))
    await store.truncate(5)
    assert indices(store) == []
    assert store.load_purge_boundary() == LogId(4, 1)
    assert (store.first_index(), store.last_index()) == (5, 4)
    with refused(store, InvalidEntryError):
        await store.persist_entries(run(6, 6))
    await store.persist_entries(run(5, 5))


async def test_truncate_at_or_below_the_first_without_a_boundary_drops_all(store: Store) -> None:
    for from_index in (10, 9, 1, 0):
        await store.persist_entries(run(10, 12))
        await store.truncate(from_index)
        assert (store.first_index(), store.last_index()) == (1, 0)
        assert store.get_entries(0, 100) == []
        assert store.durable_index() == 0


async def test_a_log_that_was_truncated_to_nothing_may_start_anywhere(store: Store) -> None:
    await store.persist_entries(run(10, 12, term=5))
    await store.truncate(10)
    await store.persist_entries(run(3, 4, term=1))
    assert indices(store) == [3, 4]


async def test_what_was_truncated_can_be_written_again_with_another_payload(store: Store) -> None:
    await store.persist_entries(run(1, 5))
    await store.truncate(3)
    await store.persist_entries([Entry(3, 1, b"new")])
    assert indices(store) == [1, 2, 3]
    assert store.get_entries(3, 3) == [Entry(3, 1, b"new")]


async def test_truncate_over_several_segments_then_append_again(store: Store) -> None:
    for index in range(1, 101):
        await store.persist_entries([Entry(index, 1, b"old" * 1000)])
    await store.truncate(11)
    for index in range(11, 61):
        await store.persist_entries([Entry(index, 2, b"new" * 1000)])
    assert terms(store) == [1] * 10 + [2] * 50
    assert store.get_entries(10, 11) == [Entry(10, 1, b"old" * 1000), Entry(11, 2, b"new" * 1000)]


async def test_truncate_keeps_the_hard_state(store: Store) -> None:
    await store.persist_entries(run(1, 3), HardState(2, "n1"))
    await store.truncate(1)
    assert store.load_hard_state() == HardState(2, "n1")


async def test_replace_range_puts_new_entries_in_place_of_the_suffix(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.replace_range(4, run(4, 5, term=2))
    assert state_of(store).entries == [*run(1, 3), *run(4, 5, term=2)]


async def test_replace_range_can_end_beyond_the_old_end(store: Store) -> None:
    await store.persist_entries(run(1, 4))
    await store.replace_range(4, run(4, 9, term=2))
    assert indices(store) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


async def test_replace_range_at_the_end_appends(store: Store) -> None:
    await store.persist_entries(run(1, 3))
    await store.replace_range(4, run(4, 5))
    assert indices(store) == [1, 2, 3, 4, 5]


async def test_replace_range_never_skips_what_is_there_and_never_conflicts(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.replace_range(3, [Entry(3, 1, b"other")])
    assert indices(store) == [1, 2, 3]
    assert store.get_entries(3, 3) == [Entry(3, 1, b"other")]
    await store.persist_entries(run(4, 9))
    await store.replace_range(4, run(4, 5))
    assert indices(store) == [1, 2, 3, 4, 5]


async def test_replace_range_with_nothing_is_a_truncate(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.replace_range(4, [])
    assert indices(store) == [1, 2, 3]
    await store.replace_range(9, [])
    assert indices(store) == [1, 2, 3]
    await store.purge(LogId(2, 1))
    with refused(store, PurgedError):
        await store.replace_range(2, [])


async def test_replace_range_must_start_where_it_says(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    for from_index in (3, 5, 20):
        with refused(store, InvalidEntryError):
            await store.replace_range(from_index, run(4, 5, term=2))


async def test_replace_range_beyond_the_end_is_refused(store: Store) -> None:
    await store.persist_entries(run(1, 3))
    with refused(store, InvalidEntryError):
        await store.replace_range(5, run(5, 6))


async def test_replace_range_may_start_anywhere_in_a_blank_log(store: Store) -> None:
    await store.replace_range(7, run(7, 9, term=3))
    assert indices(store) == [7, 8, 9]


async def test_replace_range_below_the_first_without_a_boundary_replaces_all(store: Store) -> None:
    await store.persist_entries(run(10, 12, term=5))
    await store.replace_range(4, run(4, 6, term=2))
    assert state_of(store).entries == run(4, 6, term=2)


async def test_replace_range_at_or_below_the_boundary_is_refused(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.purge(LogId(4, 1))
    for from_index in (4, 1):
        with refused(store, PurgedError):
            await store.replace_range(from_index, run(from_index, 6, term=2))
    await store.replace_range(5, run(5, 6, term=2))
    assert indices(store) == [5, 6]


async def test_replace_range_with_a_term_below_the_entry_before_is_refused(store: Store) -> None:
    await store.persist_entries(run(1, 9, term=5))
    with refused(store, InvalidEntryError):
        await store.replace_range(4, run(4, 4, term=4))
    await store.purge(LogId(3, 5))
    with refused(store, InvalidEntryError):
        await store.replace_range(4, run(4, 4, term=4))
    await store.replace_range(4, run(4, 4, term=5))


async def test_replace_range_of_more_than_a_segment_is_one(store: Store) -> None:
    await store.persist_entries(run(1, 50, payload=b"old" * 1000))
    await store.replace_range(6, run(6, 40, term=2, payload=b"new" * 1000))
    assert terms(store) == [1] * 5 + [2] * 35
    assert store.get_entries(40, 99) == [Entry(40, 2, b"new" * 1000)]
