"""Awaits that are cancelled, and loops that come and go under one store."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path

import pytest
from processes import descriptors, needs_proc
from stores import SEGMENT_BYTES, run

import pylogwal
from pylogwal import ConflictError, Entry, LockedError, LogId, Wal, WalLogStore

LOOPS = 100


async def test_a_cancelled_write_is_written_and_its_retry_is_durable(tmp_path: Path) -> None:
    async with pylogwal.open(tmp_path / "log", segment_bytes=SEGMENT_BYTES) as store:
        for index in range(1, 400):
            entry = Entry(index, 1, b"%d" % index * 200)
            task = asyncio.ensure_future(store.persist_entries([entry]))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await store.persist_entries([entry])
            assert store.durable_index() >= index
            assert await store.entry(index) == entry


async def test_any_await_may_be_cancelled_at_any_time(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    random_ = random.Random(seed)
    async with pylogwal.open(tmp_path / "log", segment_bytes=SEGMENT_BYTES) as store:
        for _ in range(150):
            last = store.last_index()
            tasks = [
                asyncio.ensure_future(call)
                for call in (
                    store.persist_entries([Entry(last + 1, last, b"x" * 900)]),
                    store.persist_entries([Entry(last + 1, last, b"x" * 900)]),
                    store.flush_async(),
                    store.truncate(last + 9),
                    store.wait_durable(last),
                    store.purge(LogId(max(0, last - 20), max(0, last - 21))),
                )
            ]
            for _ in range(random_.randrange(4)):
                await asyncio.sleep(0)
            random_.choice(tasks).cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
        # One that was cancelled before it began was never a write.
        assert store.last_index() >= 100
        assert store.durable_index() == store.last_index()


async def test_a_cancelled_open_lets_go_of_the_log(tmp_path: Path) -> None:
    with Wal(tmp_path / "log") as wal:
        wal.persist_entries(run(1, 3))
    for turns in range(4):
        task = asyncio.ensure_future(opened(tmp_path / "log"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        store = await open_when_free(tmp_path / "log")
        assert store.last_index() == 3
        await store.aclose()


async def opened(path: Path) -> WalLogStore:
    return await pylogwal.open(path)


async def open_when_free(path: Path) -> WalLogStore:
    while True:
        try:
            return await pylogwal.open(path)
        except LockedError:
            await asyncio.sleep(0.001)


async def test_a_cancelled_close_closes(tmp_path: Path) -> None:
    store = await pylogwal.open(tmp_path / "log", durability="manual")
    await store.persist_entries(run(1, 1000))
    task = asyncio.ensure_future(store.aclose())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = await open_when_free(tmp_path / "log")
    assert again.get_entries(1, 1000) == run(1, 1000)
    await again.aclose()
    await store.aclose()


def test_two_loops_in_two_threads_each_hear_what_they_wait_for(tmp_path: Path) -> None:
    """Every write is waited for in both; each loop gets its own answers, refusals too."""
    store = asyncio.run(opened(tmp_path / "log"))
    turn = threading.Barrier(2)
    failures: list[BaseException] = []

    async def work(number: int) -> None:
        for count in range(100):
            index = count + 1
            if count % 2 == number:
                future = store.submit([Entry(index, 1, b"x")])
            turn.wait(60)
            if count % 2 == number:
                await future
            else:
                await store.wait_durable(index)
            assert store.durable_index() >= index
            with pytest.raises(ConflictError):
                await store.persist_entries([Entry(index, 1, b"y")])
            turn.wait(60)

    def thread(number: int) -> None:
        try:
            asyncio.run(work(number))
        except BaseException as error:
            failures.append(error)
            turn.abort()

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    asyncio.run(store.aclose())
    assert failures == []


@pytest.mark.parametrize("durable_before", [False, True])
def test_another_loop_goes_on_where_one_was_closed_with_writes_under_way(
    tmp_path: Path, durable_before: bool
) -> None:
    first = asyncio.new_event_loop()
    store = first.run_until_complete(opened(tmp_path / "log"))

    async def write(index: int) -> None:
        await store.persist_entries(run(index, index))

    # Left in the middle: the task waits for a future of the loop that is closed under it.
    left = first.create_task(write(1))
    first.call_soon(first.stop)  # after one turn: the task has written, the loop has not listened
    first.run_forever()
    assert not left.done()
    first.close()
    if durable_before:
        store.flush()

    asyncio.run(write(2))
    asyncio.run(store.flush_async())
    assert store.durable_index() == 2
    asyncio.run(store.aclose())
    left._log_destroy_pending = False  # type: ignore[attr-defined]


@needs_proc
def test_loops_that_come_and_go_leave_no_descriptor(tmp_path: Path) -> None:
    store = asyncio.run(opened(tmp_path / "log"))
    asyncio.run(store.persist_entries(run(1, 1)))
    before = len(descriptors())
    for index in range(2, 150):
        asyncio.run(store.persist_entries(run(index, index)))
    assert len(descriptors()) <= before + 1
    asyncio.run(store.aclose())


async def test_the_sync_methods_need_no_loop_while_the_loop_is_busy(tmp_path: Path) -> None:
    """Blocking calls on the loop's own thread still end: nothing waits for the loop."""
    async with pylogwal.open(tmp_path / "log", segment_bytes=SEGMENT_BYTES) as store:
        futures = [store.submit([Entry(index, 1, b"x" * 900)]) for index in range(1, 300)]
        store.flush()
        store.wal.wait_durable(299)
        assert store.durable_index() == 299
        store.wal.persist_entries(run(300, 300))
        await asyncio.gather(*futures)


def test_any_number_of_loops_wait_for_one_log_and_leave_no_descriptor_open(tmp_path: Path) -> None:
    before = len(descriptors())
    loops = [asyncio.new_event_loop() for _ in range(LOOPS)]

    async def opened() -> WalLogStore:
        return await pylogwal.open(tmp_path / "log")

    store = loops[0].run_until_complete(opened())
    for index, loop in enumerate(loops, 1):
        loop.run_until_complete(store.persist_entries([Entry(index, 1)]))
    assert store.durable_index() == LOOPS
    loops[0].run_until_complete(store.aclose())
    for loop in loops:
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    assert len(descriptors()) <= before
