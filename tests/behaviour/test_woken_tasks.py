"""Tasks that await a write are stepped from the call that hears of its sync
(csrc/python/waits.c): what one of them does must not keep the others from hearing.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from stores import SEGMENT_BYTES, run

import pylogwal
from pylogwal import ClosedError, ConflictError, Entry, LogId, WalLogStore, core

TASKS = 20


async def opened(directory: Path) -> WalLogStore:
    return await pylogwal.open(directory / "log")


async def test_each_task_goes_on_in_its_own_context(tmp_path: Path) -> None:
    name: contextvars.ContextVar[int] = contextvars.ContextVar("name")

    async def write(index: int) -> tuple[int, object]:
        name.set(index)
        await store.persist_entries(run(index, index))
        return name.get(), asyncio.current_task()

    async with pylogwal.open(tmp_path / "log") as store:
        tasks = [asyncio.ensure_future(write(index)) for index in range(1, TASKS + 1)]
        results = await asyncio.gather(*tasks)
    assert results == list(zip(range(1, TASKS + 1), tasks, strict=True))


@pytest.mark.parametrize("enders", [{3}, {1, 2, 3, TASKS}], ids=["one", "some"])
@pytest.mark.parametrize("ends_with", [KeyboardInterrupt, SystemExit])
def test_a_task_that_ends_the_loop_leaves_the_others_to_the_next_run(
    tmp_path: Path, ends_with: type[BaseException], enders: set[int]
) -> None:
    loop = asyncio.new_event_loop()

    async def write(index: int) -> None:
        await store.persist_entries(run(index, index))
        if index in enders:
            raise ends_with

    async def all_others() -> None:
        await asyncio.wait_for(asyncio.wait(tasks), 60)

    store = loop.run_until_complete(opened(tmp_path))
    tasks = [loop.create_task(write(index)) for index in range(1, TASKS + 1)]
    for _ in enders:
        with pytest.raises(ends_with):
            loop.run_until_complete(all_others())
    loop.run_until_complete(all_others())
    for index, task in enumerate(tasks, 1):
        assert isinstance(task.exception(), ends_with if index in enders else type(None))
    loop.run_until_complete(store.aclose())
    loop.close()


def test_tasks_that_end_the_loop_as_the_store_closes_keep_nothing_from_the_others(
    tmp_path: Path,
) -> None:
    loop = asyncio.new_event_loop()

    async def write(index: int) -> None:
        await store.persist_entries(run(index, index))
        if index in (1, 5):
            raise KeyboardInterrupt

    async def begun() -> list[asyncio.Task[None]]:
        tasks = [asyncio.ensure_future(write(index)) for index in range(1, TASKS + 1)]
        loop.remove_reader(store._waker()._read)  # so that nobody hears before the close
        await asyncio.sleep(0)
        return tasks

    store = loop.run_until_complete(opened(tmp_path))
    tasks = loop.run_until_complete(begun())
    store.wal.close()
    with pytest.raises(KeyboardInterrupt):
        store._wakers[loop].release()
    assert all(task.done() for task in tasks)
    for task in tasks:
        task.exception()
    loop.close()


class Interrupted(asyncio.SelectorEventLoop):
    """A signal comes while this has a method of the log's called soon; its handler raises."""

    def __init__(self) -> None:
        super().__init__()
        self.strikes_at: str | None = None
        self.stores: list[WalLogStore] = []
        """What the handler drops."""

    def call_soon(self, callback: Any, *arguments: Any, **named: Any) -> Any:
        handle = super().call_soon(callback, *arguments, **named)
        if getattr(callback, "__name__", "") == self.strikes_at:
            self.strikes_at = None
            self.stores.clear()
            gc.collect()
            raise KeyboardInterrupt
        return handle


@pytest.mark.parametrize("method", ["end_turn", "listen"])
def test_an_interrupt_is_raised_and_keeps_no_write_from_being_told(
    tmp_path: Path, method: str
) -> None:
    loop = Interrupted()

    def write() -> list[asyncio.Task[None]]:
        first = store.last_index() + 1
        indexes = range(first, first + TASKS)
        return [loop.create_task(store.persist_entries(run(index, index))) for index in indexes]

    async def all_told(tasks: list[asyncio.Task[None]]) -> None:
        await asyncio.wait_for(asyncio.gather(*tasks), 60)

    store = loop.run_until_complete(opened(tmp_path))
    loop.run_until_complete(all_told(write()))
    loop.strikes_at = method
    interrupted: list[asyncio.Task[None]] = []

    async def all_told_until_struck() -> None:
        for _ in range(100):  # most often the first time
            if loop.strikes_at is not None:
                interrupted[:] = write()
                await all_told(interrupted)

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(all_told_until_struck())
    loop.run_until_complete(all_told(interrupted))
    loop.run_until_complete(all_told(write()))
    loop.run_until_complete(store.aclose())
    loop.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_handler_of_a_signal_may_drop_the_store(tmp_path: Path) -> None:
    loop = Interrupted()

    async def write_and_drop() -> None:
        stores = loop.stores = [await opened(tmp_path)]
        for first in range(1, 50 * 42, 42):  # most often the first time
            crowd = [stores[0].submit(run(index, index)) for index in range(first, first + 40)]
            await asyncio.gather(*crowd)
            done = stores[0].submit(run(first + 40, first + 40))
            await asyncio.sleep(0)
            last = run(first + 41, first + 41)
            tasks = [asyncio.ensure_future(stores[0].persist_entries(last)) for _ in range(2)]
            await asyncio.sleep(0)
            loop.strikes_at = "end_turn"
            for task in tasks:
                task.cancel()
            del crowd, done, task, tasks
            await asyncio.sleep(0.01)
            loop.strikes_at = None

    with contextlib.suppress(KeyboardInterrupt):
        loop.run_until_complete(write_and_drop())
    assert loop.stores == []
    loop.close()


