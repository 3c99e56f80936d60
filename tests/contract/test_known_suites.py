"""What the test suites of d-engine and openraft ask of a log, in this contract's words.

d-engine's runs its cases one after another in one directory, without cleaning up between them, so
each meets what the ones before left behind; entry i has term i. openraft's starts blank each time;
its indices start at 0 and its ranges end before their end, so here both are moved by one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from stores import Store, Stores, every_mode_on_disk, indices

from pylogwal import Entry, HardState, LogId

# -- d-engine -------------------------------------------------------------------------------------


def entries_of_term_i(first: int, last: int) -> list[Entry]:
    return [Entry(i, i, b"command %d" % i) for i in range(first, last + 1)]


async def empty_storage(store: Store) -> None:
    assert store.last_index() == 0
    assert await store.entry(1) is None
    assert store.get_entries(1, 5) == []


async def single_entry(store: Store) -> None:
    await store.persist_entries(entries_of_term_i(1, 1))
    assert store.last_index() == 1
    assert await store.entry(1) == Entry(1, 1, b"command 1")
    assert store.get_entries(1, 1) == entries_of_term_i(1, 1)


async def batch_of_100_and_a_range_of_it(store: Store) -> None:
    batch = entries_of_term_i(1, 100)
    await store.persist_entries(batch)
    assert store.last_index() == 100
    for index in (1, 50, 100):
        assert await store.entry(index) == batch[index - 1]
    assert store.get_entries(25, 75) == batch[24:75]


async def purge_50_of_100(store: Store) -> None:
    await store.persist_entries(entries_of_term_i(1, 100))
    await store.purge(LogId(50, 50))
    assert await store.entry(1) is None
    assert await store.entry(50) is None
    assert await store.entry(51) is not None


async def truncate_from_76(store: Store) -> None:
    await store.reset()
    await store.persist_entries(entries_of_term_i(1, 100))
    await store.truncate(76)
    assert store.last_index() == 75
    assert await store.entry(76) is None
    assert await store.entry(100) is None
    assert await store.entry(75) is not None


async def reset(store: Store) -> None:
    await store.persist_entries(entries_of_term_i(1, 50))
    await store.reset()
    assert store.last_index() == 0
    assert await store.entry(1) is None


async def empty_batch_and_out_of_range_read(store: Store) -> None:
    await store.persist_entries([])
    assert store.get_entries(100, 200) == []


async def purge_of_nothing(store: Store) -> None:
    await store.purge(LogId(0, 0))
    assert store.last_index() == 0
    await store.persist_entries(entries_of_term_i(1, 10))
    await store.purge(LogId(0, 0))
    assert await store.entry(1) is not None
    assert store.last_index() == 10


async def hard_state_saved(store: Store) -> None:
    store.save_hard_state(HardState(5, "10"))
    assert store.load_hard_state() == HardState(5, "10")


async def hard_state_kept_over_reset(store: Store) -> None:
    store.save_hard_state(HardState(3, "5"))
    await store.reset()
    assert store.load_hard_state() == HardState(3, "5")


async def flush_of_both(store: Store) -> None:
    await store.persist_entries(entries_of_term_i(1, 5))
    store.save_hard_state(HardState(2, "1"))
    store.flush()
    await store.flush_async()
    assert store.durable_index() == 5


D_ENGINE_CASES: list[Callable[[Store], Awaitable[None]]] = [
    empty_storage,
    single_entry,
    batch_of_100_and_a_range_of_it,
    purge_50_of_100,
    truncate_from_76,
    reset,
    empty_batch_and_out_of_range_read,
    purge_of_nothing,
    hard_state_saved,
    hard_state_kept_over_reset,
    flush_of_both,
]


async def write_10(store: Store) -> None:
    await store.persist_entries(entries_of_term_i(1, 10))


async def find_10(store: Store) -> None:
    assert store.last_index() == 10
    for index in (1, 5, 10):
        assert await store.entry(index) == Entry(index, index, b"command %d" % index)


async def save_42(store: Store) -> None:
    store.save_hard_state(HardState(42, "7"))


async def find_42(store: Store) -> None:
    assert store.load_hard_state() == HardState(42, "7")


async def write_100_and_truncate(store: Store) -> None:
    await store.persist_entries(entries_of_term_i(1, 100))
    await store.truncate(76)


async def find_75(store: Store) -> None:
    assert store.last_index() == 75
    assert [await store.entry(index) for index in (76, 100)] == [None, None]
    assert await store.entry(75) is not None


async def write_100_and_purge(store: Store) -> None:
    await store.persist_entries(entries_of_term_i(1, 100))
    await store.purge(LogId(50, 50))


async def find_50_purged(store: Store) -> None:
    assert [await store.entry(index) for index in (1, 50)] == [None, None]
    assert [await store.entry(index) for index in (51, 100)] == [
        Entry(51, 51, b"command 51"),
        Entry(100, 100, b"command 100"),
    ]
    assert store.load_purge_boundary() == LogId(50, 50)


D_ENGINE_REOPENING_CASES = [
    (write_10, find_10),
    (save_42, find_42),
    (write_100_and_truncate, find_75),
    (write_100_and_purge, find_50_purged),
]


async def test_d_engines_suite_passes_one_case_after_another_in_one_directory(
    stores: Stores,
) -> None:
    store = await stores.open()
    for case in D_ENGINE_CASES:
        await case(store)
        store = await stores.reopen(store)
    for write, find in D_ENGINE_REOPENING_CASES:
        await write(store)
        store = await stores.reopen(store)
        await find(store)


@every_mode_on_disk
async def test_d_engines_suite_passes_where_stores_are_dropped_and_not_closed(
    stores: Stores,
) -> None:
    for case in D_ENGINE_CASES:
        await open_run_and_drop(stores, case)
    for write, find in D_ENGINE_REOPENING_CASES:
        await open_run_and_drop(stores, write)
        await open_run_and_drop(stores, find)


async def open_run_and_drop(stores: Stores, case: Callable[[Store], Awaitable[None]]) -> None:
    store = await stores.open()
    await case(store)
    del store
    stores.drop_all()


@pytest.mark.parametrize("case", D_ENGINE_CASES[1:], ids=lambda case: case.__name__)
async def test_each_case_of_d_engines_suite_passes_in_a_blank_log(
    store: Store, case: Callable[[Store], Awaitable[None]]
) -> None:
    await case(store)


# -- openraft -------------------------------------------------------------------------------------


def blank(term: int, *numbers: int) -> list[Entry]:
    return [Entry(index, term) for index in numbers]


async def feed_11(store: Store) -> None:
    """One entry of term 0, then ten of term 1, each its own append, and a vote."""
    await store.persist_entries(blank(0, 1))
    for index in range(2, 12):
        await store.persist_entries(blank(1, index))
    await store.save_hard_state_async(HardState(1, "0"))


def log_state(store: Store) -> tuple[LogId | None, LogId | None]:
    """openraft's get_log_state: what was purged last, and the last id, the purged one if empty."""
    last = store.last_index()
    term = store.term(last)
    assert term is not None
    return store.load_purge_boundary(), LogId(last, term) if last else None


