"""`pylogwal bench`: how fast the log is on your disk, beside what the disk allows.

The floor is a Python loop of os.pwrite and os.fdatasync that writes as many bytes as the log does,
frames included, to a file whose blocks were written before. The log and the floor take turns, so a
disk that changes its mind is the same to both.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pylogwal.checks import INDEX_MAX
from pylogwal.scratch import temporary_directory
from pylogwal.types import Entry
from pylogwal.wal import Wal

if TYPE_CHECKING:
    from typing import TypeAlias

    Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001

__all__ = ["Latencies", "Result", "add_bench", "measure"]

MIB = 1024 * 1024
FLOOR_BYTES = 16 * MIB
ROUND_SECONDS = 0.1
CALLS_A_ROUND_MAX = 1000
FRAME_HEADER_BYTES, COMMIT_BYTES = 40, 80  # docs/format.md

_sync = getattr(os, "fdatasync", os.fsync)


@dataclass(frozen=True)
class Latencies:
    """Of one call, in microseconds."""

    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    calls: int


@dataclass(frozen=True)
class Result:
    """One payload and batch size."""

    payload_bytes: int
    batch_entries: int
    log: Latencies
    floor: Latencies
    entries_per_s: float
    payload_mb_per_s: float
    """10^6 bytes of payload."""
    entries_per_sync: float
    p50_against_floor: float


def measure(directory: Path, payload_bytes: int, batch_entries: int, seconds: float) -> Result:
    """Durable appends (BATCH) in a new log under `directory`, for about `seconds` in all, half of
    them for the floor. Blocks. The log and the floor's file stay.
    """
    stem = f"{payload_bytes}-{batch_entries}"
    batch_bytes = COMMIT_BYTES + batch_entries * (FRAME_HEADER_BYTES + (payload_bytes + 7) // 8 * 8)
    log_ns: list[int] = []
    floor_ns: list[int] = []
    floor = _Floor(directory / f"floor-{stem}", batch_bytes)
    try:
        with Wal(directory / f"log-{stem}") as wal:
            appender = _Appender(wal, os.urandom(payload_bytes), batch_entries)
            for _ in range(3):
                appender.append()
            before = wal.stats()
            end = time.perf_counter() + seconds
            while time.perf_counter() < end or not log_ns:
                _round(appender.append, log_ns)
                _round(floor.append, floor_ns)
            after = wal.stats()
    finally:
        floor.close()
    log, bottom = _latencies(log_ns), _latencies(floor_ns)
    entries_per_s = batch_entries * len(log_ns) / (sum(log_ns) / 1e9)
    return Result(
        payload_bytes=payload_bytes,
        batch_entries=batch_entries,
        log=log,
        floor=bottom,
        entries_per_s=entries_per_s,
        payload_mb_per_s=entries_per_s * payload_bytes / 1e6,
        entries_per_sync=(after.entries - before.entries) / max(1, after.syncs - before.syncs),
        p50_against_floor=log.p50_us / bottom.p50_us,
    )


class _Appender:
    """Appends batches; only the call itself is timed, not the making of the entries."""

    def __init__(self, wal: Wal, payload: bytes, batch_entries: int) -> None:
        self._wal = wal
        self._payload = payload
        self._count = batch_entries
        self._next = 1

    def append(self) -> int:
        first = self._next
        self._next += self._count
        batch = [Entry(index, 1, self._payload) for index in range(first, self._next)]
        start = time.perf_counter_ns()
        self._wal.persist_entries(batch)
        return time.perf_counter_ns() - start


class _Floor:
    """pwrite and fdatasync, one behind the other, from the start again at the file's end."""

    def __init__(self, path: Path, batch_bytes: int) -> None:
        self._data = os.urandom(batch_bytes)
        self._size = max(FLOOR_BYTES, batch_bytes)
        self._offset = 0
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            self._fill()
        except OSError as error:
            self.close()
            error.filename = str(path)
            raise

    def _fill(self) -> None:
        page = bytes(4096)
        for offset in range(0, self._size, len(page)):  # larger writes: larger, slower folios
            os.pwrite(self._file, page, offset)
        os.fsync(self._file)

    def append(self) -> int:
        if self._offset + len(self._data) > self._size:
            self._offset = 0
        start = time.perf_counter_ns()
        os.pwrite(self._file, self._data, self._offset)
        _sync(self._file)
        taken = time.perf_counter_ns() - start
        self._offset += len(self._data)
        return taken

    def close(self) -> None:
        os.close(self._file)