def run_from_within(loop: Any, coroutine: Coroutine[Any, Any, None]) -> None:
    """As packages do that let a synchronous function await something."""
    outer = asyncio.current_task()
    inner = loop.create_task(coroutine)
    asyncio.tasks._leave_task(loop, outer)  # type: ignore[attr-defined]
    patience = loop.call_later(60, inner.cancel)
    while not inner.done():
        loop._run_once()
    patience.cancel()
    for _ in range(10 * TASKS):  # the turns further out count on all that was in the queue
        loop.call_soon(int)
    asyncio.tasks._enter_task(loop, outer)  # type: ignore[attr-defined]
    inner.result()


@pytest.mark.parametrize("tasks", [1, TASKS])
async def test_a_task_that_was_told_may_run_the_loop_from_within_and_write(
    tmp_path: Path, tasks: int
) -> None:
    async def write(index: int) -> None:
        await store.persist_entries(run(index, index))
        following = store.last_index() + 1
        run_from_within(loop, store.persist_entries(run(following, following)))

    loop = asyncio.get_running_loop()
    async with pylogwal.open(tmp_path / "log") as store:
        await asyncio.gather(*(write(index) for index in range(1, tasks + 1)))
        assert store.durable_index() == store.last_index() > tasks


async def test_a_wait_that_is_cancelled_ends_at_once_and_with_its_message(tmp_path: Path) -> None:
    messages = []

    async def write(index: int) -> None:
        try:
            await store.persist_entries(run(index, index))
        except asyncio.CancelledError as error:
            messages.append(error.args)
            raise

    async with pylogwal.open(tmp_path / "log", segment_bytes=SEGMENT_BYTES) as store:
        tasks = [asyncio.ensure_future(write(index)) for index in range(1, TASKS + 1)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel(("enough", 1))
        for task in tasks[::2]:
            with pytest.raises(asyncio.CancelledError):
                await task
        assert messages == len(tasks[::2]) * [(("enough", 1),)]
        await asyncio.gather(*tasks[1::2])
        await store.flush_async()
        assert store.durable_index() == TASKS


async def test_a_task_that_closes_the_store_leaves_no_other_waiting(tmp_path: Path) -> None:
    store = await pylogwal.open(tmp_path / "log")

    async def write(index: int) -> None:
        await store.persist_entries(run(index, index))
        if index == 1:
            await store.aclose()

    tasks = [write(index) for index in range(1, TASKS + 1)]
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert {type(result) for result in results} <= {type(None), ClosedError}


async def in_python_tasks(path: Path) -> None:
    loop = asyncio.get_running_loop()
    python_task: Callable[..., asyncio.Task[Any]] = asyncio.tasks._PyTask  # type: ignore[attr-defined]
    loop.set_task_factory(lambda loop, coro, **named: python_task(coro, loop=loop, **named))
    await everything_is_heard_of(path)


async def everything_is_heard_of(path: Path, mode: str = "batch") -> None:
    async with pylogwal.open(path, durability=mode, segment_bytes=SEGMENT_BYTES) as store:
        tasks = [
            asyncio.ensure_future(store.persist_entries([Entry(index, 1, b"x" * 900)]))
            for index in range(1, 301)
        ]
        await asyncio.sleep(0)
        waited = tasks[250].cancel()
        assert waited or mode == "manual"  # where it may have met no roll
        results = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled = [asyncio.CancelledError] if waited else []
        assert [type(one) for one in results if one is not None] == cancelled
        with pytest.raises(ConflictError):
            await store.persist_entries([Entry(1, 1, b"y")])
        await store.submit([Entry(301, 1, b"x")])
        await store.truncate(301)
        await store.purge(LogId(100, 1))
        await store.flush_async()
        assert (store.first_index(), store.durable_index()) == (101, 300)


def test_tasks_written_in_python_hear_of_everything(tmp_path: Path) -> None:
    asyncio.run(in_python_tasks(tmp_path))


@pytest.mark.parametrize("mode", ["batch", "manual"])
def test_without_the_functions_for_cpython_everything_is_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(core.Core, "_bind", lambda self: None)
    asyncio.run(everything_is_heard_of(tmp_path, mode))