async def test_openraft_initial_log_is_empty_and_has_no_vote(store: Store) -> None:
    assert await store.entry(1) is None
    assert log_state(store) == (None, None)
    assert store.load_hard_state() is None


async def test_openraft_log_state_follows_append_and_purge(store: Store) -> None:
    await store.persist_entries([*blank(0, 1), *blank(1, 2, 3)])
    assert log_state(store) == (None, LogId(3, 1))
    await store.purge(LogId(1, 0))
    assert log_state(store) == (LogId(1, 0), LogId(3, 1))
    await store.purge(LogId(3, 1))
    assert log_state(store) == (LogId(3, 1), LogId(3, 1))
    await store.purge(LogId(4, 2))
    assert log_state(store) == (LogId(4, 2), LogId(4, 2))


async def test_openraft_save_vote(store: Store) -> None:
    await store.save_hard_state_async(HardState(100, "0"))
    assert store.load_hard_state() == HardState(100, "0")


async def test_openraft_get_log_entries(store: Store) -> None:
    await feed_11(store)
    assert store.get_entries(4, 3) == []
    assert store.get_entries(6, 7) == blank(1, 6, 7)
    assert store.get_entries(4, 7) == blank(1, 4, 5, 6, 7)
    assert store.get_entries(1, 3) == [*blank(0, 1), *blank(1, 2, 3)]
    assert store.get_entries(9, 100) == blank(1, 9, 10, 11)
    assert len(store.get_entries(1, 11)) == 11


