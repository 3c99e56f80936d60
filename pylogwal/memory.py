"""A log without a disk, and the rules of every log in plain Python.

`MemoryWal` is written to be read as the specification: what the log on disk does to its entries,
its boundary, its hard state and its durable index is what stands here. Tests hold the two against
each other. A node can be tested on it too; nothing of it outlives the process.

The state is four values:

    entries      contiguous, ascending; terms never descend
    boundary     a LogId, or None. Where there is one, entries start at boundary.index + 1
    hard_state   a HardState, or None
    durable      the highest index whose entry, and every one before it, a sync has covered

A sync covers everything accepted before it, so `durable` is where the last sync found the end of
the log, lowered by every truncate and replace since.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from pylogwal.checks import (
    ENTRY_BYTES_MAX,
    SYNC_INTERVAL_MAX_MS,
    checked_cutoff,
    checked_durability,
    checked_entries,
    checked_from_index,
    checked_hard_state,
    checked_int,
    checked_max_bytes,
    checked_option,
    checked_timeout,
    clamped_index,
)
from pylogwal.errors import ClosedError, ConflictError, InvalidEntryError, PurgedError
from pylogwal.store import LogStore, MetaStore
from pylogwal.types import Durability, Entry, HardState, LogId, Stats

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MemoryLogStore", "MemoryWal"]


class MemoryWal:
    """The synchronous, thread-safe log in memory: `Wal` without a disk.

    Options, keyword-only: `durability`, `sync_interval_ms` (INTERVAL only; 10 by default) and
    `max_entry_bytes` (payload bytes, 16 MiB). In MANUAL and INTERVAL what is accepted becomes
    durable by the same calls, or after the same time, as on disk; nothing ever waits.
    """

    def __init__(
        self,
        *,
        durability: Durability | str = Durability.BATCH,
        sync_interval_ms: int | None = None,
        max_entry_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        self._durability = checked_durability(durability)
        if sync_interval_ms is None:
            sync_interval_ms = 10
        elif self._durability is not Durability.INTERVAL:
            raise ValueError("sync_interval_ms goes with durability='interval' only")
        self._sync_interval_s = (
            checked_option("sync_interval_ms", sync_interval_ms, 1, SYNC_INTERVAL_MAX_MS) / 1000
        )
        self._max_entry_bytes = checked_option(
            "max_entry_bytes", max_entry_bytes, 0, ENTRY_BYTES_MAX
        )
        # Reentrant, so that a rule may be written in terms of another.
        self._lock = threading.RLock()
        self._closed = False
        self._entries: list[Entry] = []
        self._boundary: LogId | None = None
        self._hard_state: HardState | None = None
        self._durable = 0
        self._pending_since: float | None = None
        self._written_entries = 0
        self._written_bytes = 0
        self._batches = 0
        self._syncs = 0

    @property
    def durability(self) -> Durability:
        """The mode it was made with."""
        return self._durability

    @property
    def read_only(self) -> bool:
        """False: what is in memory has no other writer."""
        return False

    # -- writing ---------------------------------------------------------------------------------

    def persist_entries(
        self, entries: Iterable[Entry], hard_state: HardState | None = None, *, wait: bool = True
    ) -> None:
        """`LogStore.persist_entries`, and with `hard_state` the two in one batch, durable on return
        in every mode. `wait` changes nothing here: nothing waits.
        """
        del wait
        batch = checked_entries(entries, self._max_entry_bytes)
        state = None if hard_state is None else checked_hard_state(hard_state)
        with self._lock:
            self._check_open()
            new = self._what_is_new(batch)
            if new:
                self._replace_from(new[0].index, new)
            if state is not None:
                self._hard_state = state
            if new or state is not None:
                self._accepted_batch()
            self._settle(always=state is not None)

    def _what_is_new(self, batch: list[Entry]) -> list[Entry]:
        """The append rule: the part of a batch that is to be written, which replaces the log from
        its first index on. Empty where the log holds all of it.
        """
        if not batch or self._is_blank():
            return batch
        if batch[0].index > self.last_index() + 1:
            raise InvalidEntryError(
                f"entry {batch[0].index} leaves a gap after index {self.last_index()}; send the "
                "entries from there on",
                index=batch[0].index,
            )
        if self._boundary is not None:
            boundary = self._boundary
            batch = [entry for entry in batch if entry.index > boundary.index]
        elif batch[0].index < self.first_index():
            raise InvalidEntryError(
                f"entry {batch[0].index} is below the first entry, {self.first_index()}; a log "
                "without a boundary does not grow downwards",
                index=batch[0].index,
            )
        for position, entry in enumerate(batch):
            held = self._held(entry.index)
            if held is None or held.term != entry.term:
                self._check_term_after_the_one_before(entry)
                return batch[position:]
            if held != entry:
                raise ConflictError(
                    f"the log holds another entry {entry.index} of term {entry.term}; two leaders "
                    "had one term, or this entry is of another log",
                    index=entry.index,
                )
        return []

    def _check_term_after_the_one_before(self, entry: Entry) -> None:
        before = self.term(entry.index - 1)
        if before is not None and entry.term < before:
            raise InvalidEntryError(
                f"entry {entry.index} has term {entry.term}, below term {before} of index "
                f"{entry.index - 1}; terms never decrease",
                index=entry.index,
            )

    def replace_range(self, from_index: int, new_entries: Iterable[Entry]) -> None:
        """`LogStore.replace_range`, as one."""
        from_index = checked_from_index(from_index)
        batch = checked_entries(new_entries, self._max_entry_bytes)
        if batch and batch[0].index != from_index:
            raise InvalidEntryError(
                f"the first new entry is {batch[0].index}, not from_index={from_index}",
                index=batch[0].index,
            )
        with self._lock:
            self._check_open()
            self._check_above_boundary(from_index)
            if batch:
                self._check_may_replace_from(batch[0])
            if batch or from_index <= self.last_index():
                self._replace_from(from_index, batch)
                self._accepted_batch()
            self._settle()

    def _check_may_replace_from(self, first: Entry) -> None:
        if not self._is_blank() and first.index > self.last_index() + 1:
            raise InvalidEntryError(
                f"entry {first.index} leaves a gap after index {self.last_index()}",
                index=first.index,
            )
        self._check_term_after_the_one_before(first)

    def truncate(self, from_index: int) -> None:
        """`LogStore.truncate`."""
        self.replace_range(from_index, [])

    def _check_above_boundary(self, from_index: int) -> None:
        if self._boundary is not None and from_index <= self._boundary.index:
            raise PurgedError(
                f"index {from_index} is at or below the purge boundary {self._boundary.index}; "
                "what lies there is gone, and cannot be changed",
                index=from_index,
            )

    def purge(self, cutoff: LogId) -> None:
        """`LogStore.purge`."""
        cutoff = checked_cutoff(cutoff)
        with self._lock:
            self._check_open()
            if self._purge_has_work(cutoff):
                if self._is_in_this_log(cutoff):
                    del self._entries[: cutoff.index + 1 - self.first_index()]
                else:
                    self._entries.clear()
                self._boundary = cutoff
                self._accepted_batch()
            self._settle(always=True)

    def _purge_has_work(self, cutoff: LogId) -> bool:
        if cutoff.index == 0:
            return False
        if self._boundary is not None:
            return cutoff.index > self._boundary.index
        return cutoff.index >= self.first_index() - 1

    def _is_in_this_log(self, cutoff: LogId) -> bool:
        """Whether the log's own history passes through `cutoff`, so that what follows may stay."""
        held = self._held(cutoff.index)
        if held is not None:
            return held.term == cutoff.term
        # The index just before the first entry of a log that did not start at 1: its term is not
        # known, but it cannot be above the first entry's.
        following = self._held(cutoff.index + 1)
        return following is not None and cutoff.term <= following.term

    def reset(self) -> None:
        """`LogStore.reset`."""
        with self._lock:
            self._check_open()
            self._entries.clear()
            self._boundary = None
            self._accepted_batch()
            self._settle(always=True)

    def save_hard_state(self, state: HardState, *, sync: bool = True) -> None:
        """`MetaStore.save_hard_state`."""
        state = checked_hard_state(state)
        with self._lock:
            self._check_open()
            self._hard_state = state
            self._accepted_batch()
            if sync:
                self._settle(always=True)

    def _replace_from(self, from_index: int, batch: list[Entry]) -> None:
        """The one change to entries beside purge and reset: the log up to `from_index`, then
        `batch`. What follows is a new history, so no sync has covered it yet.
        """
        del self._entries[max(from_index - self.first_index(), 0) :]
        self._durable = 0 if self._is_blank() else min(self._durable, from_index - 1)
        self._entries += batch
        self._written_entries += len(batch)
        self._written_bytes += sum(len(entry.payload) for entry in batch)

    # -- durability ------------------------------------------------------------------------------

    def _accepted_batch(self) -> None:
        self._batches += 1
        if self._pending_since is None:
            self._pending_since = time.monotonic()

    def _settle(self, *, always: bool = False) -> None:
        """Makes durable what a write promises on return: in BATCH all, else only if `always`."""
        if always or self._durability is Durability.BATCH:
            self._sync()

    def _sync(self) -> None:
        self._durable = self.last_index()
        if self._pending_since is not None:
            self._pending_since = None
            self._syncs += 1

    def _let_interval_pass(self) -> None:
        """INTERVAL's own sync, made up for when somebody looks."""
        if self._durability is not Durability.INTERVAL or self._pending_since is None:
            return
        if time.monotonic() - self._pending_since >= self._sync_interval_s:
            self._sync()

    def flush(self) -> None:
        """`LogStore.flush`."""
        with self._lock:
            self._check_open()
            self._sync()

    def wait_durable(self, index: int, timeout: float | None = None) -> None:
        """Returns when the entry at `index` is durable. Starts a sync in MANUAL.

        Raises ValueError above `last_index()`. `timeout` (seconds) is never reached here.
        """
        checked_timeout(timeout)
        index = checked_int("index", index, 0, None)
        with self._lock:
            if index > self.last_index():
                raise ValueError(
                    f"index {index} is above last_index()={self._last()}: there is nothing to wait "
                    "for"
                )
            if index > self.durable_index():
                self._sync()

    def durable_index(self) -> int:
        """See `Wal.durable_index`."""
        with self._lock:
            self._check_open()
            self._let_interval_pass()
            return min(self._durable, self._last())

    def is_write_durable(self) -> bool:
        """`LogStore.is_write_durable`."""
        self._check_open()
        return self._durability is Durability.BATCH

    # -- reading ---------------------------------------------------------------------------------

    def entry(self, index: int) -> Entry | None:
        """`LogStore.entry`."""
        index = clamped_index(index)
        with self._lock:
            self._check_open()
            return self._held(index)

    def get_entries(self, first: int, last: int, max_bytes: int | None = None) -> list[Entry]:
        """`LogStore.get_entries`."""
        first, last = clamped_index(first), clamped_index(last)
        max_bytes = checked_max_bytes(max_bytes)
        with self._lock:
            base = self.first_index()
            found = self._entries[max(first - base, 0) : max(last + 1 - base, 0)]
        if max_bytes is None:
            return found
        size = 0
        for count, entry in enumerate(found):
            size += len(entry.payload)
            if size > max_bytes and count > 0:
                return found[:count]
        return found

    def term(self, index: int) -> int | None:
        """The term at `index`: of an entry, or of the boundary; 0 at index 0; None if unknown."""
        clamped = clamped_index(index)
        with self._lock:
            self._check_open()
            if clamped != index:
                return None
            if index == 0:
                return 0
            if self._boundary is not None and index == self._boundary.index:
                return self._boundary.term
            held = self._held(index)
            return None if held is None else held.term

    def first_index(self) -> int:
        """Index of the first entry, or `last_index() + 1` where none is held. The number of entries
        is always `last_index() - first_index() + 1`.
        """
        with self._lock:
            self._check_open()
            return self._entries[0].index if self._entries else self._last() + 1

    def last_index(self) -> int:
        """`LogStore.last_index`."""
        with self._lock:
            self._check_open()
            return self._last()

    def load_purge_boundary(self) -> LogId | None:
        """`LogStore.load_purge_boundary`."""
        with self._lock:
            self._check_open()
            return self._boundary

    def load_hard_state(self) -> HardState | None:
        """`MetaStore.load_hard_state`."""
        with self._lock:
            self._check_open()
            return self._hard_state

    def refresh(self) -> None:
        """Does nothing: see `Wal.refresh` of a handle that writes."""
        with self._lock:
            self._check_open()

    def stats(self) -> Stats:
        """The counters so far. Syncs take no time here, and there are no segments."""
        with self._lock:
            lag = self.last_index() - max(self.durable_index(), self.first_index() - 1)
            return Stats(
                entries=self._written_entries,
                bytes=self._written_bytes,
                batches=self._batches,
                syncs=self._syncs,
                entries_per_sync=self._written_entries / self._syncs if self._syncs else 0.0,
                sync_p50_us=0.0,
                sync_p99_us=0.0,
                sync_max_us=0.0,
                durable_lag=lag,
                segments=0,
                spares=0,
                rotations_waited=0,
                queue_bytes=0,
                removal_failures=0,
                recovery_ms=0.0,
                recovered_entries=0,
                cut_bytes=0,
                cut_batches=0,
            )

    def _last(self) -> int:
        if self._entries:
            return self._entries[-1].index
        return 0 if self._boundary is None else self._boundary.index

    def _is_blank(self) -> bool:
        return not self._entries and self._boundary is None

    def _held(self, index: int) -> Entry | None:
        """The entry at `index`, if the log holds it."""
        position = index - self._entries[0].index if self._entries else -1
        return self._entries[position] if 0 <= position < len(self._entries) else None

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends the use of this log; every call afterwards raises ClosedError. May be repeated."""
        with self._lock:
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this log in memory is closed; make a new one")

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class MemoryLogStore(LogStore, MetaStore):
    """`WalLogStore` without a disk, for tests: the same calls, results and errors.

    Takes the options of `MemoryWal`, which holds the rules. Bound to no loop, and thread-safe. An
    async context manager.
    """

    def __init__(
        self,
        *,
        durability: Durability | str = Durability.BATCH,
        sync_interval_ms: int | None = None,
        max_entry_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        self._wal = MemoryWal(
            durability=durability,
            sync_interval_ms=sync_interval_ms,
            max_entry_bytes=max_entry_bytes,
        )

    @property
    def wal(self) -> MemoryWal:
        """The synchronous log beneath."""
        return self._wal

    def submit(
        self, entries: Iterable[Entry], hard_state: HardState | None = None
    ) -> asyncio.Future[None]:
        """`persist_entries` in two steps: accepted at the call, which raises what is wrong with the
        batch; the future is durability as the mode has it, and here already done.

        Needs a running loop.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wal.persist_entries(entries, hard_state)
        future.set_result(None)
        return future

    async def persist_entries(
        self, entries: Iterable[Entry], hard_state: HardState | None = None
    ) -> None:
        """See `LogStore`; with `hard_state` the two in one batch, durable on return."""
        await self.submit(entries, hard_state)

    async def entry(self, index: int) -> Entry | None:
        return self._wal.entry(index)

    def get_entries(self, first: int, last: int, max_bytes: int | None = None) -> list[Entry]:
        return self._wal.get_entries(first, last, max_bytes)

    async def purge(self, cutoff: LogId) -> None:
        self._wal.purge(cutoff)

    async def truncate(self, from_index: int) -> None:
        self._wal.truncate(from_index)

    async def replace_range(self, from_index: int, new_entries: Iterable[Entry]) -> None:
        """See `LogStore`; here as one."""
        self._wal.replace_range(from_index, new_entries)

    async def reset(self) -> None:
        self._wal.reset()

    def is_write_durable(self) -> bool:
        return self._wal.is_write_durable()

    def flush(self) -> None:
        self._wal.flush()

    async def flush_async(self) -> None:
        self._wal.flush()

    def first_index(self) -> int:
        """See `MemoryWal`."""
        return self._wal.first_index()

    def last_index(self) -> int:
        return self._wal.last_index()

    def durable_index(self) -> int:
        """See `MemoryWal`."""
        return self._wal.durable_index()

    def term(self, index: int) -> int | None:
        """See `MemoryWal`."""
        return self._wal.term(index)

    async def wait_durable(self, index: int) -> None:
        """See `MemoryWal`."""
        self._wal.wait_durable(index)

    def load_purge_boundary(self) -> LogId | None:
        return self._wal.load_purge_boundary()

    def save_hard_state(self, state: HardState, *, sync: bool = True) -> None:
        self._wal.save_hard_state(state, sync=sync)

    async def save_hard_state_async(self, state: HardState, *, sync: bool = True) -> None:
        self._wal.save_hard_state(state, sync=sync)

    def load_hard_state(self) -> HardState | None:
        return self._wal.load_hard_state()

    async def refresh(self) -> None:
        """See `Wal.refresh`."""
        self._wal.refresh()

    def stats(self) -> Stats:
        """See `MemoryWal`."""
        return self._wal.stats()

    async def aclose(self) -> None:
        """Ends the use of this store; every call afterwards raises ClosedError. May be repeated."""
        self._wal.close()

    async def __aenter__(self) -> Self:
        self._wal.__enter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wal.close()
