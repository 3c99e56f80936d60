"""The values that go into a log and come out of it.

All of them are immutable, hashable and compared by value. `Entry`, `LogId` and `HardState` are
named tuples, so unpacking and `_replace` work; making one checks nothing. What they hold is
checked where it is given to a store (see `pylogwal.checks`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

__all__ = [
    "Durability",
    "Entry",
    "Finding",
    "FindingKind",
    "HardState",
    "LogId",
    "Stats",
    "VerifyProgress",
]


class Entry(NamedTuple):
    """One entry of the Raft log.

    index: position in the log, 1..2^64-2.
    term: the leader's term that wrote it, 0..2^64-1; never lower than that of the entry before.
    payload: the application's command, opaque; at most the store's `max_entry_bytes`. A store takes
        any bytes-like and copies it at the call; what it returns is `bytes`.
    kind: 0..255, the application's own: command, no-op, configuration.
    """

    # This hides tuple.index, the search for a value: `index` is Raft's word.
    index: int  # type: ignore[assignment]
    term: int
    payload: bytes = b""
    kind: int = 0


class LogId(NamedTuple):
    """A place in the log and the term of the entry there: what a snapshot ends with.

    index: 0..2^64-2; 0 is the place before the first entry.
    term: 0..2^64-1.
    """

    index: int  # type: ignore[assignment]
    term: int


class HardState(NamedTuple):
    """What a Raft node must know again after a restart, beside its log.

    A store keeps it as given and compares it with nothing: a term may go back.

    term: the node's current term, 0..2^64-1.
    voted_for: who has this node's vote in that term, at most 255 bytes of UTF-8. None is nobody;
        the empty string is a name like any other.
    commit_index: highest index known to be committed, 0..2^64-1. Kept, never interpreted.
    extra: at most 2 KiB of the application's own, opaque.
    """

    term: int
    voted_for: str | None = None
    commit_index: int = 0
    extra: bytes = b""


class Durability(str, Enum):
    """When a write returns, and what makes it durable. Each member equals its string.

    BATCH, "batch": a write returns when an fdatasync that covers it has succeeded; writes that wait
        at the same time share one.
    INTERVAL, "interval": a write returns once accepted; an fdatasync is started within
        `sync_interval_ms`.
    MANUAL, "manual": a write returns once accepted; flush, wait_durable and close make it durable.
    """

    BATCH = "batch"
    INTERVAL = "interval"
    MANUAL = "manual"

    # enum.StrEnum does this, from Python 3.11 on.
    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters of one open log, as they stood at one moment. They start at zero at every open.

    entries: accepted since the log was opened; skipped ones (already there) do not count.
    bytes: payload bytes of those entries.
    batches: accepted since open: each append, truncate, replace, purge, reset or hard state.
    syncs: fdatasyncs that succeeded since open, those of hard states and purges among them.
    entries_per_sync: `entries / syncs`; 0.0 before the first sync.
    sync_p50_us, sync_p99_us: half, and 99 of 100, of the recent fdatasyncs took at most so many
        microseconds.
    sync_max_us: the longest fdatasync since open, in microseconds.
    durable_lag: entries accepted and not durable yet.
    segments: segment files that hold the log now, the one written to included.
    spares: files prepared ahead, waiting to become a segment.
    rotations_waited: rotations since open that found no file ready, so that writes had to queue.
    queue_bytes: what the writes hold that wait for a rotation now, in bytes.
    removal_failures: files that nothing needs any more and that could not be removed, since open.
    recovery_ms: milliseconds that this open took to judge and recover the directory, or to make a
        new log, whose first segment is written whole.
    recovered_entries: entries in the log right after open.
    cut_bytes: bytes of a torn tail that this open cut off: batches of which nothing in the log says
        that they were durable (docs/durability.md, "Torn, or damaged?"). 0 where only a COMMIT
        without entries, which an idle log stores, was torn.
    cut_batches: torn-off batches recognised in those bytes.
    """

    entries: int
    bytes: int
    batches: int
    syncs: int
    entries_per_sync: float
    sync_p50_us: float
    sync_p99_us: float
    sync_max_us: float
    durable_lag: int
    segments: int
    spares: int
    rotations_waited: int
    queue_bytes: int
    removal_failures: int
    recovery_ms: float
    recovered_entries: int
    cut_bytes: int
    cut_batches: int


class FindingKind(str, Enum):
    """What is damaged. Each member equals its string.

    LOCK: the file that holds the log id.
    HEADER, CLOSE_MARK, FOOTER: a page of a segment, with its unused parts.
    FRAME: an entry or another record.
    COMMIT: the end of a batch.
    CHAIN: parts that are valid, each by itself, but do not belong together.
    OFFSET_INDEX: the list of the places of a segment's entries.
    SHORT_FILE, MISSING_SEGMENT: a file that is cut, or is gone.
    FOREIGN_FILE: a file with a segment's name that belongs to another log, is another segment, or
        holds no segment.
    UNREADABLE: the system reports an error when the file is read.
    """

    LOCK = "lock"
    HEADER = "header"
    CLOSE_MARK = "close mark"
    FRAME = "frame"
    COMMIT = "commit"
    CHAIN = "chain"
    OFFSET_INDEX = "offset index"
    FOOTER = "footer"
    SHORT_FILE = "short file"
    MISSING_SEGMENT = "missing segment"
    FOREIGN_FILE = "foreign file"
    UNREADABLE = "unreadable"

    def __str__(self) -> str:
        return str(self.value)


class Finding(NamedTuple):
    """One damaged thing in a log, as `Wal.verify` finds it.

    file: name of the file in the log's directory.
    segment: number of the segment; None for LOCK.
    offset: in bytes, in `file`: where the damaged thing begins.
    kind: what is damaged.
    first_index, last_index: the entries concerned, inclusive. Both are None where no entry is
        concerned, or where that is not known. Only last_index is None where the entries go to an
        end that is not known.
    needed: True where entries that the log holds, or the next recovery, depend on the damaged
        thing. False where nothing does any more: a record of entries that were purged or replaced,
        the COMMIT of a sealed segment, or a page that recovery does without.
    message: what is wrong, in words.
    """

    file: str
    segment: int | None
    offset: int
    kind: FindingKind
    first_index: int | None
    last_index: int | None
    needed: bool
    message: str


class VerifyProgress(NamedTuple):
    """How far a verification is.

    bytes: read and verified so far.
    total_bytes: to be verified in all, as far as that is known by now; exact at the end.
    segments: begun or done so far.
    entries: found whole so far, of first_index..last_index. Those that are purged meanwhile, before
        they are read, are left out.
    first_index, last_index: of the log, as of the beginning; both 0 until that is known.
        last_index is first_index - 1 where the log holds no entries.
    """

    bytes: int
    total_bytes: int
    segments: int
    entries: int
    first_index: int
    last_index: int
