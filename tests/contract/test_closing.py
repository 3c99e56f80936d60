"""Closing: idempotent, flushes, always releases; and every call afterwards says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from stores import Store, Stores, every_mode_on_disk, run

from pylogwal import (
    ClosedError,
    Entry,
    HardState,
    InvalidEntryError,
    LogId,
    LogStore,
    MetaStore,
)

CALLS: dict[str, Callable[[Store], Any]] = {
    "persist_entries": lambda store: store.persist_entries(run(4, 4)),
    "persist nothing": lambda store: store.persist_entries([]),
    "submit": lambda store: store.submit(run(4, 4)),
    "entry": lambda store: store.entry(1),
    "get_entries": lambda store: store.get_entries(1, 3),
    "purge": lambda store: store.purge(LogId(1, 1)),
    "purge nothing": lambda store: store.purge(LogId(0, 0)),
    "truncate": lambda store: store.truncate(2),
    "truncate nothing": lambda store: store.truncate(9),
    "replace_range": lambda store: store.replace_range(2, run(2, 2)),
    "reset": lambda store: store.reset(),
    "is_write_durable": lambda store: store.is_write_durable(),
    "flush": lambda store: store.flush(),
    "flush_async": lambda store: store.flush_async(),
    "first_index": lambda store: store.first_index(),
    "last_index": lambda store: store.last_index(),
    "durable_index": lambda store: store.durable_index(),
    "term": lambda store: store.term(1),
    "term of index 0": lambda store: store.term(0),
    "wait_durable": lambda store: store.wait_durable(1),
    "load_purge_boundary": lambda store: store.load_purge_boundary(),
    "save_hard_state": lambda store: store.save_hard_state(HardState(1)),
    "save_hard_state_async": lambda store: store.save_hard_state_async(HardState(1)),
    "load_hard_state": lambda store: store.load_hard_state(),
    "stats": lambda store: store.stats(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_every_call_after_close_is_a_closed_error(
    store: Store, call: Callable[[Store], Any]
) -> None:
    await store.persist_entries(run(1, 3))
    await store.aclose()
    with pytest.raises(ClosedError):
        await resolved(call(store))


async def resolved(result: Any) -> Any:
    return await result if isinstance(result, Awaitable) else result


async def test_close_may_be_repeated(store: Store) -> None:
    await store.persist_entries(run(1, 3))
    await store.aclose()
    await store.aclose()
    store.wal.close()


async def test_a_store_is_an_async_context_manager_that_closes(stores: Stores) -> None:
    async with await stores.open() as store:
        await store.persist_entries(run(1, 3))
    with pytest.raises(ClosedError):
        store.last_index()
    with pytest.raises(ClosedError):
        async with store:
            pass


async def test_a_store_closes_also_when_its_block_fails(stores: Stores) -> None:
    store = await stores.open()
    with pytest.raises(ZeroDivisionError):
        async with store:
            raise ZeroDivisionError
    with pytest.raises(ClosedError):
        store.last_index()


async def test_the_synchronous_handle_has_the_same_state_and_the_same_calls(store: Store) -> None:
    wal = store.wal
    await store.persist_entries(run(1, 3))
    wal.persist_entries(run(4, 5), HardState(2))
    wal.persist_entries(run(6, 6), wait=False)
    assert wal.last_index() == store.last_index() == 6
    assert wal.entry(2) == await store.entry(2)
    assert wal.get_entries(1, 9) == store.get_entries(1, 9) == run(1, 6)
    wal.truncate(6)
    wal.replace_range(5, run(5, 5, term=2))
    wal.purge(LogId(2, 1))
    wal.save_hard_state(HardState(3, "n1"))
    wal.flush()
    wal.wait_durable(5)
    wal.wait_durable(5, timeout=10)
    assert (wal.first_index(), wal.last_index(), wal.durable_index()) == (3, 5, 5)
    assert wal.term(5) == store.term(5) == 2
    assert wal.load_purge_boundary() == store.load_purge_boundary() == LogId(2, 1)
    assert wal.load_hard_state() == store.load_hard_state() == HardState(3, "n1")
    assert wal.is_write_durable() is store.is_write_durable()
    assert wal.stats().entries == store.stats().entries == 7
    wal.reset()
    assert store.last_index() == 0


async def test_closing_the_synchronous_handle_closes_the_store(store: Store) -> None:
    with store.wal as wal:
        wal.persist_entries(run(1, 3))
    with pytest.raises(ClosedError):
        store.last_index()
    with pytest.raises(ClosedError):
        wal.last_index()


def test_a_store_is_bound_to_no_loop(store: Store) -> None:
    for index in range(1, 6):
        asyncio.run(store.persist_entries(run(index, index)))
    store.flush()
    assert store.get_entries(1, 5) == run(1, 5)


def test_one_of_several_loops_in_several_threads_gets_each_index(store: Store) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            asyncio.run(append_where_the_log_ends(store, number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [entry.index for entry in store.get_entries(1, 999)] == list(range(1, 121))


async def append_where_the_log_ends(store: Store, number: int) -> None:
    """Appends 30 entries against the other threads; what is acknowledged must be there."""
    for _ in range(30):
        while True:
            index = store.last_index() + 1
            mine = Entry(index, 1, b"by %d" % number)
            try:
                await store.persist_entries([mine])
            except InvalidEntryError:
                continue
            break
        assert await store.entry(index) == mine
        await store.flush_async()
        assert store.durable_index() >= index


async def test_every_store_keeps_both_interfaces(stores: Stores) -> None:
    store = await stores.open()
    if stores.kind != "wal-sync":
        assert isinstance(store, LogStore)
        assert isinstance(store, MetaStore)


@every_mode_on_disk
async def test_close_makes_durable_what_was_accepted(stores: Stores) -> None:
    store = await stores.open()
    await store.persist_entries(run(1, 3))
    store = await stores.reopen(store)
    assert store.get_entries(1, 3) == run(1, 3)
