"""The process whose power is cut: writes through the async API as fast as it can, and says on a
pipe what it is about to do, and what it was told. A report is a line:

    will 12      the write 12 is about to be called, in the order of the calls
    durable 11   the log has said that the write 11 is durable, and so everything before it
    refused 10   the log has not taken the write 10, and goes on without it
    failed ...   it was an error of the system; nothing more is written
    wrong ...    something that must never happen
"""

from __future__ import annotations

import asyncio
import errno
import os
import traceback
from collections import deque
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from cut_script import SEGMENT_BYTES, Script, Write
from stores import state_of

import pylogwal
from pylogwal import SyncFailedError, WalError, WalLogStore


class Load(NamedTuple):
    """How it writes."""

    mode: str
    sync_interval_ms: int | None
    spare_segments: int
    tasks: int
    in_flight: int
    """Futures that a task leaves behind before it waits for one."""
    session: int
    """Writes after which it closes the log, and opens it again."""

    @classmethod
    def chosen(cls, random: Random) -> Load:
        mode = random.choice(("batch", "batch", "batch", "interval", "manual"))
        return cls(
            mode=mode,
            sync_interval_ms=random.randint(1, 5) if mode == "interval" else None,
            spare_segments=random.choice((0, 1, 1, 2)),
            tasks=random.choice((1, 2, 4, 16)),
            in_flight=random.choice((0, 1, 8)),
            session=random.choice((1, 20, 200, 10**9, 10**9)),
        )


class Writer:
    """Writes what a script says to the log in a directory."""

    def __init__(self, directory: Path, script: Script, load: Load) -> None:
        self._directory = directory
        self._script = script
        self._load = load
        self._pipe = -1
        self._failed = False

    def run(self, pipe: int) -> None:
        """Until the log fails, or the process is killed. Reports to this descriptor."""
        self._pipe = pipe
        try:
            asyncio.run(self._sessions())
        except WalError as error:
            self._report("failed" if _is_of_the_cut(error) else "wrong", repr(error))
        except BaseException:
            self._report("wrong", repr(traceback.format_exc()))

    def _report(self, what: str, said: object) -> None:
        os.write(self._pipe, f"{what} {said}\n".encode())

    async def _sessions(self) -> None:
        while True:
            store = await self._open()
            try:
                if state_of(store) != self._script.state:
                    self._report("wrong", f"the open shows another log: {state_of(store)}")
                # What a writable open shows is durable, and so is what a close has returned for.
                self._report("durable", self._script.number)
                await self._session(store, self._script.number + self._load.session)
            finally:
                await store.aclose()
            self._report("durable", self._script.number)

    async def _open(self) -> WalLogStore:
        return await pylogwal.open(
            self._directory,
            durability=self._load.mode,
            sync_interval_ms=self._load.sync_interval_ms,
            spare_segments=self._load.spare_segments,
            segment_bytes=SEGMENT_BYTES,
        )

    async def _session(self, store: WalLogStore, end: int) -> None:
        watching = asyncio.create_task(self._watch(store))
        writing = [self._write(store, end) for _ in range(self._load.tasks)]
        ended = await asyncio.gather(*writing, return_exceptions=True)
        watching.cancel()
        ended += await asyncio.gather(watching, return_exceptions=True)
        errors = [error for error in ended if isinstance(error, Exception)]
        # Where the cut has refused one write, the next may not fit any more.
        for error in sorted(errors, key=_is_of_the_cut, reverse=True):
            raise error

    async def _write(self, store: WalLogStore, end: int) -> None:
        """One of the tasks. From the report to the call nothing else runs in the loop."""
        in_flight: deque[asyncio.Future[None]] = deque()
        try:
            await self._write_until(store, end, in_flight)
        except WalError:
            self._failed = True
            raise
        finally:
            await asyncio.gather(*in_flight, return_exceptions=True)  # they are told, too

    async def _write_until(
        self, store: WalLogStore, end: int, in_flight: deque[asyncio.Future[None]]
    ) -> None:
        while self._script.number < end and not self._failed:
            write = self._script.next()
            self._report("will", write.number)
            if write.method == "persist_entries" and self._load.in_flight:
                future = store.submit(*write.arguments)
                future.add_done_callback(partial(self._submitted, write))
                in_flight.append(future)
                if len(in_flight) > self._load.in_flight:
                    await in_flight.popleft()
            else:
                await self._call(store, write)
            await asyncio.sleep(0)
        while in_flight:
            await in_flight.popleft()

    def _submitted(self, write: Write, future: asyncio.Future[None]) -> None:
        error = future.exception()
        if error is None:
            self._returned(write)
        else:
            self._raised(write, error)

    async def _call(self, store: WalLogStore, write: Write) -> None:
        try:
            await _call(store, write)
        except WalError as error:
            self._raised(write, error)
            raise
        self._returned(write)

    def _raised(self, write: Write, error: BaseException) -> None:
        if not isinstance(error, SyncFailedError):  # that one has been taken, or the log is dead
            self._report("refused", write.number)

    def _returned(self, write: Write) -> None:
        in_batch = write.durable == "in batch" and self._load.mode == "batch"
        if in_batch or write.durable == "always":
            self._report("durable", write.covers)

    async def _watch(self, store: WalLogStore) -> None:
        """What `durable_index` and `wait_durable` say: the term of an entry is the write that
        brought it. Where that entry is replaced while this looks, it is so by a later write, and
        what is said of that holds for the earlier too.
        """
        while True:
            await asyncio.sleep(0.001)
            index = store.durable_index()
            number = store.term(index)
            if number and store.durable_index() >= index:
                self._report("durable", number)
            index = store.last_index()
            number = store.term(index)
            if number and number % 4 == 0:  # in MANUAL it syncs
                with suppress(ValueError):  # cut off or replaced meanwhile
                    await store.wait_durable(index)
                    self._report("durable", number)


def _is_of_the_cut(error: Exception) -> bool:
    """Whether it is what a log should say when the disk is gone."""
    return isinstance(error, WalError) and (
        isinstance(error, SyncFailedError) or error.errno == errno.EIO
    )


async def _call(store: WalLogStore, write: Write) -> None:
    if write.method == "save_hard_state":
        sync = write.durable == "always"
        await store.save_hard_state_async(*write.arguments, sync=sync)
    elif write.method == "flush":
        await store.flush_async()
    else:
        method: Any = getattr(store, write.method)
        await method(*write.arguments)
