"""The values that go into a log and come out of it.

All of them are immutable, hashable and compared by value. `Entry`, `LogId` and `HardState` are
named tuples, so unpacking and `_replace` work; making one checks nothing. What they hold is
checked where it is given to a store (see `pylogwal.checks`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

__all__ = ["Durability", "Entry", "HardState", "LogId", "Stats"]


class Entry(NamedTuple):
    """One entry of the Raft log.

    A store takes any bytes-like `payload` and copies it at the call; what it returns holds
    `bytes`.
    """

    # This hides tuple.index, the search for a value: `index` is Raft's word.
    index: int  # type: ignore[assignment]
    """Position in the log, 1..2^64-2."""
    term: int
    """The leader's term that wrote it, 0..2^64-1; never lower than the term of the entry before."""
    payload: bytes = b""
    """The application's command, opaque; at most the store's `max_entry_bytes`."""
    kind: int = 0
    """0..255, the application's own: command, no-op, configuration."""


class LogId(NamedTuple):
    """A place in the log and the term of the entry there: what a snapshot ends with."""

    index: int  # type: ignore[assignment]
    """0..2^64-2; 0 is the place before the first entry."""
    term: int
    """0..2^64-1."""


class HardState(NamedTuple):
    """What a Raft node must know again after a restart, beside its log.

    A store keeps it as given and compares it with nothing: a term may go back.
    """

    term: int
    """The node's current term, 0..2^64-1."""
    voted_for: str | None = None
    """Who has this node's vote in that term, at most 255 bytes of UTF-8. None is nobody; the empty
    string is a name like any other."""
    commit_index: int = 0
    """Highest index known to be committed, 0..2^64-1. Kept, never interpreted."""
    extra: bytes = b""
    """At most 2 KiB of the application's own, opaque."""


class Durability(str, Enum):
    """When a write returns, and what makes it durable. Each member equals its string."""

    BATCH = "batch"
    """A write returns when an fdatasync that covers it has succeeded; writes that wait at the same
    time share one."""
    INTERVAL = "interval"
    """A write returns once accepted; an fdatasync is started within `sync_interval_ms`."""
    MANUAL = "manual"
    """A write returns once accepted; flush, wait_durable and close make it durable."""

    # enum.StrEnum does this, from Python 3.11 on.
    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters of one open log, as they stood at one moment. They start at zero at every open."""

    entries: int
    """Entries accepted since the log was opened; skipped ones (already there) do not count."""
    bytes: int
    """Payload bytes of those entries."""
    batches: int
    """Batches accepted since open: each append, truncate, replace, purge, reset or hard state."""
    syncs: int
    """fdatasyncs that succeeded since open."""
    entries_per_sync: float
    """`entries / syncs`; 0.0 before the first sync."""
    sync_p50_us: float
    """Half of the recent fdatasyncs took at most this long, in microseconds."""
    sync_p99_us: float
    """99 of 100 recent fdatasyncs took at most this long, in microseconds."""
    sync_max_us: float
    """The longest fdatasync since open, in microseconds."""
    durable_lag: int
    """Entries accepted and not durable yet."""
    segments: int
    """Segment files that hold the log now, the one written to included."""
    spares: int
    """Files prepared ahead, waiting to become a segment."""
    recovery_ms: float
    """How long this open took to judge and recover the directory, in milliseconds."""
    recovered_entries: int
    """Entries in the log right after open."""
    cut_bytes: int
    """Bytes of a torn tail that this open cut off: batches that were never acknowledged."""
    cut_batches: int
    """Torn-off batches recognised in those bytes."""
