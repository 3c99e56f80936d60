"""What is durable when: modes, flush, durable_index, wait_durable, submit."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest
from stores import Store, Stores, every_mode_on_disk, run

from pylogwal import ConflictError, Durability, Entry, HardState, LogId, Stats

NEVER_MS = 3_600_000
"""A sync interval that no test lives to see."""


async def open_lazy(stores: Stores) -> Store:
    """A store that syncs nothing on its own, where its mode can be had so."""
    if stores.mode is Durability.INTERVAL:
        return await stores.open(sync_interval_ms=NEVER_MS)
    return await stores.open()


async def test_is_write_durable_in_batch_mode_and_only_there(stores: Stores) -> None:
    store = await stores.open()
    assert store.is_write_durable() is (stores.mode is Durability.BATCH)


async def test_a_mode_can_be_given_as_a_string_or_a_member(stores: Stores) -> None:
    for mode in ("batch", Durability.MANUAL, "interval"):
        store = await stores.open(durability=mode)
        assert store.is_write_durable() is (mode == "batch")
        await store.aclose()


async def test_durable_index_follows_the_mode(stores: Stores) -> None:
    store = await open_lazy(stores)
    await store.persist_entries(run(1, 3))
    assert store.durable_index() == (3 if store.is_write_durable() else 0)
    await store.flush_async()
    assert store.durable_index() == 3
    await store.persist_entries(run(4, 5))
    assert store.durable_index() == (5 if store.is_write_durable() else 3)


async def test_a_log_that_starts_anywhere_has_nothing_durable_before_its_first_sync(
    stores: Stores,
) -> None:
    store = await open_lazy(stores)
    await store.persist_entries(run(1000, 1001))
    synced = store.is_write_durable()
    assert store.durable_index() == (1001 if synced else 0)
    assert store.stats().durable_lag == (0 if synced else 2)
    await store.wait_durable(999)
    assert (store.durable_index(), store.stats().durable_lag) == (1001, 0)


async def test_a_log_that_starts_again_has_nothing_durable_before_its_next_sync(
    stores: Stores,
) -> None:
    store = await open_lazy(stores)
    for start_again in (
        lambda: store.replace_range(1000, run(1000, 1001, term=2)),
        lambda: store.persist_entries(run(1000, 1001, term=3)),
        lambda: store.truncate(1000),
    ):
        await store.persist_entries(run(1000, 1003))
        store.flush()
        assert store.durable_index() == 1003
        await start_again()
        synced = store.is_write_durable()
        assert store.durable_index() == (store.last_index() if synced else 0)
        assert store.stats().durable_lag == (0 if synced else len(store.get_entries(0, 2**63)))
        await store.reset()


async def test_flush_makes_all_that_is_accepted_durable(stores: Stores) -> None:
    store = await open_lazy(stores)
    await store.persist_entries(run(1, 3))
    store.flush()
    assert store.durable_index() == 3
    store.flush()
    await store.flush_async()
    assert store.durable_index() == 3


async def test_flush_with_nothing_pending_does_not_sync(stores: Stores) -> None:
    store = await open_lazy(stores)
    await store.persist_entries(run(1, 3))
    store.flush()
    syncs = store.stats().syncs
    store.flush()
    await store.flush_async()
    assert store.stats().syncs == syncs


async def test_a_retry_in_batch_mode_returns_when_all_is_durable(stores: Stores) -> None:
    store = await stores.open(durability="batch")
    first = store.submit(run(1, 3))
    await store.persist_entries(run(1, 3))
    assert store.durable_index() == 3
    await first


async def test_an_empty_batch_in_batch_mode_returns_when_all_is_durable(stores: Stores) -> None:
    store = await stores.open(durability="batch")
    first = store.submit(run(1, 3))
    await store.persist_entries([])
    assert store.durable_index() == 3
    await first


async def test_interval_mode_syncs_on_its_own(stores: Stores) -> None:
    store = await stores.open(durability="interval", sync_interval_ms=5)
    await store.persist_entries(run(1, 3))
    deadline = time.monotonic() + 60
    while store.durable_index() < 3:
        assert time.monotonic() < deadline, "no sync was started"
        await asyncio.sleep(0.002)


async def test_truncate_lowers_durable_index_when_accepted(stores: Stores) -> None:
    store = await open_lazy(stores)
    await store.persist_entries(run(1, 9))
    store.flush()
    await store.truncate(5)
    assert store.durable_index() == 4
    await store.persist_entries(run(5, 9, term=2))
    assert store.durable_index() == (9 if store.is_write_durable() else 4)
    store.flush()
    assert store.durable_index() == 9


async def test_an_overlap_that_replaces_lowers_durable_index(stores: Stores) -> None:
    store = await open_lazy(stores)
    await store.persist_entries(run(1, 9))
    store.flush()
    await store.persist_entries([*run(3, 5), *run(6, 9, term=2)])
    assert store.durable_index() == (9 if store.is_write_durable() else 5)


async def test_replace_range_lowers_durable_index(stores: Stores) -> None:
    store = await open_lazy(stores)
    await store.persist_entries(run(1, 9))
    store.flush()
    await store.replace_range(3, run(3, 9))
    assert store.durable_index() == (9 if store.is_write_durable() else 2)


async def test_durable_index_is_never_above_the_last_index(stores: Stores) -> None:
    store = await open_lazy(stores)
    await store.persist_entries(run(5, 9))
    store.flush()
    await store.truncate(2)
    assert store.durable_index() == store.last_index() == 0


async def test_reset_and_purge_are_durable_with_all_before_them(stores: Stores) -> None:
    store = await open_lazy(stores)
    await store.persist_entries(run(1, 9))
    await store.purge(LogId(3, 1))
    assert store.durable_index() == 9
    await store.persist_entries(run(10, 12))
    await store.purge(LogId(50, 1))
    assert store.durable_index() == 50
    await store.persist_entries(run(51, 52))
    await store.reset()
    assert store.durable_index() == 0


async def test_entries_with_a_hard_state_are_durable_in_every_mode(stores: Stores) -> None:
    store = await open_lazy(stores)
    await store.persist_entries(run(1, 3), HardState(1))
    assert store.durable_index() == 3
    await store.persist_entries(run(4, 6))
    await store.submit(run(4, 6), HardState(2))
    assert store.durable_index() == 6


async def test_wait_durable_returns_when_the_entry_is_durable(stores: Stores) -> None:
    store = await stores.open()
    await store.persist_entries(run(1, 9))
    await store.wait_durable(5)
    assert store.durable_index() >= 5
    await store.wait_durable(9)
    assert store.durable_index() == 9


async def test_wait_durable_at_or_below_the_boundary_returns_at_once(stores: Stores) -> None:
    store = await open_lazy(stores)
    await store.purge(LogId(5, 1))
    for index in (0, 3, 5):
        await store.wait_durable(index)


async def test_wait_durable_above_the_last_index_is_a_value_error(store: Store) -> None:
    with pytest.raises(ValueError, match="1"):
        await store.wait_durable(1)
    await store.persist_entries(run(1, 3))
    for index in (4, 2**64 - 1, 2**70):
        with pytest.raises(ValueError, match=str(index)):
            await store.wait_durable(index)


async def test_wait_durable_of_no_index_is_an_error(store: Store) -> None:
    await store.persist_entries(run(1, 3))
    with pytest.raises(ValueError, match="-1"):
        await store.wait_durable(-1)
    with pytest.raises(TypeError):
        await store.wait_durable("1")  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [None, 0, 60, 60.5, 1e9, 1e12, 1e300, 10**400, float("inf")])
async def test_wait_durable_takes_any_number_of_seconds(
    stores: Stores, timeout: float | None
) -> None:
    store = await open_lazy(stores)
    await store.persist_entries(run(1, 3), HardState(1))
    store.wal.wait_durable(3, timeout)
    if timeout != 0:
        await store.persist_entries(run(4, 6))
        store.wal.wait_durable(6, timeout)
        assert store.durable_index() == 6


@pytest.mark.parametrize("timeout", [-1, -0.001, -(10**400), float("-inf"), float("nan")])
async def test_wait_durable_for_no_time_is_a_value_error_that_names_it(
    store: Store, timeout: float
) -> None:
    await store.persist_entries(run(1, 3))
    with pytest.raises(ValueError, match="timeout"):
        store.wal.wait_durable(3, timeout)


@pytest.mark.parametrize("timeout", ["1", b"1", True, [1], 1j], ids=repr)
async def test_wait_durable_for_what_is_no_time_is_a_type_error_that_names_it(
    store: Store, timeout: float
) -> None:
    await store.persist_entries(run(1, 3))
    with pytest.raises(TypeError, match="timeout"):
        store.wal.wait_durable(3, timeout)


@pytest.mark.parametrize("stores", ["wal-interval"], indirect=True)
async def test_wait_durable_of_an_entry_replaced_meanwhile_is_a_conflict(stores: Stores) -> None:
    store = await stores.open(sync_interval_ms=NEVER_MS)
    await store.persist_entries(run(1, 9))
    waiters = [asyncio.ensure_future(store.wait_durable(index)) for index in (4, 5, 9)]
    await asyncio.sleep(0)
    await store.persist_entries(run(5, 9, term=2))
    await store.flush_async()
    outcomes = await asyncio.gather(*waiters, return_exceptions=True)
    # A sync may have begun before the entries were replaced; then they were durable in time.
    assert outcomes[0] is None
    assert all(outcome is None or type(outcome) is ConflictError for outcome in outcomes[1:])


async def test_submit_gives_a_future_of_the_running_loop(store: Store) -> None:
    future = store.submit(run(1, 3))
    assert asyncio.isfuture(future)
    assert future.get_loop() is asyncio.get_running_loop()
    await future
    assert future.result() is None


async def test_submits_are_accepted_in_call_order_without_waiting(store: Store) -> None:
    futures = [store.submit(run(i, i)) for i in range(1, 21)]
    assert store.last_index() == 20
    await asyncio.gather(*futures)
    assert store.get_entries(1, 99) == run(1, 20)


async def test_submits_over_segment_rolls_keep_their_order(store: Store) -> None:
    futures = [store.submit(run(i, i, payload=b"x" * 5000)) for i in range(1, 101)]
    await asyncio.gather(*futures)
    assert [entry.index for entry in store.get_entries(1, 200)] == list(range(1, 101))


async def test_submits_in_batch_mode_are_durable_when_their_future_is_done(stores: Stores) -> None:
    store = await stores.open(durability="batch")
    futures = {i: store.submit(run(i, i)) for i in range(1, 21)}
    for index, future in futures.items():
        await future
        assert store.durable_index() >= index


async def test_stats_count_what_was_accepted(stores: Stores) -> None:
    store = await open_lazy(stores)
    assert store.stats().entries == 0
    await store.persist_entries([Entry(1, 1, b"four"), Entry(2, 1, b"bytes")])
    await store.persist_entries([Entry(1, 1, b"four")])
    stats = store.stats()
    assert (stats.entries, stats.bytes) == (2, 9)
    assert stats.durable_lag == (0 if store.is_write_durable() else 2)
    await store.flush_async()
    stats = store.stats()
    assert stats.durable_lag == 0
    assert stats.syncs >= 1
    assert stats.entries_per_sync == pytest.approx(stats.entries / stats.syncs)


async def test_stats_are_frozen(store: Store) -> None:
    stats = store.stats()
    assert type(stats) is Stats
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.entries = 1  # type: ignore[misc]
    for field in dataclasses.fields(stats):
        assert isinstance(getattr(stats, field.name), (int, float))


@every_mode_on_disk
async def test_all_that_is_served_after_open_is_durable(stores: Stores) -> None:
    store = await open_lazy(stores)
    await store.persist_entries(run(1, 9))
    store = await stores.reopen(store)
    assert store.durable_index() == store.last_index() == 9
    assert store.stats().recovered_entries == 9
    assert store.stats().entries == 0


@every_mode_on_disk
async def test_the_log_is_found_again_after_close(stores: Stores) -> None:
    store = await stores.open()
    for first in range(1, 100, 3):
        await store.persist_entries(run(first, first + 2, payload=b"p" * 2000))
    await store.purge(LogId(20, 1))
    await store.replace_range(90, run(90, 95, term=2))
    store = await stores.reopen(store)
    assert (store.first_index(), store.last_index()) == (21, 95)
    assert store.load_purge_boundary() == LogId(20, 1)
    assert store.get_entries(21, 95) == [*run(21, 89, payload=b"p" * 2000), *run(90, 95, term=2)]
    assert store.term(20) == 1


@every_mode_on_disk
async def test_a_boundary_is_found_again_also_without_entries(stores: Stores) -> None:
    store = await stores.open()
    await store.purge(LogId(7, 2))
    store = await stores.reopen(store)
    assert store.load_purge_boundary() == LogId(7, 2)
    assert (store.first_index(), store.last_index()) == (8, 7)
    await store.reset()
    store = await stores.reopen(store)
    assert store.load_purge_boundary() is None
    assert (store.first_index(), store.last_index()) == (1, 0)


@every_mode_on_disk
async def test_a_log_truncated_to_nothing_is_found_again_blank(stores: Stores) -> None:
    store = await stores.open()
    await store.persist_entries(run(10, 12, term=5))
    await store.truncate(10)
    store = await stores.reopen(store)
    assert (store.first_index(), store.last_index()) == (1, 0)
    await store.persist_entries(run(3, 4, term=1))
    store = await stores.reopen(store)
    assert store.get_entries(0, 99) == run(3, 4, term=1)
