"""entry, get_entries, term, first_index and last_index: what is accepted, from one state."""

from __future__ import annotations

import pytest
from stores import Store, run

from pylogwal import Entry, LogId


async def test_a_blank_log_has_first_1_and_last_0(store: Store) -> None:
    assert (store.first_index(), store.last_index()) == (1, 0)
    assert store.get_entries(0, 2**64 - 1) == []
    assert await store.entry(1) is None
    assert store.load_purge_boundary() is None
    assert store.durable_index() == 0


async def test_entry_outside_the_log_is_none(store: Store) -> None:
    await store.persist_entries(run(5, 7))
    for index in (-1, 0, 4, 8, 2**63, 2**64 - 1, 2**64, 2**70):
        assert await store.entry(index) is None


async def test_entry_at_or_below_the_boundary_is_none(store: Store) -> None:
    await store.persist_entries(run(1, 7))
    await store.purge(LogId(3, 1))
    assert [await store.entry(i) for i in (1, 2, 3)] == [None, None, None]
    assert await store.entry(4) == run(4, 4)[0]


async def test_get_entries_includes_both_ends(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    assert store.get_entries(3, 6) == run(3, 6)
    assert store.get_entries(4, 4) == run(4, 4)


async def test_get_entries_is_clipped_to_what_exists(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.purge(LogId(3, 1))
    assert store.get_entries(0, 100) == run(4, 9)
    assert store.get_entries(2, 5) == run(4, 5)
    assert store.get_entries(8, 2**64 - 1) == run(8, 9)
    assert store.get_entries(-5, 2**70) == run(4, 9)


async def test_a_range_outside_the_log_or_inverted_is_empty(store: Store) -> None:
    await store.persist_entries(run(4, 9))
    for first, last in ((1, 3), (10, 20), (6, 5), (0, 0), (2**64 - 1, 0), (2**64, 2**70)):
        assert store.get_entries(first, last) == []


async def test_get_entries_gives_a_list_of_entries(store: Store) -> None:
    await store.persist_entries(run(1, 3))
    found = store.get_entries(1, 3)
    assert type(found) is list
    assert all(type(entry) is Entry for entry in found)
    assert type(await store.entry(1)) is Entry
    for field in (found[0].index, found[0].term, found[0].kind):
        assert type(field) is int


async def test_changing_the_list_does_not_change_the_log(store: Store) -> None:
    await store.persist_entries(run(1, 3))
    store.get_entries(1, 3).clear()
    assert store.get_entries(1, 3) == run(1, 3)


@pytest.mark.parametrize(
    ("max_bytes", "count"),
    [(None, 4), (0, 1), (99, 1), (100, 1), (199, 1), (200, 2), (399, 3), (400, 4), (2**70, 4)],
)
async def test_get_entries_stops_at_max_bytes_but_never_before_one_entry(
    store: Store, max_bytes: int | None, count: int
) -> None:
    await store.persist_entries(run(1, 4, payload=b"x" * 100))
    assert [e.index for e in store.get_entries(1, 9, max_bytes)] == list(range(1, count + 1))
    assert len(store.get_entries(4, 9, max_bytes=max_bytes)) == 1


async def test_entries_without_payload_take_nothing_of_max_bytes(store: Store) -> None:
    await store.persist_entries([Entry(1, 1, b"xy"), Entry(2, 1), Entry(3, 1), Entry(4, 1, b"z")])
    assert [e.index for e in store.get_entries(1, 4, 2)] == [1, 2, 3]
    assert [e.index for e in store.get_entries(2, 4, 0)] == [2, 3]


async def test_term_is_known_for_entries_for_the_boundary_and_for_index_0(store: Store) -> None:
    await store.persist_entries([*run(1, 2, term=3), *run(3, 4, term=5)])
    assert [store.term(i) for i in (0, 1, 2, 3, 4, 5)] == [0, 3, 3, 5, 5, None]
    await store.purge(LogId(2, 3))
    assert [store.term(i) for i in (0, 1, 2, 3, 4, 5)] == [0, None, 3, 5, 5, None]
    assert store.term(2**70) is None


async def test_index_0_has_term_0_also_where_the_log_starts_later(store: Store) -> None:
    assert store.term(0) == 0
    await store.persist_entries(run(7, 8))
    assert [store.term(i) for i in (0, 1, 6, 7)] == [0, None, None, 1]


async def test_the_length_of_the_log_is_last_minus_first_plus_1(store: Store) -> None:
    async def length() -> int:
        count = store.last_index() - store.first_index() + 1
        assert count == len(store.get_entries(0, 2**64 - 1))
        return count

    assert await length() == 0
    await store.persist_entries(run(5, 9))
    assert await length() == 5
    await store.purge(LogId(7, 1))
    assert await length() == 2
    await store.purge(LogId(9, 1))
    assert await length() == 0
    assert (store.first_index(), store.last_index()) == (10, 9)
    await store.purge(LogId(20, 1))
    assert await length() == 0
    await store.reset()
    assert await length() == 0


async def test_what_is_submitted_is_visible_before_it_is_durable(store: Store) -> None:
    future = store.submit(run(1, 3))
    assert store.last_index() == 3
    assert store.get_entries(1, 3) == run(1, 3)
    assert await store.entry(2) == run(2, 2)[0]
    await future


async def test_max_bytes_that_the_first_entry_is_over_ends_there_also_before_an_empty_one(
    store: Store,
) -> None:
    await store.persist_entries([Entry(1, 1, b"x"), Entry(2, 1), Entry(3, 1)])
    assert [entry.index for entry in store.get_entries(1, 3, max_bytes=0)] == [1]
    assert [entry.index for entry in store.get_entries(1, 3, max_bytes=1)] == [1, 2, 3]
