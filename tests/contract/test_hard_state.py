"""MetaStore: the hard state is kept as given and compared with nothing."""

from __future__ import annotations

import pytest
from stores import Store, Stores, every_mode_on_disk, run

from pylogwal import HardState, LogId

STATES = [
    HardState(0),
    HardState(1, None),
    HardState(1, ""),
    HardState(2**64 - 1, "n1", 2**64 - 1, b"x"),
    HardState(3, "v" * 255, 9, b"e" * 2048),
    HardState(4, "é" * 127, 0, b"\0"),
    HardState(4, "nul \0 inside", 0, b""),
    HardState(5, "\U0001f600", 1, bytes(range(256))),
]


async def test_no_hard_state_is_none(store: Store) -> None:
    assert store.load_hard_state() is None
    await store.persist_entries(run(1, 2))
    assert store.load_hard_state() is None


@pytest.mark.parametrize("state", STATES, ids=range(len(STATES)))
async def test_a_hard_state_comes_back_as_given(store: Store, state: HardState) -> None:
    store.save_hard_state(state)
    loaded = store.load_hard_state()
    assert loaded == state
    assert type(loaded) is HardState


async def test_the_empty_vote_is_not_no_vote(store: Store) -> None:
    store.save_hard_state(HardState(1, ""))
    assert store.load_hard_state() == HardState(1, "")
    store.save_hard_state(HardState(1, None))
    loaded = store.load_hard_state()
    assert loaded is not None
    assert loaded.voted_for is None


async def test_the_latest_counts_also_where_the_term_goes_back(store: Store) -> None:
    for term in (5, 3, 2, 42, 41):
        await store.save_hard_state_async(HardState(term))
        assert store.load_hard_state() == HardState(term)


async def test_a_commit_index_beyond_the_log_is_kept(store: Store) -> None:
    store.save_hard_state(HardState(1, None, 10**6))
    assert store.load_hard_state() == HardState(1, None, 10**6)


async def test_extra_may_be_any_bytes_like_and_bytes_come_back(store: Store) -> None:
    extra = bytearray(b"before")
    store.save_hard_state(HardState(1, extra=extra))  # type: ignore[arg-type]
    extra[:] = b"after!"
    loaded = store.load_hard_state()
    assert loaded == HardState(1, extra=b"before")
    assert type(loaded.extra) is bytes


async def test_save_with_sync_is_durable_in_every_mode(store: Store) -> None:
    await store.persist_entries(run(1, 3))
    store.save_hard_state(HardState(1))
    assert store.durable_index() == 3
    await store.persist_entries(run(4, 5))
    await store.save_hard_state_async(HardState(2))
    assert store.durable_index() == 5


async def test_save_without_sync_is_accepted_at_once(store: Store) -> None:
    store.save_hard_state(HardState(1), sync=False)
    assert store.load_hard_state() == HardState(1)
    await store.save_hard_state_async(HardState(2), sync=False)
    assert store.load_hard_state() == HardState(2)
    await store.flush_async()
    assert store.load_hard_state() == HardState(2)


async def test_the_hard_state_outlives_all_that_happens_to_the_log(store: Store) -> None:
    state = HardState(9, "n2", 4, b"extra")
    store.save_hard_state(state)
    await store.persist_entries(run(1, 9))
    await store.truncate(5)
    await store.replace_range(3, run(3, 4, term=2))
    await store.purge(LogId(2, 1))
    await store.purge(LogId(50, 7))
    await store.reset()
    assert store.load_hard_state() == state


async def test_many_hard_states_over_many_segments_leave_the_last(store: Store) -> None:
    for term in range(200):
        store.save_hard_state(HardState(term, "n1", term, bytes(2048)), sync=term % 20 == 0)
    assert store.load_hard_state() == HardState(199, "n1", 199, bytes(2048))


@every_mode_on_disk
@pytest.mark.parametrize("state", STATES, ids=range(len(STATES)))
async def test_a_hard_state_is_found_again(stores: Stores, state: HardState) -> None:
    store = await stores.open()
    store.save_hard_state(HardState(77, "before"))
    store.save_hard_state(state)
    store = await stores.reopen(store)
    assert store.load_hard_state() == state
    await store.persist_entries(run(1, 60, payload=b"roll" * 500))
    store = await stores.reopen(store)
    assert store.load_hard_state() == state


@every_mode_on_disk
async def test_one_saved_without_sync_is_found_again_after_close(stores: Stores) -> None:
    store = await stores.open()
    store.save_hard_state(HardState(1), sync=False)
    store = await stores.reopen(store)
    assert store.load_hard_state() == HardState(1)
