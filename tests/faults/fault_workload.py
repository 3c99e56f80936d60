"""Every operation of a log, while one call into the system or another fails under it; holds what
comes of it to the contract. A program, with shim.c beneath it, that reads `Job`s, one a line, and
answers with `Outcome`s. Each runs in a fork, which ends with status 0 where every rule held:

- a refused write leaves the state as it was, unless it is SyncFailedError: then it may be there,
  and from then on every write is that error, also the same one tried again;
- nothing that was acknowledged is lost, over a reopen too; nothing that was not written is there;
- everything can be read at any time; nothing is ever called corrupt.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from faults import Fault, Job, Shim
from processes import memory
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
from pylogwal.memory import MemoryWal

SEGMENT_BYTES = 65536
PATIENCE_S = 100

HARMLESS = {
    **dict.fromkeys(("close", "faccessat"), "EIO EINTR"),
    **dict.fromkeys(("openat", "pread", "flock", "fsync", "fdatasync"), "EINTR"),
    "pwrite": "EINTR",
    "posix_fallocate": "EINTR EOPNOTSUPP EINVAL",
    "fallocate": "EINTR EOPNOTSUPP EINVAL ENOSYS",
    "renameat2": "EINVAL ENOSYS",
    "unlinkat": "EIO EACCES",
}
"""What nobody may notice: it is tried again, there is another way, or there is no need."""

Write = Callable[[Wal | MemoryWal], None]


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

    One call fails, so whatever is refused is taken when it is tried again.
    """

    def __init__(self, path: Path, mode: str, fault: Fault | None) -> None:
        self.path = path
        self.mode = mode
        self.fault = fault
        self.states = [BLANK]
        self.acknowledged = 0
        self.model = MemoryWal()
        self.poisoned = False

    def open(self, **options: bool) -> Wal:
        def once() -> Wal:
            return Wal(self.path, durability=self.mode, segment_bytes=SEGMENT_BYTES, **options)

        try:
            return once()
        except (WalError, MemoryError) as error:
            self.check_error("open", error)
        return once()

    def open_for_writing(self) -> Wal:
        wal = self.open()
        self.poisoned = False
        found = state_of(wal)
        assert found in self.states[self.acknowledged :], ("after open", found)
        self.states = [found]
        self.acknowledged = 0
        self.model = MemoryWal()
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
        try:
            write(wal)
        except SyncFailedError as error:
            self.check_error(name, error)
            found = state_of(wal)
            assert found in (before, expected), (name, found)
            if found != before:
                self.states.append(found)
            self.poisoned = True
            self.check_poisoned(wal, write)
            return False
        except (WalError, MemoryError) as error:
            self.check_error(name, error)
            assert state_of(wal) == before, (name, "the state changed, though it was refused")
            write(wal)
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

    def look(self, wal: Wal) -> None:
        """A reader beside the writer sees what the writer sees, also when it looks again."""
        with self.open(read_only=True) as reader:
            assert state_of(reader) == state_of(wal)
            try:
                reader.refresh()
            except (WalError, MemoryError) as error:
                self.check_error("refresh", error)
            assert state_of(reader) == state_of(wal)

    def close(self, wal: Wal) -> None:
        try:
            wal.close()
        except (WalError, MemoryError) as error:
            self.check_error("close", error)
        else:
            assert not self.poisoned, "close said nothing of the failed sync"
            self.acknowledged = len(self.states) - 1

    def check_error(self, name: str, error: BaseException) -> None:
        """The documented class, with the errno of the call that failed."""
        print(f"{name}: {type(error).__name__}: {error}")
        assert self.fault is not None, "nothing was made to fail"
        call, reason = self.fault.call, self.fault.error
        assert reason, "nothing was made to fail"
        assert reason not in HARMLESS.get(call, "").split(), "nobody should have noticed"
        if isinstance(error, MemoryError):
            assert reason == "ENOMEM"
            return
        assert isinstance(error, WalError)
        assert not isinstance(error, CorruptionError)
        assert error.errno == self.fault.errno
        if isinstance(error, SyncFailedError):
            assert call in ("fdatasync", "fsync", "pwrite_nothing")
        else:
            assert isinstance(error, DiskFullError) == (reason in ("ENOSPC", "EDQUOT"))


def hold(path: Path, mode: str, fault: Fault | None) -> None:
    run = Run(path, mode, fault)
    wal = run.open_for_writing()
    for number, (name, write, durable) in enumerate(STEPS):
        while not run.step(wal, name, write, durable):
            run.close(wal)
            wal = run.open_for_writing()
        if number % 7 == 6:
            run.look(wal)
            run.close(wal)
            wal = run.open_for_writing()
    run.close(wal)
    run.close(run.open_for_writing())


def child(job: Job, work: Path) -> None:
    """Holds one log to the contract, and leaves in `work` what it met."""
    output = os.open(work / "output", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
    shim = Shim()
    shim.watch(work / "log")
    if job.fault is not None:
        shim.choose(job.fault)
    hold(work / "log", job.mode, job.fault)
    (work / "counts").write_text(json.dumps([shim.touched(), shim.seen()]))


def run(job: Job) -> list[object]:
    """Does a job in a fork. What an `Outcome` holds besides the job."""
    with memory() as name:
        work = Path(name)
        process = os.fork()
        if process == 0:
            status = 1
            try:
                child(job, work)
                status = 0
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        counts = json.loads((work / "counts").read_text()) if status == 0 else [0, {}]
        return [status, (work / "output").read_text(), *counts]


def main() -> None:
    logging.disable()
    for line in sys.stdin:
        mode, fault = json.loads(line)
        print(json.dumps(run(Job(mode, fault and Fault(*fault)))), flush=True)


if __name__ == "__main__":
    main()
