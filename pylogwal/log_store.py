"""`WalLogStore`, the asyncio face of `Wal`.

Nothing here blocks the event loop, and a write costs no thread and no executor: the core's own
thread syncs, and writes to a descriptor that the loop watches. One `_Waker` per running loop
holds the futures that wait there. Opening and closing, which may take long, run in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from asyncio import get_running_loop
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pylogwal.checks import U64_MAX, checked_int
from pylogwal.core import Core, Ticket
from pylogwal.store import LogStore, MetaStore
from pylogwal.types import Entry, HardState, LogId, Stats
from pylogwal.wal import Wal

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["WalLogStore", "open"]


class _Opening:
    """What `open` returns: awaited it is a store, entered it is a context that closes it."""

    def __init__(self, path: str | os.PathLike[str], options: dict[str, Any]) -> None:
        self._path = path
        self._options = options
        self._store: WalLogStore | None = None

    def __await__(self) -> Generator[Any, None, WalLogStore]:
        return self._open().__await__()

    async def _open(self) -> WalLogStore:
        opened: list[Wal] = []
        opening = _in_thread(lambda: opened.append(Wal(self._path, **self._options)), opened)
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda _: _close_late(opened))
            raise
        # Not the future's result, which asyncio would keep alive for a while.
        return WalLogStore(opened.pop())

    async def __aenter__(self) -> WalLogStore:
        self._store = await self._open()
        return self._store

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._store is not None
        await self._store.aclose()


def open(path: str | os.PathLike[str], **options: Any) -> _Opening:
    """Opens the log in the directory `path`; options are those of `Wal`.

    `store = await pylogwal.open(path)`, or `async with pylogwal.open(path) as store:`, which closes
    it. Recovery runs in a thread. Raises what `Wal` raises, when awaited.
    """
    return _Opening(path, options)


def _in_thread(function: Callable[[], None], opened: Sequence[Wal] = ()) -> asyncio.Future[None]:
    """Runs it in a thread of its own, so that no executor's queue or shutdown is in the way. What
    it has `opened` when the loop is gone is closed.
    """
    loop = get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(None)

    def run() -> None:
        failure = None
        try:
            function()
        except BaseException as error:  # carried to whoever awaits
            failure = error
        try:
            loop.call_soon_threadsafe(settle, failure)
        except RuntimeError:  # the loop has closed: nobody waits
            for wal in opened:
                wal.close()

    threading.Thread(target=run, name="pylogwal", daemon=True).start()
    return future


def _close_late(opened: list[Wal]) -> None:
    """The await of an open was cancelled: what it opened is closed again."""
    while opened:
        _in_thread(opened.pop().close)


class _Group:
    """Futures that are done when one ticket is durable, or accepted."""

    __slots__ = ("futures", "number", "queued", "waker")

    def __init__(self) -> None:
        self.futures: list[asyncio.Future[None]] = []
        self.number = 0
        """Of the ticket; that of the last write in the group."""
        self.queued = False
        """The write waits for a roll, and may still be refused: it is alone in its group."""
        self.waker: _Waker | None = None
        """Until they are done, where a future was given away: who holds nothing else still keeps
        the core that will finish it.
        """

    def give_away(self, future: asyncio.Future[None], waker: _Waker) -> None:
        future.group = self  # type: ignore[attr-defined]
        self.waker = waker


class _Waker:
    """The futures of one loop that wait for the core, and the descriptor by which it tells.

    Tickets come in ascending order, so the oldest group is always the next to be done. Only the
    loop's own thread calls these methods, but for `release` and the collector's.

    While one group of writes is being synced, the loop serves the tasks of the other. A sync is
    started when half of the writes that were under way lately have come, and otherwise at the end
    of a turn of the loop in which none is running: so a lone writer does not wait, many share few
    syncs, and processor and disk work at the same time.

    The loop refers to it weakly, so that a store can be dropped without close.
    """

    def __init__(self, core: Core, loop: asyncio.AbstractEventLoop) -> None:
        self._core = core
        self._loop = loop
        self._create_future = _future_maker(loop)
        self._fast_submit = core.fast_submit
        self._coming = _Group()
        """What came since a sync was asked for the last time."""
        self._durable: deque[_Group] = deque()
        """What came before: a sync was asked for each of them."""
        self._accepted: deque[_Group] = deque()
        self._crowd = 1
        """How many writes were waiting lately."""
        self._turn_ends = False
        self._released = False
        self._read, self._write = _wake_descriptors()
        core.subscribe(self._write)
        loop.add_reader(self._read, _wake, weakref.ref(self))

    def when(self, ticket: Ticket, *, durable: bool) -> asyncio.Future[None]:
        """A future that is done when the write is accepted, or durable."""
        future = self._create_future()
        if not durable and not ticket.queued:
            future.set_result(None)
            return future
        group = _Group()
        group.futures.append(future)
        group.number, group.queued = ticket
        group.give_away(future, self)
        if durable:
            self._close_group()
        (self._durable if durable else self._accepted).append(group)
        self._core.arm(ticket.number, durable, self._write)
        return future

    def submit(self, entries: object, *, given_away: bool) -> asyncio.Future[None] | None:
        """Gives the entries to the core; done when they are durable. None: `Core.fast_submit`
        cannot take them. Who is not given the future itself holds the store while it waits.
        """
        group = self._coming
        wanted = 2 * len(group.futures) + 2 >= self._crowd
        number = self._fast_submit(entries, self._write if wanted else -1)
        if number is NotImplemented:
            return None
        if number < 0:
            return self.when(Ticket(-number, True), durable=True)
        future = self._create_future()
        if given_away:
            group.give_away(future, self)
        group.futures.append(future)
        group.number = number
        if wanted:
            self._close_group()
        elif not self._turn_ends:
            self._end_turn_soon()
        return future

    def _close_group(self) -> None:
        if self._coming.futures:
            self._durable.append(self._coming)
            self._coming = _Group()

    def _end_turn_soon(self) -> None:
        self._turn_ends = True
        self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._turn_ends = False
        if not self._durable and self._coming.futures:
            self._close_group()
            self._core.arm(self._durable[0].number, True, self._write)

    def woken(self) -> None:
        """Something moved in the core."""
        _drain(self._read)
        self._crowd = sum(len(group.futures) for group in (*self._durable, self._coming))
        self._complete()
        if self._durable:
            self._core.arm(self._durable[0].number, True, self._write)
        elif self._coming.futures and not self._turn_ends:
            self._end_turn_soon()  # when the tasks that were just woken have had their turn
        if self._accepted:
            self._core.arm(self._accepted[0].number, False, self._write)

    def _complete(self) -> None:
        durable_number = self._core.durable_ticket()
        for waiting in (self._durable, self._accepted):
            durable = waiting is self._durable
            while waiting:
                group = waiting[0]
                if durable and not group.queued and group.number <= durable_number:
                    for future in group.futures:
                        if not future.done():
                            future.set_result(None)
                elif not self._settle(group, durable=durable):
                    break
                group.waker = None
                waiting.popleft()

    def _settle(self, group: _Group, *, durable: bool) -> bool:
        """Asks the core. False while the answer is still to come."""
        return all(self._settle_one(group.number, future, durable) for future in group.futures)

    def _settle_one(self, number: int, future: asyncio.Future[None], durable: bool) -> bool:
        try:
            if not self._core.poll(number, durable):
                return False
        except Exception as error:
            if not future.done():
                future.set_exception(error)
            return True
        if not future.done():
            future.set_result(None)
        return True

    def release(self) -> None:
        """In the loop's thread, after the core has closed; or anywhere, after the loop has."""
        if self._released:
            return
        self._released = True
        self._core.unsubscribe(self._write)
        self._close_group()
        if self._loop.is_closed():  # nobody can hear any more
            self._durable.clear()
            self._accepted.clear()
        self._complete()
        _close_descriptors(self._loop, {self._read, self._write})

    def __del__(self) -> None:
        if not self._released:
            self._core.unsubscribe(self._write)
            descriptors = {self._read, self._write}
            _call_in(self._loop, _close_descriptors, self._loop, descriptors)


