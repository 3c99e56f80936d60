"""What the benchmarks share: the C floor, scratch directories, entries, percentiles."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pylogwal import Entry, LogStore

HERE = Path(__file__).parent
MIB = 1024 * 1024


class Sample(NamedTuple):
    """Latencies of one round, in microseconds."""

    p50: float
    p99: float
    p999: float
    maximum: float
    seconds: float
    count: int

    @property
    def per_second(self) -> float:
        return self.count / self.seconds


def sample_of(times_ns: list[int]) -> Sample:
    ordered = sorted(times_ns)

    def share(part: float) -> float:
        return ordered[min(int(len(ordered) * part), len(ordered) - 1)] / 1000

    return Sample(
        share(0.5), share(0.99), share(0.999), ordered[-1] / 1000, sum(ordered) / 1e9, len(ordered)
    )


def sample(function: Callable[[list[Entry]], object], batches: list[list[Entry]]) -> Sample:
    """Calls it with each batch; how long each call took."""
    clock = time.perf_counter_ns
    times = []
    for batch in batches:
        start = clock()
        function(batch)
        times.append(clock() - start)
    return sample_of(times)


def make_batches(first: int, count: int, size: int, payload: int) -> list[list[Entry]]:
    """`count` batches of `size` entries, contiguous from index `first`, each of `payload` random
    bytes: nothing that a store could compress.
    """
    return [
        [Entry(index, 1, random.randbytes(payload)) for index in range(start, start + size)]
        for start in range(first, first + count * size, size)
    ]


class Program:
    """Another process, which answers each line on its input with a line of JSON."""

    def __init__(self, *command: str | Path) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._command = " ".join(map(str, command))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._lines, self._answers = self._process.stdin, self._process.stdout

    def ask(self, line: str) -> dict[str, Any]:
        self._lines.write(line + "\n")
        self._lines.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"{self._command} gave no answer")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def sample(self, line: str) -> Sample:
        row = self.ask(line)
        return Sample(*(row[name] for name in ANSWER))

    def close(self) -> None:
        """Waits for its end."""
        self._lines.close()
        self._answers.close()
        if self._process.wait() != 0:
            raise RuntimeError(f"{self._command} failed")


ANSWER = ("p50_us", "p99_us", "p999_us", "max_us", "seconds", "count")


class Floor:
    """floor.c, built on the spot: pwrite and fdatasync on a file that was filled before."""

    def __init__(self, directory: Path, file_bytes: int = 64 * MIB) -> None:
        program = directory / "floor"
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O2", "-o", program, HERE / "floor.c"], check=True)
        self._program = Program(program, directory / "floor.dat", str(file_bytes))

    def run(self, count: int, size: int) -> Sample:
        """`count` times `size` bytes, each made durable alone."""
        return self._program.sample(f"{count} {size}")

    def close(self) -> None:
        self._program.close()


HEADER_BYTES, COMMIT_BYTES = 40, 80
"""Of a frame, and of the COMMIT that ends a batch (docs/format.md)."""


def file_bytes(batch: int, payload: int) -> int:
    """What a batch adds to the log's file: what the floor has to write for it."""
    return batch * (HEADER_BYTES + (payload + 7) // 8 * 8) + COMMIT_BYTES


async def append_together(store: LogStore, awaiters: int, each: int) -> float:
    """So many tasks append `each` entries of 128 bytes, one by one, each awaited: entries/s."""
    following = store.last_index() + 1

    async def appender(payload: bytes) -> None:
        nonlocal following
        for _ in range(each):
            entry = Entry(following, 1, payload)
            following += 1
            await store.persist_entries([entry])

    start = time.perf_counter()
    await asyncio.gather(*(appender(os.urandom(128)) for _ in range(awaiters)))
    return awaiters * each / (time.perf_counter() - start)


@contextlib.contextmanager
def scratch(under: Path | None = None) -> Iterator[Path]:
    """A directory that is gone afterwards. A log may not be on a tmpfs, so not always in /tmp."""
    made = Path(tempfile.mkdtemp(prefix="pylogwal-bench-", dir=under))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def schedule_ahead_of_others() -> bool:
    """Where other programs want the same processors, a wake-up waits for the kernel's tick, 1 to 4
    ms, and nothing else is seen. As a real-time process (needs root) the benchmark and its floor
    are woken at once, as they are on a machine of their own.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
    except (AttributeError, PermissionError):
        return False
    return True


def device_bytes_written(path: Path) -> int | None:
    """By the whole block device that holds `path`, since boot; None where that is not known."""
    device = path.stat().st_dev
    try:
        fields = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text()
    except OSError:
        return None
    return int(fields.split()[6]) * 512
