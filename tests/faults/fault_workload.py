"""Every operation of a log, while one system call or another fails under it; holds what comes of it
to the contract. A program, run under strace, which injects:

    python fault_workload.py DIRECTORY MODE

It prints what it met, and ends with status 0 where every rule held:

- a refused write leaves the state as it was, unless it is SyncFailedError: then it may be there,
  and from then on every write is that error, also the same one tried again;
- nothing that was acknowledged is lost, over a reopen too; nothing that was not written is there;
- everything can be read at any time; nothing is ever called corrupt.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from stores import BLANK, State, restore, state_of

from pylogwal import (
    CorruptionError,
    DiskFullError,
    Entry,
    HardState,
    LogId,
    SyncFailedError,
    Wal,
    WalError,
)

SEGMENT_BYTES = 65536
TRIES = 6
"""A call number is counted for each thread, so one injection can fail several calls."""

Write = Callable[[Wal], None]


def entries(first: int, last: int, term: int, size: int = 40) -> list[Entry]:
    return [
        Entry(i, term, (b"%d in %d " % (i, term) * size)[:size], term)
        for i in range(first, last + 1)
    ]


def append(first: int, last: int, term: int, size: int = 40) -> Write:
    return lambda wal: wal.persist_entries(entries(first, last, term, size))


STEPS: list[tuple[str, Write, bool]] = [
    ("append", append(1, 5, 1), False),
    ("hard state", lambda wal: wal.save_hard_state(HardState(1, "a")), True),
    ("overlap", append(4, 9, 2), False),
    ("flush", lambda wal: wal.flush(), True),
    ("roll", append(10, 13, 2, 15000), False),
    ("roll again", append(14, 17, 2, 15000), False),
    ("too large for a segment", append(18, 18, 3, 80000), False),
    ("truncate", lambda wal: wal.truncate(18), False),
    ("replace", lambda wal: wal.replace_range(16, entries(16, 20, 4)), False),
    ("purge", lambda wal: wal.purge(LogId(14, 2)), True),
    ("append", append(21, 24, 4, 15000), False),
    ("roll", append(25, 28, 4, 15000), False),
    ("purge", lambda wal: wal.purge(LogId(26, 4)), True),
    ("hard state, unsynced", lambda wal: wal.save_hard_state(HardState(4), sync=False), False),
    ("both", lambda wal: wal.persist_entries(entries(29, 30, 5), HardState(5)), True),
    ("purge beyond", lambda wal: wal.purge(LogId(40, 5)), True),
    ("append", append(41, 44, 5, 14000), False),
    ("reset", lambda wal: wal.reset(), True),
    ("append", append(1, 4, 6, 15000), False),
    ("flush", lambda wal: wal.flush(), True),
]
"""What it is called, what it does, whether it is durable on return in every mode."""


class Run:
    """One log, and the states that it may have to show: the last one now, one of them from
    `acknowledged` on after a reopen.
    """

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self.mode = mode
        self.states = [BLANK]
        self.acknowledged = 0
        self.model = Wal(path.parent / "model", durability="manual")
        self.poisoned = False

    def open(self) -> Wal:
        for _ in range(TRIES):
            try:
                wal = Wal(self.path, durability=self.mode, segment_bytes=SEGMENT_BYTES)
            except (WalError, MemoryError) as error:
                check_error("open", error)
                continue
            break
        else:
            raise AssertionError("open fails again and again")
        self.poisoned = False
        found = state_of(wal)
        assert found in self.states[self.acknowledged :], ("after open", found)
        self.states = [found]
        self.acknowledged = 0
        restore(self.model, found)
        return wal

    def after(self, write: Write) -> State:
        """The state that the write has to lead to."""
        write(self.model)
        return state_of(self.model)

    def step(self, wal: Wal, name: str, write: Write, durable: bool) -> bool:
        """True if it was done; False if the log is poisoned now."""
        before = state_of(wal)
        assert before == self.states[-1]
        expected = self.after(write)
        for _ in range(TRIES):
            try:
                write(wal)
            except SyncFailedError as error:
                check_error(name, error)
                found = state_of(wal)
                assert found in (before, expected), (name, found)
                if found != before:
                    self.states.append(found)
                self.poisoned = True
                self.check_poisoned(wal, write)
                return False
            except (WalError, MemoryError) as error:
                check_error(name, error)
            else:
                break
            assert state_of(wal) == before, (name, "the state changed, though it was refused")
        else:
            raise AssertionError(f"{name} fails again and again")
        assert state_of(wal) == expected, (name, state_of(wal), expected)
        self.states.append(expected)
        if durable or self.mode == "batch":
            self.acknowledged = len(self.states) - 1
        return True

    def check_poisoned(self, wal: Wal, write: Write) -> None:
        before = state_of(wal)
        retries: list[Write] = [
            write,
            lambda wal: wal.flush(),
            lambda wal: wal.persist_entries([]),
            lambda wal: wal.truncate(2**63),
            lambda wal: wal.purge(LogId(0, 0)),
            lambda wal: wal.save_hard_state(HardState(9)),
            lambda wal: wal.reset(),
        ]
        for retry in retries:
            try:
                retry(wal)
            except SyncFailedError:
                pass
            else:
                raise AssertionError("a write was acknowledged after a failed sync")
            assert state_of(wal) == before

    def close(self, wal: Wal) -> None:
        try:
            wal.close()
        except (WalError, MemoryError) as error:
            check_error("close", error)
        else:
            assert not self.poisoned, "close said nothing of the failed sync"
            self.acknowledged = len(self.states) - 1


INJECTED = int(os.environ.get("INJECTED_ERRNO", "0"))


def check_error(name: str, error: BaseException) -> None:
    """The documented class, with the errno that was injected."""
    print(f"{name}: {type(error).__name__}: {error}")
    assert not isinstance(error, CorruptionError), error
    if isinstance(error, MemoryError):
        assert INJECTED == errno.ENOMEM
        return
    assert isinstance(error, WalError)
    assert error.errno == INJECTED, (error.errno, INJECTED, error)
    if INJECTED in (errno.ENOSPC, errno.EDQUOT):
        assert isinstance(error, (DiskFullError, SyncFailedError)), error
    else:
        assert not isinstance(error, DiskFullError), error


def main(path: Path, mode: str) -> None:
    logging.disable()
    run = Run(path, mode)
    wal = run.open()
    for number, (name, write, durable) in enumerate(STEPS):
        tries = 0
        while not run.step(wal, name, write, durable):
            run.close(wal)
            wal = run.open()
            tries += 1
            if tries == TRIES:  # each open has new threads, with calls counted anew
                run.close(wal)
                return
        if number % 7 == 6:
            run.close(wal)
            wal = run.open()
    run.close(wal)
    wal = run.open()
    run.close(wal)
    run.model.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
    print("held")
