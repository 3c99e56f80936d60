"""The two interfaces that a Raft node stands on: its log, and what it must remember beside it.

`LogStore` is the trait of that name of the Rust crate d-engine, in Python: the same required
methods, and the same provided ones with the trait's own defaults. The rule behind each method is
named where it has one; "the Raft paper" is Ongaro and Ousterhout, "In Search of an
Understandable Consensus Algorithm (Extended Version)", 2014.

Two words are used with care. *Accepted* data is seen by every read, and survives the death of the
process. *Durable* data survives power loss. Which of the two a write has reached when it returns
follows from the store's durability mode (`Durability`); where a docstring says "durable", it
holds in every mode.

Every method raises ClosedError after close, and every write may raise DiskFullError (nothing was
changed) and SyncFailedError (nothing is acknowledged until the log is opened again). A write that
finds nothing left to do still waits until what it relies on is as durable as its mode promises.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from pylogwal.checks import refuse_one_entry
from pylogwal.types import Entry, HardState, LogId

__all__ = ["LogStore", "MetaStore"]


class LogStore(ABC):
    """A Raft log: contiguous entries, after a boundary where the log was purged.

    Indices are int in 0..2^64-1; an entry's is 1..2^64-2. With a boundary, the first entry is at
    the boundary's index + 1. A log with no entry and no boundary is *blank*.
    """

    @abstractmethod
    async def persist_entries(self, entries: Iterable[Entry]) -> None:
        """Appends a batch by the rule of AppendEntries (the Raft paper, figure 2, receiver steps
        3 and 4), atomically: all of it or nothing, also after a crash.

        The batch is contiguous and ascending, its terms never decrease, also against the entry or
        the boundary just before it, and its first index is at most `last_index() + 1`. A blank
        log may start anywhere. Where the batch overlaps the log:

        - entries at or below the boundary are skipped;
        - entries already there with the same term are skipped, so a late retry loses nothing;
        - from the first whose term differs, the rest of the log is replaced.

        Payloads are copied at the call. Returns when the batch is as durable as the mode promises.

        Raises InvalidEntryError for a batch that breaks a rule, or starts below the first entry of
        a log without a boundary; EntryTooLargeError; ConflictError where an entry of the same term
        holds another payload or kind. Nothing is written then.
        """

    @abstractmethod
    async def entry(self, index: int) -> Entry | None:
        """The accepted entry at `index`, or None where the log holds none there.

        Raises CorruptionError where its bytes are damaged; TypeError.
        """

    @abstractmethod
    def get_entries(self, first: int, last: int, max_bytes: int | None = None) -> list[Entry]:
        """The accepted entries from `first` to `last`, both included, from one state of the log.

        The range is clipped to what exists, so look at `[0].index`; an empty or inverted range is
        an empty list. With `max_bytes` (payload bytes, 0 or more) it ends before the entry that
        would go over, though never before one entry.

        Blocks, and an event loop with it, for as long as it takes to verify and copy the range, and
        to read from the disk what the kernel does not hold in memory. So bound it by `max_bytes`.
        Never waits for a sync.

        Raises CorruptionError; TypeError or ValueError for a wrong argument.
        """

    @abstractmethod
    async def purge(self, cutoff: LogId) -> None:
        """Drops every entry up to and including `cutoff`, which becomes the boundary.

        The boundary is durable when this returns, in every mode, and before any file goes.
        Nothing to do: a cutoff at or below the boundary, at index 0, or short of the index just
        before the first entry. A cutoff beyond the last entry, or whose term is not the log's own
        there, comes from a leader's snapshot (the Raft paper, section 7): the whole log goes,
        atomically, and continues at `cutoff.index + 1`.

        Raises InvalidEntryError where `cutoff` is not a LogId in range.
        """

    @abstractmethod
    async def truncate(self, from_index: int) -> None:
        """Drops the entry at `from_index` and all after it. Follows the mode, as persist_entries.

        Beyond the last entry there is nothing to do. Without a boundary, `from_index` at or below
        the first entry drops all and leaves the log blank.

        Raises PurgedError at or below the boundary; InvalidEntryError out of 0..2^64-1.
        """

    @abstractmethod
    def is_write_durable(self) -> bool:
        """Whether a write that has returned is durable without a flush. True in BATCH alone."""

    @abstractmethod
    async def reset(self) -> None:
        """Drops all entries and the boundary: the log is blank. The hard state stays.

        Durable when this returns, in every mode.
        """

    @abstractmethod
    def last_index(self) -> int:
        """Highest index: of the last accepted entry; of the boundary where all is purged; 0 in a
        blank log. Takes no lock and does no I/O.
        """

    async def replace_range(self, from_index: int, new_entries: Iterable[Entry]) -> None:
        """Drops the log from `from_index` on and appends `new_entries` in its place.

        This default, as the trait's, is `truncate` and then, where there are entries,
        `persist_entries`; a crash can part the two. It reads `new_entries` to the end first. The
        stores of this package do it as one: after any crash the old log or the new.
        There the first new index is `from_index`, at most `last_index() + 1`, or anywhere in a
        blank log, and an empty list is a truncate. Follows the mode, as persist_entries.

        Raises PurgedError at or below the boundary; InvalidEntryError for a batch that breaks a
        rule, and nothing is changed.
        """
        refuse_one_entry(new_entries)
        batch = list(new_entries)  # an iterator can be read once, and may be empty or raise
        await self.truncate(from_index)
        if batch:
            await self.persist_entries(batch)

    def flush(self) -> None:
        """All that is accepted is durable when this returns. Blocks; nothing pending: no I/O.

        The default does nothing: right for a store whose every write is durable when it returns.
        """
        return

    async def flush_async(self) -> None:
        """All that is accepted is durable when this returns. Nothing pending: no I/O.

        The default does nothing: right for a store whose every write is durable when it returns.
        """
        return

    def load_purge_boundary(self) -> LogId | None:
        """The highest purge, also one of an earlier run; None if there was none since the last
        reset. The default keeps none.
        """
        return None


class MetaStore(ABC):
    """The hard state of a Raft node. It is stored as given and compared with nothing."""

    @abstractmethod
    def save_hard_state(self, state: HardState, *, sync: bool = True) -> None:
        """Replaces the hard state. Durable when this returns, in every mode; with `sync=False`
        accepted, and carried by the next sync. Blocks for one fdatasync.

        A vote must be durable before it is answered (the Raft paper, figure 2, "persistent state").

        Raises TypeError or ValueError that names the field that is wrong.
        """

    @abstractmethod
    async def save_hard_state_async(self, state: HardState, *, sync: bool = True) -> None:
        """As `save_hard_state`, without blocking the event loop."""

    @abstractmethod
    def load_hard_state(self) -> HardState | None:
        """The latest accepted hard state, also of an earlier run; None if none was ever saved."""