def _wake(reference: weakref.ref[_Waker]) -> None:
    waker = reference()
    if waker is not None:
        waker.woken()


def _close_descriptors(loop: asyncio.AbstractEventLoop, descriptors: set[int]) -> None:
    for descriptor in descriptors:
        if not loop.is_closed():
            loop.remove_reader(descriptor)
        os.close(descriptor)


def _future_maker(loop: asyncio.AbstractEventLoop) -> Callable[[], asyncio.Future[None]]:
    """`loop.create_future`, without the Python call where it is asyncio's own."""
    own = getattr(type(loop), "create_future", None) is asyncio.BaseEventLoop.create_future
    return partial(asyncio.Future, loop=loop) if own else loop.create_future


def _wake_descriptors() -> tuple[int, int]:
    """To read from, and to write to: one eventfd, or a pipe where there is none."""
    if hasattr(os, "eventfd"):
        descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return descriptor, descriptor
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write


def _drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, 4096)


class WalLogStore(LogStore, MetaStore):
    """The log of a Raft node, on disk, for asyncio: made by `pylogwal.open`.

    Bound to no loop: its async methods may be awaited in any running loop, in several at once. The
    sync methods need no loop. Cancelling an await does not undo the write; the store stays
    usable. For what each method promises see `LogStore`, `MetaStore` and `Wal`.
    """

    def __init__(self, wal: Wal) -> None:
        self._wal = wal
        self._core = wal.core
        self._batch_mode = wal.is_write_durable()
        self._wakers: dict[asyncio.AbstractEventLoop, _Waker] = {}
        self._wakers_lock = threading.Lock()

    @property
    def wal(self) -> Wal:
        """The synchronous handle beneath."""
        return self._wal

    # -- waiting ---------------------------------------------------------------------------------

    def _waker(self) -> _Waker:
        loop = get_running_loop()
        waker = self._wakers.get(loop)
        return self._new_waker(loop) if waker is None else waker

    def _new_waker(self, loop: asyncio.AbstractEventLoop) -> _Waker:
        self._core.check_open()  # first: in a forked child nobody may be there to let the lock go
        with self._wakers_lock:
            for other in [other for other in self._wakers if other.is_closed()]:
                self._wakers.pop(other).release()
            waker = self._wakers[loop] = _Waker(self._core, loop)
            return waker

    async def _written(self, write: Callable[..., Ticket], *given: Any, durable: bool) -> None:
        """Accepts a write and waits for it. The waker comes first: once the write is accepted,
        nothing may raise that looks like a refusal.
        """
        waker = self._waker()
        await waker.when(write(*given, may_wait=False), durable=durable)

    # -- writing ---------------------------------------------------------------------------------

    def submit(
        self, entries: Iterable[Entry], hard_state: HardState | None = None
    ) -> asyncio.Future[None]:
        """`persist_entries` in two steps, for pipelining: append, replicate and sync at once.

        The batch is checked, copied and accepted at the call, in call order, and visible to
        readers; the future is durability as the mode has it. Where the call meets a segment roll it
        keeps its place and is accepted when the roll is done; what is wrong with it is then the
        future's exception. `hard_state` goes into the same batch and the same fdatasync, and is
        durable when the future is done, in every mode. Needs a running loop; never blocks.

        Raises at the call what `persist_entries` raises.
        """
        waker = self._wakers.get(get_running_loop()) or self._waker()
        if hard_state is None and self._batch_mode:
            future = waker.submit(entries, given_away=True)
            if future is not None:
                return future
        return self._submit_otherwise(waker, entries, hard_state)

    async def persist_entries(
        self, entries: Iterable[Entry], hard_state: HardState | None = None
    ) -> None:
        """See `LogStore`; with `hard_state` the two in one batch, durable on return."""
        # `submit` once more, but for what a future needs that leaves the store.
        waker = self._wakers.get(get_running_loop()) or self._waker()
        if hard_state is None and self._batch_mode:
            future = waker.submit(entries, given_away=False)
        else:
            future = None
        await (self._submit_otherwise(waker, entries, hard_state) if future is None else future)

    def _submit_otherwise(
        self, waker: _Waker, entries: Iterable[Entry], hard_state: HardState | None
    ) -> asyncio.Future[None]:
        if hard_state is None and not self._batch_mode:
            number = self._core.fast_submit(entries, -1)
            if number is not NotImplemented:
                return waker.when(Ticket(abs(number), number < 0), durable=False)
        ticket = self._wal.accept(entries, hard_state, may_wait=False)
        return waker.when(ticket, durable=self._batch_mode or hard_state is not None)

    async def truncate(self, from_index: int) -> None:
        """See `LogStore`."""
        await self._written(self._wal.accept_truncate, from_index, durable=self._batch_mode)

    async def replace_range(self, from_index: int, new_entries: Iterable[Entry]) -> None:
        """See `LogStore`; here as one: after any crash the old log or the new, never a mix."""
        await self._written(
            self._wal.accept_replace, from_index, new_entries, durable=self._batch_mode
        )

    async def purge(self, cutoff: LogId) -> None:
        """See `LogStore`. The files go in the background, right after."""
        await self._written(self._wal.accept_purge, cutoff, durable=True)

    async def reset(self) -> None:
        """See `LogStore`."""
        await self._written(self._wal.accept_reset, durable=True)

    async def flush_async(self) -> None:
        """See `LogStore`."""
        if self._wal.read_only:
            self._wal.flush()
        else:
            await self._written(self._wal.accept_nothing, durable=True)

    def flush(self) -> None:
        """See `LogStore`. Blocks."""
        self._wal.flush()

    async def save_hard_state_async(self, state: HardState, *, sync: bool = True) -> None:
        """See `MetaStore`."""
        await self._written(self._wal.accept_hard_state, state, durable=sync)

    def save_hard_state(self, state: HardState, *, sync: bool = True) -> None:
        """See `MetaStore`. Blocks."""
        self._wal.save_hard_state(state, sync=sync)

    async def wait_durable(self, index: int) -> None:
        """Waits until the entry at `index` is durable; in MANUAL it starts a sync.

        Raises ValueError above `last_index()`; ConflictError where the entry was replaced
        meanwhile.
        """
        index = checked_int("index", index, 0, U64_MAX)
        durable, place = self._core.durable_target(index)
        if not durable:
            # With a ticket of its own, which comes after all that is waited for already.
            await self._written(self._wal.accept_nothing, durable=True)
            self._core.check_durable(index, place)

    # -- reading ---------------------------------------------------------------------------------

    async def entry(self, index: int) -> Entry | None:
        """See `LogStore`."""
        return self._wal.entry(index)

    def get_entries(self, first: int, last: int, max_bytes: int | None = None) -> list[Entry]:
        """See `LogStore`."""
        return self._wal.get_entries(first, last, max_bytes)

    def term(self, index: int) -> int | None:
        """See `Wal`."""
        return self._wal.term(index)

    def first_index(self) -> int:
        """See `Wal`."""
        return self._wal.first_index()

    def last_index(self) -> int:
        """See `LogStore`."""
        return self._wal.last_index()

    def durable_index(self) -> int:
        """See `Wal`."""
        return self._wal.durable_index()

    def is_write_durable(self) -> bool:
        """See `LogStore`."""
        return self._wal.is_write_durable()

    def load_purge_boundary(self) -> LogId | None:
        """See `LogStore`."""
        return self._wal.load_purge_boundary()

    def load_hard_state(self) -> HardState | None:
        """See `MetaStore`."""
        return self._wal.load_hard_state()

    async def refresh(self) -> None:
        """See `Wal`."""
        await _in_thread(self._wal.refresh)

    def stats(self) -> Stats:
        """See `Wal`."""
        return self._wal.stats()

    # -- the end ---------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """See `Wal.close`. Cancelling the await does not stop it."""
        closing = _in_thread(self._wal.close)
        closing.add_done_callback(lambda _: self._release_wakers(closing.get_loop()))
        await asyncio.shield(closing)

    def _release_wakers(self, here: asyncio.AbstractEventLoop) -> None:
        if not self._core.owned_here():
            return
        with self._wakers_lock:
            wakers, self._wakers = self._wakers, {}
        for loop, waker in wakers.items():
            if loop is here or loop.is_closed():
                waker.release()
            else:
                _call_in(loop, waker.release)

    async def __aenter__(self) -> Self:
        self._core.check_open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def _call_in(
    loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any
) -> None:
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:  # it has closed
        function(*arguments)