async def test_openraft_limited_get_log_entries(store: Store) -> None:
    await feed_11(store)
    assert store.get_entries(4, 3, 1) == []
    limited = store.get_entries(6, 7, 1)
    assert 1 <= len(limited) <= 2
    assert limited[0] == Entry(6, 1)


async def test_openraft_try_get_log_entry(store: Store) -> None:
    await feed_11(store)
    await store.purge(LogId(1, 0))
    assert await store.entry(4) == Entry(4, 1)
    assert await store.entry(1) is None
    assert await store.entry(12) is None


async def test_openraft_get_log_id(store: Store) -> None:
    await feed_11(store)
    await store.purge(LogId(4, 1))
    assert store.term(0) == 0
    assert store.term(-1) is None
    assert store.term(2**64) is None
    assert store.term(1) is None
    assert store.term(5) == 1
    assert store.term(11) == 1
    assert store.term(12) is None


async def test_openraft_purge_up_to_the_first(store: Store) -> None:
    await feed_11(store)
    await store.purge(LogId(1, 0))
    assert indices(store) == list(range(2, 12))
    assert log_state(store) == (LogId(1, 0), LogId(11, 1))


async def test_openraft_purge_up_to_the_middle(store: Store) -> None:
    await feed_11(store)
    await store.purge(LogId(6, 1))
    assert indices(store) == list(range(7, 12))
    assert log_state(store) == (LogId(6, 1), LogId(11, 1))


async def test_openraft_purge_beyond_the_end(store: Store) -> None:
    await feed_11(store)
    await store.purge(LogId(21, 1))
    assert indices(store) == []
    assert log_state(store) == (LogId(21, 1), LogId(21, 1))


async def test_openraft_delete_since_beyond_the_end(store: Store) -> None:
    await feed_11(store)
    await store.truncate(12)
    assert len(indices(store)) == 11
    assert log_state(store) == (None, LogId(11, 1))


async def test_openraft_delete_since_the_first(store: Store) -> None:
    await feed_11(store)
    await store.truncate(1)
    assert indices(store) == []
    assert log_state(store) == (None, None)


async def test_openraft_append_after_purge(store: Store) -> None:
    await feed_11(store)
    await store.purge(LogId(1, 0))
    await store.persist_entries(blank(2, 12))
    assert len(indices(store)) == 11
    assert log_state(store) == (LogId(1, 0), LogId(12, 2))


async def test_openraft_initial_state_where_the_snapshot_is_ahead_of_the_log(store: Store) -> None:
    await store.persist_entries(blank(1, 3))
    await store.purge(LogId(3, 3))
    assert log_state(store) == (LogId(3, 3), LogId(3, 3))


async def test_openraft_log_ids_at_each_change_of_term(store: Store) -> None:
    await store.persist_entries([*blank(0, 1), *blank(1, 2, 3), *blank(2, 4)])
    await store.persist_entries([*blank(2, 5), *blank(3, 6, 7)])
    terms = {1: 0, 2: 1, 3: 1, 4: 2, 5: 2, 6: 3, 7: 3}
    for purged in range(8):
        if purged:
            await store.purge(LogId(purged, terms[purged]))
        known = {index: term for index, term in terms.items() if index >= max(purged, 1)}
        assert {i: store.term(i) for i in range(1, 9) if store.term(i) is not None} == known
    await store.persist_entries(blank(3, 8, 9))
    assert log_state(store) == (LogId(7, 3), LogId(9, 3))


async def test_openraft_committed_is_kept_with_the_vote(store: Store) -> None:
    await store.persist_entries(blank(1, 3, 4, 5, 6))
    await store.purge(LogId(2, 1))
    await store.save_hard_state_async(HardState(1, "0", 5))
    loaded = store.load_hard_state()
    assert loaded is not None
    assert loaded.commit_index == 5
    assert store.get_entries(4, loaded.commit_index) == blank(1, 4, 5)
    assert log_state(store) == (LogId(2, 1), LogId(6, 1))
