"""How one event loop hears from the core's own thread what it wrote: `Waker`."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from pylogwal.core import Core, Ticket

__all__ = ["Waker", "call_in"]


class Waker:
    """What one loop waits for, and the descriptor by which the core tells. Only the loop's own
    thread calls its methods, but for `release` and the collector's.

    The loop does not refer to it, nor to the core, so that a store can be dropped without close.
    """

    def __init__(self, core: Core, loop: asyncio.AbstractEventLoop) -> None:
        self._core = core
        self._loop = loop
        self._create_future = _future_maker(loop)
        self.room = asyncio.Lock()
        """Held by the task whose write waits for room in the queue; the next ones wait for it."""
        self.waiting_for_room = 0
        """How many do, so that no later write passes them."""
        self._released = True
        self._read, self._write = _wake_descriptors()
        self._durable = self._new_waits(durable=True)
        self._accepted = self._new_waits(durable=False)
        self.submit: Callable[[object, asyncio.Future[None] | None], Any] = self._durable.submit
        """Gives the entries to the core. What to await until they are durable, which is the future
        if there is one; or NotImplemented, where `Core.fast_submit` cannot take them.
        """
        try:
            core.subscribe(self._write)
        except BaseException:
            _close_descriptors(loop, {self._read, self._write})
            raise
        self._released = False
        loop.add_reader(self._read, self._durable.woken, self._read, self._accepted)

    def _new_waits(self, *, durable: bool) -> Any:
        waits = self._core.waits(self._loop, self._write, durable)
        if waits is not NotImplemented:
            return waits
        return _Waits(self._core, self._create_future, self._write, durable)

    def future_to_give_away(self) -> asyncio.Future[None]:
        """Who holds nothing else until it is done still keeps the core that will finish it."""
        future = self._create_future()
        future.waker = self  # type: ignore[attr-defined]
        return future

    def when(
        self, ticket: Ticket, future: asyncio.Future[None] | None, *, durable: bool
    ) -> Awaitable[None]:
        """What to await until the write is accepted, or durable: the future, if there is one."""
        if durable or ticket.queued:
            waits = self._durable if durable else self._accepted
            awaitable: Awaitable[None] = waits.add(*ticket, future)
            return awaitable
        if future is None:
            future = self._create_future()
        _finish(future, None)
        return future

    def release(self) -> None:
        """In the loop's thread, after the core has closed; or anywhere, after the loop has."""
        if self._released:
            return
        self._released = True
        self._core.unsubscribe(self._write)
        ended: BaseException | None = None  # a task may end the loop with KeyboardInterrupt
        for waits in (self._durable, self._accepted):
            ended = (None if self._loop.is_closed() else _tell_all(waits)) or ended
            waits.forget()
        _close_descriptors(self._loop, {self._read, self._write})
        if ended is not None:
            raise ended

    def __del__(self) -> None:
        if not self._released:
            self._released = True  # a finalizer that runs later may close the store
            self._durable.forget()
            self._accepted.forget()
            self._core.unsubscribe(self._write)
            descriptors = {self._read, self._write}
            call_in(self._loop, _close_descriptors, self._loop, descriptors)


def _tell_all(waits: Any) -> BaseException | None:
    """Whatever a task lets out meanwhile, the others hear. Returns the last of it."""
    last = None
    while (ended := _settle(waits)) is not None:
        last = ended
    return last


def _settle(waits: Any) -> BaseException | None:
    try:
        waits.settle()
    except BaseException as ended:
        return ended
    return None


def _close_descriptors(loop: asyncio.AbstractEventLoop, descriptors: set[int]) -> None:
    for descriptor in descriptors:
        if not loop.is_closed():
            loop.remove_reader(descriptor)
        os.close(descriptor)


def call_in(
    loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any
) -> None:
    """In the loop's thread; at once, where the loop has closed."""
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        function(*arguments)


def _future_maker(loop: asyncio.AbstractEventLoop) -> Callable[[], asyncio.Future[None]]:
    """`loop.create_future`, without the Python call where it is asyncio's own."""
    own = getattr(type(loop), "create_future", None) is asyncio.BaseEventLoop.create_future
    return partial(asyncio.Future, loop=loop) if own else loop.create_future


def _wake_descriptors() -> tuple[int, int]:
    """To read from, and to write to: one eventfd, or a pipe where there is none."""
    if hasattr(os, "eventfd"):
        (descriptor,) = _above_standard(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        return descriptor, descriptor
    read, write = _above_standard(*os.pipe())
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write


def _above_standard(*descriptors: int) -> list[int]:
    """The same, but none is 0, 1 or 2, where a program that was started without these prints to."""
    found = list(descriptors)
    try:
        for place, low in enumerate(descriptors):
            if low < 3:
                found[place] = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 3)
                os.close(low)
    except OSError:
        for descriptor in found:
            os.close(descriptor)
        raise
    return found


def _finish(future: asyncio.Future[None], error: Exception | None) -> None:
    if not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
    future.waker = None  # type: ignore[attr-defined]


class _Waits:
    """csrc/python/waits.c, where an interpreter has none: futures, and a sync for each write."""

    def __init__(
        self,
        core: Core,
        create_future: Callable[[], asyncio.Future[None]],
        descriptor: int,
        durable: bool,
    ) -> None:
        self._core = core
        self._create_future = create_future
        self._descriptor = descriptor
        self._durable = durable
        self._waiting: deque[tuple[Ticket, asyncio.Future[None]]] = deque()

    def submit(self, entries: object, future: asyncio.Future[None] | None) -> Any:
        del entries, future
        return NotImplemented

    def add(
        self, number: int, queued: bool, future: asyncio.Future[None] | None
    ) -> asyncio.Future[None]:
        if future is None:
            future = self._create_future()
        place = len(self._waiting)  # who waits for an entry that is there does not wait for a file
        while place > 0 and self._waiting[place - 1][0].number > number:
            place -= 1
        self._waiting.insert(place, (Ticket(number, queued), future))
        self._core.arm(number, self._durable, self._descriptor)
        return future

    def woken(self, descriptor: int, others: _Waits) -> None:
        try:
            with contextlib.suppress(BlockingIOError):
                os.read(descriptor, 4096)
            self.settle()
            others.settle()
        except BaseException:  # whatever the handler of a signal raises, the loop calls again
            os.write(self._descriptor, (1).to_bytes(8, sys.byteorder))
            raise

    def settle(self) -> None:
        while self._waiting:
            ticket, future = self._waiting[0]
            error = None
            try:
                if not self._core.poll(ticket, self._durable):
                    self._core.arm(ticket.number, self._durable, self._descriptor)
                    return
            except Exception as refusal:
                error = refusal
            self._waiting.popleft()
            _finish(future, error)

    def forget(self) -> None:
        self._waiting.clear()
        del self._core  # the loop may hold this for a while
