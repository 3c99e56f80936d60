"""What the benchmarks share: the C floor, scratch directories, entries, percentiles."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pylogwal import Entry

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


def make_batches(first: int, count: int, size: int, payload: bytes) -> list[list[Entry]]:
    """`count` batches of `size` entries, contiguous from index `first`, each payload an object of
    its own.
    """
    return [
        [Entry(index, 1, bytes(bytearray(payload))) for index in range(start, start + size)]
        for start in range(first, first + count * size, size)
    ]


class Floor:
    """floor.c, built on the spot: pwrite and fdatasync on a file that was filled before."""

    def __init__(self, directory: Path, file_bytes: int = 64 * MIB) -> None:
        program = directory / "floor"
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O2", "-o", program, HERE / "floor.c"], check=True)
        self._process = subprocess.Popen(
            [program, directory / "floor.dat", str(file_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, count: int, size: int) -> Sample:
        """`count` times `size` bytes, each made durable alone."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{count} {size}\n")
        process.stdin.flush()
        row = json.loads(process.stdout.readline())
        return Sample(
            row["p50_us"], row["p99_us"], row["p999_us"], row["max_us"], row["seconds"], count
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


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
