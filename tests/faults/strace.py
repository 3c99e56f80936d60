"""Runs a program under strace, which fails chosen system calls on the files of one directory."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
CALLS = (
    "fdatasync",
    "fsync",
    "pwrite64",
    "pread64",
    "openat",
    "fallocate",
    "renameat2",
    "unlinkat",
    "mmap",
    "flock",
    "newfstatat,fstat",
    "getdents64",
)
FILES = 24
"""Numbers of segments and spares that a run can meet."""


class Injection(NamedTuple):
    """The call of that number, counted for each thread, fails so."""

    calls: str
    error: str
    number: int

    @property
    def errno(self) -> int:
        return int(getattr(errno, self.error))

    def option(self) -> str:
        return f"inject={self.calls}:error={self.error}:when={self.number}"


def require_strace() -> None:
    """Skips where there is none, but on CI, where it has to be."""
    if shutil.which("strace") is None:
        if os.environ.get("CI"):
            pytest.fail("strace is missing, and CI is set: install it")
        pytest.skip("strace is missing: system calls cannot be made to fail")
    probe = ["strace", "-o", "/dev/null", "-e", "trace=fsync", "true"]
    if subprocess.run(probe, capture_output=True).returncode != 0 and not os.environ.get("CI"):
        pytest.skip("strace cannot trace here: ptrace is not allowed")


def _paths(directory: Path) -> list[str]:
    names = ["LOCK"]
    for number in range(1, FILES):
        names += [f"{number:016x}.wal", f"{number:016x}.spare", f"8{number - 1:015x}.spare"]
    options = ["-P", str(directory)]
    for name in names:
        options += ["-P", str(directory / name)]
    return options


def traced(
    directory: Path, options: list[str], program: list[object], trace: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a Python program under strace; what is traced goes to the file `trace`."""
    tests = HERE.parent
    paths = os.pathsep.join([str(tests), str(tests / "format"), str(HERE), str(tests.parent)])
    command = ["strace", "-f", "-o", str(trace), *_paths(directory), *options, sys.executable]
    return subprocess.run(
        [*command, *map(str, program)],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def counted(trace: Path) -> dict[str, int]:
    """The most calls of each name that one thread made."""
    counts: dict[tuple[str, str], int] = {}
    for line in trace.read_text().splitlines():
        thread, _, rest = line.partition(" ")
        name, parenthesis, _ = rest.strip().partition("(")
        if parenthesis and name.isidentifier():
            counts[thread, name] = counts.get((thread, name), 0) + 1
    most: dict[str, int] = {}
    for (_, name), count in counts.items():
        most[name] = max(most.get(name, 0), count)
    return most


def injected(trace: Path) -> int:
    """How many calls were made to fail."""
    return trace.read_text().count("(INJECTED)")
