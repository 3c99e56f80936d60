"""`Wal`, the synchronous log on disk.

What a write promises on return follows from the durability mode; everything else about the log is
the core's. The words *accepted* and *durable* are those of `pylogwal.store`.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pylogwal import core
from pylogwal.checks import (
    ENTRY_BYTES_MAX,
    SYNC_INTERVAL_MAX_MS,
    U64_MAX,
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
from pylogwal.core import Core, Ticket
from pylogwal.errors import InvalidEntryError, SyncFailedError, WalError
from pylogwal.types import Durability, Entry, HardState, LogId, Stats, VerifyProgress
from pylogwal.verification import Verification

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Wal"]

logger = logging.getLogger("pylogwal")
logger.addHandler(logging.NullHandler())  # what is told is the application's to show

MIB = 1024 * 1024


class Wal:
    """A Raft log in a directory: synchronous, thread-safe, a context manager.

    Opening recovers, which may read the last segment and blocks. `path` is made where it is missing
    (its parent has to exist). Files get mode 0600 and a new directory 0700, less the umask.
    Options, keyword-only:

    durability: "batch" (default), "interval" or "manual"; see `Durability`.
    sync_interval_ms: INTERVAL only, 1..3,600,000 ms, default 10.
    segment_bytes: size of a segment file, 64 KiB..32 GiB, default 64 MiB. Logs of any size open.
    max_entry_bytes: largest payload, 0..1 GiB, default 16 MiB.
    spare_segments: files made ahead, 0..16, default 1; with 0 writes queue at each rotation.
    max_queue_bytes: what writes may hold that wait for a rotation, 1 byte or more, default 64 MiB;
        a write that finds the queue full waits, or is a QueueFullError (`WalLogStore.submit`).
    create: make a log where there is none (default True).
    read_only: open without a lock, beside a live writer, as of now; `refresh` looks again. Damage
        is reported where two looks agree on it. Raises LogIOError with errno EAGAIN where the
        writer purges faster than the log can be read, after 20 looks or 1 s: try again.

    Raises ValueError that names a bad option; TypeError or ValueError for a path that is none;
    LogNotFoundError where there is no log, and none is to be created, or no parent directory;
    LockedError where another writer has the log; CorruptionError or UnsupportedFormatError, with
    nothing on disk changed; DiskFullError; LogIOError for other system errors (no permission).
    docs/operations.md says for each what to do.

    A call that blocks handles signals ten times a second: what a handler raises (KeyboardInterrupt)
    ends the wait, and the write stays accepted. Only a sync that this thread itself runs, since the
    last one was short and a moment ago, has to end first.

    Dropped without `close` it is a ResourceWarning: accepted entries stay, nothing more is synced.
    In a forked child every call raises ClosedError.
    """

    def __init__(
        self,
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
    ) -> None:
        self._durability = checked_durability(durability)
        self._read_only = _checked_bool("read_only", read_only)
        self._max_entry_bytes = checked_option(
            "max_entry_bytes", max_entry_bytes, 0, ENTRY_BYTES_MAX
        )
        self.core = Core(
            _checked_path(path),
            segment_bytes=checked_option(
                "segment_bytes", segment_bytes, 64 * 1024, 32 * 1024 * MIB
            ),
            max_entry_bytes=self._max_entry_bytes,
            spare_segments=checked_option("spare_segments", spare_segments, 0, 16),
            max_queue_bytes=checked_option("max_queue_bytes", max_queue_bytes, 1, U64_MAX),
            sync_interval_ms=_checked_interval(self._durability, sync_interval_ms),
            create=_checked_bool("create", create),
            read_only=self._read_only,
        )
        """The C core's handle."""
        self._open = True
        self._batch_mode = self._durability is Durability.BATCH
        self._told_of_removals = False
        self._log_recovery()

    @property
    def path(self) -> str:
        """The log's directory, absolute."""
        return self.core.path

    @property
    def durability(self) -> Durability:
        """The mode it was opened with."""
        return self._durability

    @property
    def read_only(self) -> bool:
        """Whether it was opened for reading only."""
        return self._read_only

    def _log_recovery(self) -> None:
        stats = self.stats()
        logger.info(
            "opened %s: entries %d..%d, segments: %d, %.1f ms",
            self.path,
            self.first_index(),
            self.last_index(),
            stats.segments,
            stats.recovery_ms,
        )
        if stats.cut_bytes and not self._read_only:
            logger.warning(
                "%s: cut a torn tail of %d bytes (whole batches in it: %d) after entry %d; nothing "
                'in the log says that any of it was durable (docs/operations.md, "Log lines")',
                self.path,
                stats.cut_bytes,
                stats.cut_batches,
                self.last_index(),
            )

    # -- writing ---------------------------------------------------------------------------------

    def persist_entries(
        self, entries: Iterable[Entry], hard_state: HardState | None = None, *, wait: bool = True
    ) -> None:
        """`LogStore.persist_entries`; blocks until the batch is durable in BATCH, until it is
        accepted in the other modes. With `wait=False` it blocks until accepted in every mode.

        With `hard_state` the two are one batch and share one fdatasync; it is written also where
        every entry is skipped, and is then durable on return in every mode (with `wait`).
        """
        durable = wait and self._batch_mode
        if hard_state is None and self.core.fast_persist(entries, durable) is None:
            return
        self._finish(
            self.accept(entries, hard_state, may_wait=True),
            durable=wait and (self._batch_mode or hard_state is not None),
        )

    def accept(
        self, entries: Iterable[Entry], hard_state: HardState | None, *, may_wait: bool
    ) -> Ticket:
        """The first half of `persist_entries`: checked, copied, and accepted or queued."""
        batch = self.acceptable(entries)
        state = None if hard_state is None else checked_hard_state(hard_state)
        return self.core.submit(core.PERSIST, entries=batch, hard_state=state, may_wait=may_wait)

    def acceptable(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries, if they are such. Raises what `persist_entries` raises for those that are
        not, whatever the log holds.
        """
        with self._named_in_errors():
            return checked_entries(entries, self._max_entry_bytes)

    @contextmanager
    def _named_in_errors(self) -> Iterator[None]:
        """What is refused before the core sees it is told with the log's path, as the core does."""
        try:
            yield
        except InvalidEntryError as error:
            if error.path is None:  # else of another log, from which the entries come
                error.path, error.args = self.path, (f"{error} [{self.path}]",)
            raise

    def _finish(self, ticket: Ticket, *, durable: bool) -> None:
        if durable or ticket.queued:
            self.core.wait(ticket, durable=durable)

    def truncate(self, from_index: int) -> None:
        """`LogStore.truncate`; blocks as `persist_entries` does."""
        if self.core.fast_replace(from_index, (), self._batch_mode) is None:
            return
        self._finish(self.accept_truncate(from_index, may_wait=True), durable=self._batch_mode)

    def accept_truncate(self, from_index: int, *, may_wait: bool) -> Ticket:
        """The first half of `truncate`."""
        with self._named_in_errors():
            at = LogId(checked_from_index(from_index), 0)
        return self.core.submit(core.TRUNCATE, at=at, may_wait=may_wait)

    def replace_range(self, from_index: int, new_entries: Iterable[Entry]) -> None:
        """`LogStore.replace_range`, as one; blocks as `persist_entries` does."""
        if self.core.fast_replace(from_index, new_entries, self._batch_mode) is None:
            return
        ticket = self.accept_replace(from_index, new_entries, may_wait=True)
        self._finish(ticket, durable=self._batch_mode)

    def accept_replace(
        self, from_index: int, new_entries: Iterable[Entry], *, may_wait: bool
    ) -> Ticket:
        """The first half of `replace_range`."""
        with self._named_in_errors():
            at = LogId(checked_from_index(from_index), 0)
            entries = checked_entries(new_entries, self._max_entry_bytes)
        return self.core.submit(core.REPLACE, at=at, entries=entries, may_wait=may_wait)

    def purge(self, cutoff: LogId) -> None:
        """`LogStore.purge`; blocks until the boundary is durable and the files are gone; the
        blocks of large ones follow within milliseconds.
        """
        self._finish(self.accept_purge(cutoff, may_wait=True), durable=True)
        self._wait_removed()

    def accept_purge(self, cutoff: LogId, *, may_wait: bool) -> Ticket:
        """The first half of `purge`."""
        with self._named_in_errors():
            at = checked_cutoff(cutoff)
        return self.core.submit(core.PURGE, at=at, may_wait=may_wait)

    def reset(self) -> None:
        """`LogStore.reset`; blocks as `purge` does."""
        self._finish(self.accept_reset(may_wait=True), durable=True)
        self._wait_removed()

    def _wait_removed(self) -> None:
        self.core.wait_removed()
        self._log_removal_failures(self.core.stats())

    def _log_removal_failures(self, raw: Any) -> None:
        """Once for each log: the next open tries again, and counts again."""
        if raw.removal_failures and not self._told_of_removals:
            self._told_of_removals = True
            logger.warning(
                "%s: a file that was purged could not be removed: %s; it takes space until the log "
                "is opened again, and stats().removal_failures counts such files "
                '(docs/operations.md, "Log lines")',
                self.path,
                os.strerror(raw.removal_errno),
            )

    def accept_reset(self, *, may_wait: bool) -> Ticket:
        """The first half of `reset`."""
        return self.core.submit(core.RESET, may_wait=may_wait)

    def save_hard_state(self, state: HardState, *, sync: bool = True) -> None:
        """`MetaStore.save_hard_state`; with `sync` it blocks until durable, in every mode."""
        self._finish(self.accept_hard_state(state, may_wait=True), durable=sync)

    def accept_hard_state(self, state: HardState, *, may_wait: bool) -> Ticket:
        """The first half of `save_hard_state`."""
        checked = checked_hard_state(state)
        return self.core.submit(core.PERSIST, hard_state=checked, may_wait=may_wait)

    # -- durability ------------------------------------------------------------------------------

    def flush(self) -> None:
        """All that is accepted is durable when this returns; blocks. Nothing pending: no I/O."""
        if self._read_only:
            self.core.check_open()
            return
        self._finish(self.accept_nothing(may_wait=True), durable=True)

    def accept_nothing(self, *, may_wait: bool) -> Ticket:
        """A ticket that covers every write so far: the first half of `flush`."""
        return self.core.submit(core.PERSIST, may_wait=may_wait)

    def wait_durable(self, index: int, timeout: float | None = None) -> None:
        """Blocks until the entry at `index` is durable, for at most `timeout` seconds (None: as
        long as it takes). In MANUAL it starts a sync.

        Raises ValueError above `last_index()`; ConflictError where the entry was replaced
        meanwhile; TimeoutError; TypeError or ValueError that names a wrong argument.
        """
        index = checked_int("index", index, 0, U64_MAX)
        self.core.wait_durable(index, checked_timeout(timeout))

    def durable_index(self) -> int:
        """Highest index whose present entry and all before it are durable. Where none is:
        `first_index() - 1`, or 0 where not even that the log begins there is durable. A truncate or
        replace lowers it when accepted. Read-only: what the log itself proves, which the writer may
        be ahead of.
        """
        return self.core.durable_index()

    def is_write_durable(self) -> bool:
        """`LogStore.is_write_durable`."""
        self.core.check_open()
        return self._batch_mode and not self._read_only

    # -- reading ---------------------------------------------------------------------------------

    def entry(self, index: int) -> Entry | None:
        """`LogStore.entry`. Other threads run while it reads a payload of more than 1 MiB."""
        return self.core.entry(index)

    def get_entries(self, first: int, last: int, max_bytes: int | None = None) -> list[Entry]:
        """`LogStore.get_entries`. Takes about 0.3 us per entry and 1 ms per MiB of payload where
        the kernel holds the log in memory (measured), and keeps the interpreter's lock meanwhile.
        Read-only: raises PurgedError where the writer has used a segment again since `refresh`.
        """
        limit = checked_max_bytes(max_bytes)
        return self.core.get_entries(
            clamped_index(first),
            clamped_index(last),
            U64_MAX if limit is None else min(limit, U64_MAX - 1),
        )

    def term(self, index: int) -> int | None:
        """The term at `index`: of an entry, or of the boundary; 0 at index 0; None if unknown. No
        payload is read.

        Raises CorruptionError where the header of the entry is damaged; TypeError. Read-only:
        raises PurgedError as `get_entries` does.
        """
        term = self.core.fast_term(index)
        return self.core.term(index) if term is NotImplemented else term

    def first_index(self) -> int:
        """Index of the first entry, or `last_index() + 1` where none is held. The number of entries
        is always `last_index() - first_index() + 1`.
        """
        return self.core.first_index()

    def last_index(self) -> int:
        """`LogStore.last_index`."""
        return self.core.last_index()

    def load_purge_boundary(self) -> LogId | None:
        """`LogStore.load_purge_boundary`."""
        return self.core.boundary()

    def load_hard_state(self) -> HardState | None:
        """`MetaStore.load_hard_state`."""
        return self.core.hard_state()

    def refresh(self) -> None:
        """Read-only: goes on from where it stopped, and then shows the log as of now: what was
        appended, and what was truncated, purged or reset. On a handle that writes it does nothing:
        that one sees everything.

        Costs what was appended since the last refresh; blocks while that is read. What it cannot go
        on from (the log was recovered after a crash, or purged past what was read) it reads anew,
        as opening does. Raises CorruptionError, or LogIOError (EAGAIN as at open); the handle then
        shows what it showed before, or a later state of the log.
        """
        self.core.refresh()

    def stats(self) -> Stats:
        """The counters since open. Takes a lock for a moment; no I/O."""
        raw = self.core.stats()
        self._log_removal_failures(raw)
        return Stats(
            entries=raw.entries,
            bytes=raw.bytes,
            batches=raw.batches,
            syncs=raw.syncs,
            entries_per_sync=raw.synced_entries / raw.syncs if raw.syncs else 0.0,
            sync_p50_us=raw.sync_p50_ns / 1000,
            sync_p99_us=raw.sync_p99_ns / 1000,
            sync_max_us=raw.sync_max_ns / 1000,
            durable_lag=max(
                0, self.last_index() - max(self.durable_index(), self.first_index() - 1)
            ),
            segments=raw.segments,
            spares=raw.spares,
            rotations_waited=raw.rotations_waited,
            queue_bytes=raw.queue_bytes,
            removal_failures=raw.removal_failures,
            recovery_ms=raw.recovery_ns / 1e6,
            recovered_entries=raw.recovered_entries,
            cut_bytes=raw.cut_bytes,
            cut_batches=raw.cut_batches,
        )

    def verify(self, *, progress: Callable[[VerifyProgress], None] | None = None) -> Verification:
        """Reads everything that the log relies on, and returns an iterator of what is damaged.

        The iterator gives a `Finding` for each damaged thing, oldest segment first, and goes on
        behind it; a log that is whole gives none. In a log that was not closed, the last segment
        comes before all others, since only its frames say what the log holds. `next()` blocks until
        the next finding, and lets other threads run. Every few milliseconds it calls `progress`, in
        the same thread, and handles signals. To end early, call the iterator's `stop()`, also from
        `progress`.

        It works on every handle, a writer's and a reader's: it reads the files in
        `path`, changes nothing, and does not disturb a writer in this process or another. What a
        writer purges meanwhile is left out.

        It verifies LOCK and, of each segment that the log needs, the header page, the close mark
        page, every frame (order, chain, payload), the rules of each batch and its COMMIT, the
        offset index, the footer page, and that the next segment goes on where this one ends. It
        does not verify what is not part of the log: the bytes between the last frame and the offset
        index, or behind the last frame of the last segment; files that hold no visible entry any
        more; `.spare` files. A torn batch at the end, after an unclean stop, is not damage.

        The iterator raises ClosedError once this handle is closed, UnsupportedFormatError for a
        newer format, and LogIOError where the system fails (EAGAIN: the log changes faster than
        it can be read). For a log that cannot be opened: `pylogwal verify DIR`.
        """
        return Verification(self.path, self.core, progress)

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Makes durable what is accepted, and releases thread, descriptors, mappings and lock; the
        release happens even where the flush fails, which is then raised. May be repeated. Blocks.
        Calls that wait in other threads end with ClosedError, unless they are done first.
        """
        self._open = False
        try:
            self.core.close()
            if self.core.owned_here():
                self._log_removal_failures(self.core.last_stats())
        except SyncFailedError as error:
            logger.error("%s: closed after a failed sync: %s", self.path, error)
            raise
        except WalError as error:
            logger.error("%s: close: %s", self.path, error)
            raise

    def __enter__(self) -> Self:
        self.core.check_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if not self._open else "read-only" if self._read_only else self._durability
        return f"<pylogwal.Wal {self.path!r} ({state})>"

    def __del__(self) -> None:
        if getattr(self, "_open", False) and self.core.owned_here():
            # The source, whose allocation tracemalloc shows, is not the log: a warning that is kept
            # would keep the lock.
            warnings.warn(
                f"{self!r} was never closed", ResourceWarning, source=self.path, stacklevel=1
            )


def _checked_path(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError("path is bytes; decode it with os.fsdecode")
    if not text or "\0" in text:
        raise ValueError(f"path is {text!r}, which names no directory")
    return str(Path(text).absolute())


def _checked_bool(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, not a bool")
    return value


def _checked_interval(durability: Durability, sync_interval_ms: int | None) -> int:
    """What the core gets: 0 where no sync is started that nobody asked for."""
    if durability is Durability.INTERVAL:
        value = 10 if sync_interval_ms is None else sync_interval_ms
        return checked_option("sync_interval_ms", value, 1, SYNC_INTERVAL_MAX_MS)
    if sync_interval_ms is not None:
        raise ValueError("sync_interval_ms goes with durability='interval' only")
    return 0
