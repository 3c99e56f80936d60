"""PySyncObj with its journal on pylogwal. Needs pysyncobj >= 0.3.17.

    with wal_journals():
        node = Counter("localhost:4321", partners, conf=SyncObjConf(journalFile="node1/log"))

PySyncObj keeps a list-like journal of (command, index, term), with the node's term, vote and commit
index beside it. Its own FileJournal holds all entries in memory and never syncs them, so that a
power failure can take what a node has told others it has. Here each entry is durable before the
node speaks of it, the vote is, and memory does not grow with the log.

Run as a program it is a node that counts how often it was started, of a cluster of itself alone:

    python examples/pysyncobj_journal.py DIR
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, overload

import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.journal import Journal, createJournal

from pylogwal import Entry, HardState, LogId, SyncFailedError, Wal

JournalEntry = tuple[bytes, int, int]
"""Command, index, term."""


class WalJournal(Journal):  # type: ignore[misc]
    """PySyncObj's Journal on a `Wal`. Positions count from the first entry that is held.

    Called from PySyncObj's own thread alone; each write blocks it for one fdatasync.
    """

    def __init__(self, directory: str) -> None:
        self.wal = Wal(directory)
        self._state = self.wal.load_hard_state() or HardState(0, commit_index=1)
        self._commit_index = self._state.commit_index

    # -- the entries -----------------------------------------------------------------------------

    def add(self, command: bytes, idx: int, term: int) -> None:
        with self._last_words():
            self.wal.persist_entries([Entry(idx, term, command)])

    def clear(self) -> None:
        with self._last_words():
            self.wal.reset()

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803
        with self._last_words():
            self.wal.truncate(self.wal.first_index() + entryFrom)

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N802, N803
        if entryTo > 0:
            _, index, term = self[entryTo - 1]
            with self._last_words():
                self.wal.purge(LogId(index, term))

    def __len__(self) -> int:
        return self.wal.last_index() - self.wal.first_index() + 1

    @overload
    def __getitem__(self, item: int) -> JournalEntry: ...
    @overload
    def __getitem__(self, item: slice) -> list[JournalEntry]: ...
    def __getitem__(self, item: int | slice) -> JournalEntry | list[JournalEntry]:
        positions = range(len(self))[item]
        if isinstance(positions, int):
            return self._read(positions, positions)[0]
        assert positions.step == 1, "PySyncObj takes entries in a row"
        return self._read(positions.start, positions.stop - 1)

    def _read(self, start: int, end: int) -> list[JournalEntry]:
        first = self.wal.first_index()
        found = self.wal.get_entries(first + start, first + end)
        return [(entry.payload, entry.index, entry.term) for entry in found]

    # -- what belongs to it ----------------------------------------------------------------------

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        """Durable on return: the vote is sent right after."""
        with self._last_words():
            self.wal.save_hard_state(HardState(term, votedForNodeId, self._commit_index))
        self._state = HardState(term, votedForNodeId, self._commit_index)

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self._state.term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        return self._state.voted_for

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803
        """Kept in memory: it is a hint, which the leader would give again."""
        self._commit_index = raftCommitIndex

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        # It may have been saved before a truncate, and the crash have come after.
        return min(self._commit_index, max(self.wal.last_index(), 1))

    def onOneSecondTimer(self) -> None:  # noqa: N802
        self._save_commit_index()

    def _save_commit_index(self) -> None:
        if self._commit_index != self._state.commit_index:
            self._state = self._state._replace(commit_index=self._commit_index)
            self.wal.save_hard_state(self._state, sync=False)

    @contextmanager
    def _last_words(self) -> Iterator[None]:
        """After a failed sync the node falls silent. PySyncObj logs an error and goes on ticking,
        and would count entries that are there to be read, but not durable.
        """
        try:
            yield
        except SyncFailedError:
            with suppress(SyncFailedError):
                self.wal.close()
            raise

    def _destroy(self) -> None:
        self._save_commit_index()
        self.wal.close()


@contextmanager
def wal_journals() -> Iterator[None]:
    """Each SyncObj that is made inside has its journal on pylogwal, in the directory `journalFile`.

    PySyncObj has no setting for it; the name that it looks up is replaced for a while.
    """
    pysyncobj.syncobj.createJournal = lambda path: (
        createJournal() if path is None else WalJournal(path)
    )
    try:
        yield
    finally:
        pysyncobj.syncobj.createJournal = createJournal


class Counter(SyncObj):  # type: ignore[misc]
    """A number that all nodes agree on."""

    def __init__(self, address: str, partners: list[str], conf: SyncObjConf) -> None:
        super().__init__(address, partners, conf)
        self._value = 0

    @replicated  # type: ignore[untyped-decorator]
    def add(self, amount: int) -> int:
        self._value += amount
        return self._value

    def value(self) -> int:
        return self._value

    def wait_until_ready(self, timeout_s: float = 30) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not self.isReady():
            if time.monotonic() > deadline_s:
                raise TimeoutError("no leader")
            time.sleep(0.01)


def open_counter(address: str, directory: str, **options: Any) -> Counter:
    """A node of a cluster of its own, ready to be used."""
    with wal_journals():
        counter = Counter(address, [], SyncObjConf(journalFile=directory, **options))
    counter.wait_until_ready()
    return counter


def main() -> None:
    counter = open_counter("localhost:4321", sys.argv[1])
    print("start number", counter.add(1, sync=True, timeout=10))
    counter.destroy_synchronous()


if __name__ == "__main__":
    main()
