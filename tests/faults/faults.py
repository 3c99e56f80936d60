"""Calls into the C library that fail: shim.c between the log and it, and processes to fail in.

A Python that has all imported and the shim beneath it waits for `Job`s, and forks for each: that is
a twentieth of the time that a new interpreter takes.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import processes
import pytest

HERE = Path(__file__).parent
PROCESSES = os.cpu_count() or 1


class Fault(NamedTuple):
    """The call of that number does not do what it was asked."""

    call: str
    error: str
    """A name of errno; "" with `part`: nothing fails."""
    part: bool
    """It transfers half of what was asked; then `error` is what the call after it fails with."""
    number: int

    def __str__(self) -> str:
        what = self.error or "nothing fails"
        return f"{self.call} {self.number}: {f'a part, then {what}' if self.part else what}"

    @property
    def errno(self) -> int:
        return int(getattr(errno, self.error)) if self.error else 0


class Job(NamedTuple):
    mode: str
    fault: Fault | None


class Outcome(NamedTuple):
    job: Job
    status: int
    """Of the process; negative: the signal that ended it."""
    output: str
    touched: int
    """Calls that did not do what they were asked."""
    seen: dict[str, int]
    """Calls on the log's files, by name."""

    def check(self) -> None:
        assert self.status == 0, f"{self.job.mode}, {self.job.fault}\n{self.output}"


def build_shim(directory: Path, source: str = "shim.c") -> Path:
    """Compiles it. Skips where it cannot be laid beneath a program."""
    if sys.platform != "linux":
        pytest.skip("LD_PRELOAD, and the names that the C library gives its functions")
    made = (directory / source).with_suffix(".so")
    compiler = os.environ.get("CC", "cc").split()
    flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*compiler, *flags, "-o", made, HERE / source], check=True)
    return made


def environment(shim: Path) -> dict[str, str]:
    """For a Python with the shim beneath it, that finds the tests' modules."""
    made = processes.environment()
    earlier = made.get("LD_PRELOAD", "").split()  # a sanitizer has to stay the first
    made["LD_PRELOAD"] = " ".join([*earlier, str(shim)])
    made["PYTHONPATH"] += os.pathsep + str(HERE)
    return made


def run_beneath(
    shim: Path, program: str, *arguments: object, timeout: float = processes.PATIENCE_S
) -> str:
    """What a program prints with the shim beneath it, once it has ended well."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment(shim),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Shim:
    """The shim beneath this process."""

    def __init__(self) -> None:
        self._c = ctypes.CDLL(None)
        self._c.shim_name.restype = ctypes.c_char_p

    def watch(self, directory: Path) -> None:
        """From now on the log is here. To be called before it is opened."""
        self._c.shim_watch(os.fsencode(directory))

    def choose(self, fault: Fault) -> None:
        done = self._c.shim_choose(fault.call.encode(), fault.number, fault.errno, fault.part)
        assert done == 0, fault

    def seen(self) -> dict[str, int]:
        found = {}
        for number in range(1000):
            name = self._c.shim_name(number)
            if name is None:
                break
            found[name.decode()] = self._c.shim_seen(number)
        return found

    def touched(self) -> int:
        return int(self._c.shim_touched())

    def low(self) -> int:
        """Calls that used a descriptor below 3 for a file of the log."""
        return int(self._c.shim_low())

    def slow(self, seconds: float) -> None:
        """From now on each fdatasync takes at least so long."""
        self._c.shim_slow(round(seconds * 1e6))

    def stop_clock(self) -> None:
        """From now on the log sees a clock that stands still, but for `advance`, and for what
        `slow` adds to it at the end of each fdatasync, which then is not slowed in fact. So the
        log's choices depend on the times that the test says, and not on the machine.

        Deadlines are still those of the real clock: not for INTERVAL, nor waits with a timeout.
        """
        self._c.shim_stop_clock()

    def advance(self, seconds: float) -> None:
        """Sets the log's clock forward, when no fdatasync is running. Blocks."""
        self._c.shim_advance(round(seconds * 1e6))

    @contextmanager
    def syncs_may_end(self) -> Iterator[None]:
        """With the clock stopped: after the first such block fdatasyncs end in these alone."""
        self._c.shim_shut_gate(False)
        try:
            yield
        finally:
            self._c.shim_shut_gate(True)

    def held(self, name: str) -> AbstractContextManager[None]:
        """The next fdatasync of that file waits inside the call until this ends."""
        return self._until_released(self._c.shim_hold, name.encode())

    def making_held(self) -> AbstractContextManager[None]:
        """The log gets no blocks for new files until this ends."""
        return self._until_released(self._c.shim_hold_making)

    def looks_held(self) -> AbstractContextManager[None]:
        """Who asks for the size of a file of the log waits until this ends."""
        return self._until_released(self._c.shim_hold_looks)

    def unmapping_held(self) -> AbstractContextManager[None]:
        """Who unmaps a file of the log waits until this ends."""
        return self._until_released(self._c.shim_hold_unmapping)

    @contextmanager
    def _until_released(self, hold: Callable[..., object], *arguments: bytes) -> Iterator[None]:
        hold(*arguments)
        try:
            yield
        finally:
            self._c.shim_release()

    def slow_removal(self, seconds: float) -> None:
        """From now on each removal of a file takes at least so long."""
        self._c.shim_slow_removal(round(seconds * 1e6))

    def is_held(self) -> bool:
        """Whether a call that is held has come."""
        return bool(self._c.shim_is_held())

    def wait_held(self) -> None:
        """Until a call that is held has come. Blocks."""
        self._c.shim_wait_held()


class Server:
    """A process that runs jobs, one at a time."""

    def __init__(self, shim: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, HERE / "fault_workload.py"],
            env=environment(shim),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, job: Job) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the process that runs the jobs has ended"
        return Outcome(job, *json.loads(answer))

    def close(self) -> None:
        self._process.communicate()


class Servers:
    """One for each processor."""

    def __init__(self, shim: Path) -> None:
        self._idle: SimpleQueue[Server] = SimpleQueue()
        for _ in range(PROCESSES):
            self._idle.put(Server(shim))

    def run(self, job: Job) -> Outcome:
        server = self._idle.get()
        try:
            return server.run(job)
        finally:
            self._idle.put(server)

    def run_all(self, jobs: Iterable[Job]) -> list[Outcome]:
        with ThreadPoolExecutor(PROCESSES) as pool:
            return list(pool.map(self.run, jobs))

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get().close()
