"""`WalLogStore`, the asyncio face of `Wal`.

Nothing here blocks the event loop, and a write costs no thread and no executor: the core's own
thread syncs, and the `Waker` of the running loop hears of it. Opening and closing, which may take
long, run in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from pylogwal.checks import U64_MAX, checked_int
from pylogwal.core import Ticket
from pylogwal.errors import QueueFullError
from pylogwal.store import LogStore, MetaStore
from pylogwal.types import Durability, Entry, HardState, LogId, Stats
from pylogwal.waker import Waker, call_in
from pylogwal.wal import MIB, Wal

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["WalLogStore", "open"]

_Accepted = TypeVar("_Accepted")


class _Opening(Coroutine[Any, Any, "WalLogStore"]):
    """What `open` returns: a coroutine that gives a store; entered, a context that closes it."""

    def __init__(self, opening: Coroutine[Any, Any, WalLogStore]) -> None:
        self._opening = opening
        self._store: WalLogStore | None = None

    def send(self, value: Any) -> Any:
        return self._opening.send(value)

    def throw(self, *exception: Any) -> Any:
        return self._opening.throw(*exception)

    def close(self) -> None:
        self._opening.close()

    def __await__(self) -> Generator[Any, None, WalLogStore]:
        return self._opening.__await__()

    async def __aenter__(self) -> WalLogStore:
        self._store = await self._opening
        return self._store

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._store is not None
        await self._store.aclose()


def open(
    path: str | os.PathLike[str],
    *,
    durability: Durability | str = Durability.BATCH,
    sync_interval_ms: int | None = None,
    segment_bytes: int = 64 * MIB,
    max_entry_bytes: int = 16 * MIB,
    spare_segments: int = 1,
    max_queue_bytes: int = 64 * MIB,
    create: bool = True,
    read_only: bool = False,
) -> _Opening:
    """Opens the log in the directory `path`; the options are those of `Wal`.

    `store = await pylogwal.open(path)`, or `async with pylogwal.open(path) as store:`, which closes
    it. Recovery runs in a thread. Raises what `Wal` raises, when awaited.
    """
    make_wal = partial(
        Wal,
        path,
        durability=durability,
        sync_interval_ms=sync_interval_ms,
        segment_bytes=segment_bytes,
        max_entry_bytes=max_entry_bytes,
        spare_segments=spare_segments,
        max_queue_bytes=max_queue_bytes,
        create=create,
        read_only=read_only,
    )
    return _Opening(_opened(make_wal))


async def _opened(make_wal: Callable[[], Wal]) -> WalLogStore:
    opened: list[Wal] = []
    opening = _in_thread(lambda: opened.append(make_wal()), opened)
    try:
        await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(lambda _: _close_late(opening, opened))
        raise
    # Not the future's result, which asyncio would keep alive for a while.
    return WalLogStore(opened.pop())


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


def _close_late(opening: asyncio.Future[None], opened: list[Wal]) -> None:
    """The await of an open was cancelled: what it opened is closed again."""
    opening.exception()  # nobody else asks for it
    while opened:
        _in_thread(opened.pop().close)


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
        self._wakers: dict[asyncio.AbstractEventLoop, Waker] = {}
        self._wakers_lock = threading.Lock()

    @property
    def wal(self) -> Wal:
        """The synchronous handle beneath."""
        return self._wal

    def __repr__(self) -> str:
        return f"<pylogwal.WalLogStore on {self._wal!r}>"

    # -- waiting ---------------------------------------------------------------------------------

    def _waker(self) -> Waker:
        loop = get_running_loop()
        waker = self._wakers.get(loop)
        return self._new_waker(loop) if waker is None else waker

    def _new_waker(self, loop: asyncio.AbstractEventLoop) -> Waker:
        self._core.check_open()  # first: in a forked child nobody may be there to let the lock go
        with self._wakers_lock:
            for other in [other for other in self._wakers if other.is_closed()]:
                self._wakers.pop(other).release()
            waker = self._wakers[loop] = Waker(self._core, loop)
            return waker

    async def _written(self, write: Callable[..., Ticket], *given: Any, durable: bool) -> None:
        """Accepts a write and waits for it. The waker comes first: once the write is accepted,
        nothing may raise that looks like a refusal.
        """
        waker = self._waker()
        ticket = await self._in_turn(waker, partial(write, *given, may_wait=False))
        await waker.when(ticket, None, durable=durable)

    def _kept(self, entries: Iterable[Entry]) -> Iterable[Entry]:
        """The same, to be read more than once: where there is no room they are given again."""
        return entries if isinstance(entries, (list, tuple)) else self._wal.acceptable(entries)

    async def _in_turn(self, waker: Waker, write: Callable[[], _Accepted]) -> _Accepted:
        """Waits for room in the queue, behind those of this loop that wait already."""
        if not waker.waiting_for_room:
            with contextlib.suppress(QueueFullError):
                return write()
        waker.waiting_for_room += 1
        try:
            async with waker.room:
                while True:
                    with contextlib.suppress(QueueFullError):
                        return write()
                    drained = self._wal.accept_nothing(may_wait=False)
                    await waker.when(drained, None, durable=False)
        finally:
            waker.waiting_for_room -= 1

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

        Raises at the call what `persist_entries` raises; and QueueFullError where writes that wait
        for a rotation hold `max_queue_bytes` already, or `persist_entries` waits for room.
        """
        waker = self._wakers.get(get_running_loop()) or self._waker()
        if waker.waiting_for_room:
            raise QueueFullError(
                "other writes wait for room in the queue: nothing was accepted; send the entries "
                f"again later [{self._wal.path}]",
                path=self._wal.path,
            )
        future = waker.future_to_give_away()
        if (
            hard_state is not None
            or not self._batch_mode
            or waker.submit(entries, future) is NotImplemented
        ):
            self._submit_otherwise(waker, entries, hard_state, future)
        return future

    async def persist_entries(
        self, entries: Iterable[Entry], hard_state: HardState | None = None
    ) -> None:
        """See `LogStore`; with `hard_state` the two in one batch, durable on return. Where the
        queue of writes that wait for a rotation is full, waits for room in it.
        """
        waker = self._wakers.get(get_running_loop()) or self._waker()
        write = partial(self._submit_unless_full, waker, self._kept(entries), hard_state)
        await (await self._in_turn(waker, write))

    def _submit_unless_full(
        self, waker: Waker, entries: Iterable[Entry], hard_state: HardState | None
    ) -> Awaitable[None]:
        """`submit` once more, without a future."""
        if hard_state is None and self._batch_mode:
            durable: Awaitable[None] = waker.submit(entries, None)
            if durable is not NotImplemented:
                return durable
        return self._submit_otherwise(waker, entries, hard_state, None)

    def _submit_otherwise(
        self,
        waker: Waker,
        entries: Iterable[Entry],
        hard_state: HardState | None,
        future: asyncio.Future[None] | None,
    ) -> Awaitable[None]:
        if hard_state is None and not self._batch_mode:
            number = self._core.fast_submit(entries)
            if number is not NotImplemented:
                return waker.when(Ticket(abs(number), number < 0), future, durable=False)
        ticket = self._wal.accept(entries, hard_state, may_wait=False)
        return waker.when(ticket, future, durable=self._batch_mode or hard_state is not None)

    async def truncate(self, from_index: int) -> None:
        await self._written(self._wal.accept_truncate, from_index, durable=self._batch_mode)

    async def replace_range(self, from_index: int, new_entries: Iterable[Entry]) -> None:
        """See `LogStore`; here as one: after any crash the old log or the new, never a mix."""
        entries = self._kept(new_entries)
        await self._written(self._wal.accept_replace, from_index, entries, durable=self._batch_mode)

    async def purge(self, cutoff: LogId) -> None:
        """See `LogStore`. The files go in the background, right after."""
        await self._written(self._wal.accept_purge, cutoff, durable=True)

    async def reset(self) -> None:
        await self._written(self._wal.accept_reset, durable=True)

    async def flush_async(self) -> None:
        if self._wal.read_only:
            self._wal.flush()
        else:
            await self._written(self._wal.accept_nothing, durable=True)

    def flush(self) -> None:
        """See `LogStore`. Blocks."""
        self._wal.flush()

    async def save_hard_state_async(self, state: HardState, *, sync: bool = True) -> None:
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
        ticket, place = self._core.durable_target(index)
        if ticket:
            await self._waker().when(Ticket(ticket, False), None, durable=True)
            self._core.check_durable(index, place)

    # -- reading ---------------------------------------------------------------------------------

    async def entry(self, index: int) -> Entry | None:
        """See `LogStore`. An entry with a payload of more than 1 MiB is read in a thread of its
        own, and the event loop goes on. A smaller one is read at once, since that takes no longer
        than to start a thread (0.1 ms for 1 MiB in memory, measured); the disk may be waited for.
        """
        entry: Entry | None = self._core.small_entry(index)
        if entry is NotImplemented:
            found: list[Entry | None] = []
            await _in_thread(lambda: found.append(self._core.entry(index)))
            entry = found.pop()
        return entry

    def get_entries(self, first: int, last: int, max_bytes: int | None = None) -> list[Entry]:
        """See `LogStore`. Blocks the event loop: where the kernel holds the log in memory, for
        about 0.3 us per entry and 1 ms per MiB of payload (measured), so a `max_bytes` of 1 MiB
        keeps it near 1 ms; else for as long as the disk takes. Without `max_bytes` there is no
        limit: read a long range in parts, or in a thread.
        """
        return self._wal.get_entries(first, last, max_bytes)

    def term(self, index: int) -> int | None:
        """See `Wal`."""
        term = self._core.fast_term(index)
        return self._core.term(index) if term is NotImplemented else term

    def first_index(self) -> int:
        """See `Wal`."""
        return self._core.first_index()

    def last_index(self) -> int:
        return self._core.last_index()

    def durable_index(self) -> int:
        """See `Wal`."""
        return self._core.durable_index()

    def is_write_durable(self) -> bool:
        return self._wal.is_write_durable()

    def load_purge_boundary(self) -> LogId | None:
        return self._wal.load_purge_boundary()

    def load_hard_state(self) -> HardState | None:
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
                call_in(loop, waker.release)

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
