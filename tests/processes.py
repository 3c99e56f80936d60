"""Python in processes of its own, for what must not happen in the one that tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing_extensions import Self

HERE = Path(__file__).parent

NO_PROC = None if Path("/proc/self/fd").is_dir() else "/proc is not mounted"
"""Why a test that needs it is skipped."""
needs_proc = pytest.mark.skipif(NO_PROC is not None, reason=NO_PROC or "")

PATIENCE_S = 120
"""For what should take a second: nothing but a hang lasts longer."""


def environment() -> dict[str, str]:
    """For a Python that finds the modules of the tests."""
    paths = [str(HERE), str(HERE / "format"), str(HERE.parent)]
    earlier = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *([earlier] if earlier else [])])}


def in_memory(size: int = 64 << 20) -> Path | None:
    """/dev/shm, where there is such a thing that can be written and has `size` bytes free. For what
    is not about the disk and would wait for it thousands of times.
    """
    place = Path("/dev/shm")
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        return None
    return place if shutil.disk_usage(place).free >= size else None


def memory() -> tempfile.TemporaryDirectory[str]:
    """A directory in memory if possible."""
    return tempfile.TemporaryDirectory("", "pylogwal-", in_memory())


def _proc(name: str) -> Path:
    """That of this process. Skips the test where there is none."""
    if NO_PROC is not None:
        pytest.skip(NO_PROC)
    return Path("/proc/self", name)


def run_python(
    source: str, *arguments: object, status: int = 0, wrapper: tuple[str, ...] = ()
) -> str:
    """Runs a program to its end and returns what it printed. It must end with `status` (negative:
    the signal that killed it).
    """
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", source, *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Fatal Python error" not in done.stderr, done.stderr
    return done.stdout


class Child:
    """A program that runs beside the test. What it prints is read line by line."""

    def __init__(self, source: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", source, *map(str, arguments)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin = self.process.stdin
        self.stdout = self.process.stdout

    def line(self) -> str:
        """The next line that it prints; "" when it has ended."""
        return self.stdout.readline().rstrip("\n")

    def tell(self, line: str = "") -> None:
        """Gives it a line."""
        self.stdin.write(line + "\n")
        self.stdin.flush()

    def kill(self) -> list[str]:
        """kill -9. Returns what it had printed and nobody had read."""
        self.process.send_signal(signal.SIGKILL)
        return self.end()[0]

    def end(self) -> tuple[list[str], int]:
        """Waits for its end: the lines left, and its status."""
        lines = self.stdout.read().splitlines()
        status = self.process.wait(PATIENCE_S)
        self.stdout.close()
        self.stdin.close()
        return lines, status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        if not self.stdout.closed:
            self.end()


_PF_EXITING = 0x4


def threads() -> set[int]:
    """The threads of this process, those of C included. Not those that are on their way out of the
    kernel: one that was joined may be listed as long as the processor has other work.
    """
    found = set()
    for path in list(_proc("task").iterdir()):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if not int(fields[6]) & _PF_EXITING:
            found.add(int(path.name))
    return found


def threads_end(before: set[int]) -> bool:
    """Whether all threads end that were not there before. Waits for those that nobody joins."""
    until = time.monotonic() + PATIENCE_S
    while not threads() <= before and time.monotonic() < until:
        time.sleep(0.001)
    return threads() <= before


def descriptors() -> dict[str, str]:
    """The open descriptors of this process, and what each refers to."""
    found = {}
    for path in list(_proc("fd").iterdir()):
        try:
            found[path.name] = str(path.readlink())
        except FileNotFoundError:  # of the listing itself
            continue
    return found


def mapped_files(directory: Path) -> list[str]:
    """The files of a directory that this process has mapped, removed ones included."""
    lines = _proc("maps").read_text().splitlines()
    return [line for line in lines if f"{directory}/" in line]