def _round(append: Callable[[], int], times_ns: list[int]) -> None:
    end = time.perf_counter() + ROUND_SECONDS
    for _ in range(CALLS_A_ROUND_MAX):
        times_ns.append(append())
        if time.perf_counter() >= end:
            break


def _latencies(times_ns: list[int]) -> Latencies:
    ordered = sorted(times_ns)
    last = len(ordered) - 1

    def share(part: float) -> float:
        return ordered[min(int(len(ordered) * part), last)] / 1000

    return Latencies(share(0.5), share(0.99), share(0.999), ordered[-1] / 1000, len(ordered))


# -- the command -----------------------------------------------------------------------------------


def add_bench(subparsers: Subparsers) -> None:
    """`pylogwal bench`."""
    text = (
        "Durable appends on your disk: latencies, entries per second, and beside them the floor, a "
        "Python loop of pwrite and fdatasync of as many bytes."
    )
    parser = subparsers.add_parser("bench", help=text, description=text)
    parser.add_argument(
        "--dir", metavar="DIR", type=Path, default=Path(), help="on the disk to measure (default .)"
    )
    parser.add_argument(
        "--payload",
        metavar="BYTES",
        type=_sizes(0, 16 * MIB),
        default=[128],
        help="of an entry; several with commas (default 128)",
    )
    parser.add_argument(
        "--batch",
        metavar="N",
        type=_sizes(1, 100_000),
        default=[1, 16, 128, 1024],
        help="entries; several with commas (default 1,16,128,1024)",
    )
    parser.add_argument(
        "--seconds", metavar="S", type=_seconds, default=2.0, help="for each row (default 2)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, when all is measured"
    )
    parser.set_defaults(run=_run)


def _sizes(low: int, high: int) -> Callable[[str], list[int]]:
    def parse(text: str) -> list[int]:
        try:
            sizes = [int(part) for part in text.split(",")]
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers") from None
        if not all(low <= size <= min(high, INDEX_MAX) for size in sizes):
            raise argparse.ArgumentTypeError(f"{text!r}: each has to be {low}..{high}")
        return sizes

    return parse


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0 and at most 3600")
    return seconds


def _run(options: argparse.Namespace) -> int:
    results: list[Result] = []
    for payload in options.payload:
        for batch in options.batch:
            with temporary_directory("pylogwal-bench-", options.dir) as directory:
                if not (results or options.json):
                    print(_HEADING, flush=True)
                results.append(measure(directory, payload, batch, options.seconds))
            if not options.json:
                print(_line(results[-1]), flush=True)
    if options.json:
        print(json.dumps({"results": [asdict(result) for result in results]}))
    else:
        print("latencies in us; floor: a Python loop of pwrite and fdatasync of as many bytes")
    return 0


_HEADING = (
    f"{'payload':>8} {'batch':>6} {'p50':>8} {'p99':>8} {'p99.9':>8} {'max':>8} {'entries/s':>11} "
    f"{'per sync':>8} {'MB/s':>7} {'floor p50':>9} {'p99':>8} {'p99.9':>8} {'max':>8} {'ratio':>6}"
)


def _line(result: Result) -> str:
    log, floor = result.log, result.floor
    return (
        f"{result.payload_bytes:>8} {result.batch_entries:>6} {log.p50_us:>8.0f} "
        f"{log.p99_us:>8.0f} {log.p999_us:>8.0f} {log.max_us:>8.0f} {result.entries_per_s:>11,.0f} "
        f"{result.entries_per_sync:>8.1f} {result.payload_mb_per_s:>7.1f} {floor.p50_us:>9.0f} "
        f"{floor.p99_us:>8.0f} {floor.p999_us:>8.0f} {floor.max_us:>8.0f} "
        f"{result.p50_against_floor:>6.2f}"
    )
