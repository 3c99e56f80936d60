"""purge, the boundary it leaves, and reset."""

from __future__ import annotations

from stores import Store, indices, run, state_of

from pylogwal import Entry, HardState, LogId


async def test_purge_drops_all_up_to_and_including_the_cutoff(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.purge(LogId(4, 1))
    assert indices(store) == [5, 6, 7, 8, 9]
    assert store.load_purge_boundary() == LogId(4, 1)
    assert type(store.load_purge_boundary()) is LogId
    assert (store.first_index(), store.last_index()) == (5, 9)


async def test_purge_of_the_last_entry_leaves_its_index_as_the_last(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.purge(LogId(9, 1))
    assert indices(store) == []
    assert (store.first_index(), store.last_index()) == (10, 9)
    await store.persist_entries(run(10, 10))
    assert indices(store) == [10]


async def test_purge_at_or_below_the_boundary_does_nothing(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.purge(LogId(4, 1))
    before = state_of(store)
    for cutoff in (LogId(4, 1), LogId(4, 9), LogId(3, 1), LogId(1, 7), LogId(0, 0)):
        await store.purge(cutoff)
        assert state_of(store) == before


async def test_purge_at_index_0_does_nothing(store: Store) -> None:
    await store.purge(LogId(0, 5))
    assert store.load_purge_boundary() is None
    await store.persist_entries(run(1, 3))
    await store.purge(LogId(0, 0))
    assert indices(store) == [1, 2, 3]
    assert store.load_purge_boundary() is None


async def test_purge_short_of_the_entry_before_the_first_does_nothing(store: Store) -> None:
    await store.persist_entries(run(10, 12))
    before = state_of(store)
    await store.purge(LogId(8, 1))
    await store.purge(LogId(3, 9))
    assert state_of(store) == before


async def test_purge_just_before_the_first_entry_makes_it_the_boundary(store: Store) -> None:
    await store.persist_entries(run(10, 12, term=4))
    await store.purge(LogId(9, 3))
    assert store.load_purge_boundary() == LogId(9, 3)
    assert indices(store) == [10, 11, 12]
    await store.persist_entries(run(8, 13, term=4))
    assert indices(store) == [10, 11, 12, 13]


async def test_purge_just_before_the_first_entry_of_a_higher_term_drops_the_log(
    store: Store,
) -> None:
    await store.persist_entries(run(10, 12, term=4))
    await store.purge(LogId(9, 5))
    assert indices(store) == []
    assert store.load_purge_boundary() == LogId(9, 5)
    await store.persist_entries(run(10, 10, term=5))


async def test_purge_beyond_the_end_drops_all_and_continues_at_the_next_index(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.purge(LogId(20, 3))
    assert indices(store) == []
    assert store.load_purge_boundary() == LogId(20, 3)
    assert (store.first_index(), store.last_index()) == (21, 20)
    assert store.durable_index() == 20
    await store.persist_entries(run(21, 22, term=3))
    assert indices(store) == [21, 22]


async def test_purge_of_a_blank_log_sets_where_it_starts(store: Store) -> None:
    await store.purge(LogId(7, 2))
    assert store.load_purge_boundary() == LogId(7, 2)
    assert (store.first_index(), store.last_index()) == (8, 7)
    assert store.term(7) == 2


async def test_purge_of_an_empty_log_moves_the_boundary_on(store: Store) -> None:
    await store.purge(LogId(7, 2))
    await store.purge(LogId(9, 2))
    assert store.load_purge_boundary() == LogId(9, 2)


async def test_purge_where_the_local_term_differs_drops_all(store: Store) -> None:
    for term in (1, 3):
        await store.reset()
        await store.persist_entries(run(1, 9, term=2))
        await store.purge(LogId(4, term))
        assert indices(store) == []
        assert store.load_purge_boundary() == LogId(4, term)
        assert (store.first_index(), store.last_index()) == (5, 4)
        await store.persist_entries(run(5, 6, term=3))
        assert indices(store) == [5, 6]


async def test_purge_can_go_on_step_by_step_while_the_log_grows(store: Store) -> None:
    for index in range(1, 101):
        await store.persist_entries([Entry(index, index, b"p" * 3000)])
        if index > 10:
            await store.purge(LogId(index - 10, index - 10))
            assert (store.first_index(), store.last_index()) == (index - 9, index)
    assert indices(store) == list(range(91, 101))


async def test_purge_keeps_the_hard_state(store: Store) -> None:
    await store.persist_entries(run(1, 3), HardState(2, "n1"))
    await store.purge(LogId(9, 2))
    assert store.load_hard_state() == HardState(2, "n1")


async def test_purge_is_durable_in_every_mode(store: Store) -> None:
    await store.persist_entries(run(1, 9))
    await store.purge(LogId(4, 1))
    assert store.durable_index() == 9


async def test_purge_at_the_highest_index_leaves_no_room_and_no_harm(store: Store) -> None:
    await store.purge(LogId(2**64 - 2, 1))
    assert (store.first_index(), store.last_index()) == (2**64 - 1, 2**64 - 2)
    await store.reset()
    assert (store.first_index(), store.last_index()) == (1, 0)


async def test_reset_drops_entries_and_boundary_and_keeps_the_hard_state(store: Store) -> None:
    await store.persist_entries(run(1, 9), HardState(7, "", 3, b"extra"))
    await store.purge(LogId(4, 1))
    await store.reset()
    assert (store.first_index(), store.last_index()) == (1, 0)
    assert store.get_entries(0, 100) == []
    assert store.load_purge_boundary() is None
    assert store.load_hard_state() == HardState(7, "", 3, b"extra")
    assert store.durable_index() == 0


async def test_after_reset_the_log_may_start_anywhere_and_at_any_term(store: Store) -> None:
    await store.persist_entries(run(5, 9, term=8))
    await store.reset()
    await store.persist_entries(run(2, 3, term=1))
    assert indices(store) == [2, 3]


async def test_reset_of_a_blank_log_is_no_error(store: Store) -> None:
    await store.reset()
    await store.reset()
    assert store.last_index() == 0
