"""Measures every row of the table of targets: `python bench/targets.py [--json] [--only WORD]`.

A row is a median of rounds that take turns with what it is compared to (the C floor, or the same
call under other conditions), so its ratio holds where absolute figures drift. The bytes that the
floor writes are those that reach the log's file: payloads, frame headers and COMMIT.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness import (
    MIB,
    Floor,
    append_together,
    device_bytes_written,
    file_bytes,
    make_batches,
    sample,
    sample_of,
    schedule_ahead_of_others,
    scratch,
)
from pylogwal._core import ffi, lib

import pylogwal
from pylogwal import Entry, LogId, Wal


@dataclass
class Row:
    """One measured target. `measured` and `target` are in `unit`."""

    what: str
    unit: str
    target: float
    at_most: bool
    rounds: list[float]
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> float:
        return statistics.median(self.rounds)

    @property
    def met(self) -> bool:
        return self.measured <= self.target if self.at_most else self.measured >= self.target


@dataclass
class Bench:
    """What the rows need."""

    directory: Path
    floor: Floor
    rounds: int
    _made: int = 0

    @contextlib.contextmanager
    def wal(self, **options: Any) -> Iterator[Wal]:
        with Wal(self.new_path(), **options) as wal:
            yield wal

    def new_path(self) -> Path:
        self._made += 1
        return self.directory / f"log{self._made}"


def batches_after(wal: Wal, count: int, size: int, payload: int) -> list[list[Entry]]:
    return make_batches(wal.last_index() + 1, count, size, payload)


def timed(function: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


# -- writing -------------------------------------------------------------------------------------


def durable(bench: Bench, batch: int, payload: int, target: float) -> Row:
    count = max(30, min(300, 20 * MIB // (file_bytes(batch, payload) * 2 * bench.rounds)))
    ratios, ours, floors = [], [], []
    with bench.wal() as wal:
        sample(wal.persist_entries, batches_after(wal, 20, batch, payload))
        for _ in range(2 * bench.rounds):
            batches = batches_after(wal, count, batch, payload)
            floors.append(bench.floor.run(count, file_bytes(batch, payload)).p50)
            ours.append(sample(wal.persist_entries, batches).p50)
            ratios.append(ours[-1] / floors[-1])
    return Row(
        f"durable, batch {batch}, {payload} B: p50",
        "x floor",
        target,
        True,
        ratios,
        {
            "p50_us": statistics.median(ours),
            "floor_p50_us": statistics.median(floors),
            "entries_per_s": batch / statistics.median(ours) * 1e6,
        },
    )


def manual(bench: Bench, batch: int, count: int, target: float) -> Row:
    rates = []
    with bench.wal(durability="manual", segment_bytes=256 * MIB) as wal:
        for _ in range(bench.rounds):
            batches = batches_after(wal, count, batch, 128)
            taken = timed(partial(deque, map(wal.persist_entries, batches), 0))
            rates.append(batch * count / taken / 1e6)
            wal.flush()
    return Row(f"MANUAL, batch {batch}, 128 B", "M entries/s", target, False, rates)


def one_awaiter(bench: Bench) -> Row:
    count = 300
    ratios, ours, floors = [], [], []

    async def run() -> None:
        async with pylogwal.open(bench.new_path()) as store:
            clock = time.perf_counter_ns
            for _ in range(bench.rounds + 1):
                floors.append(bench.floor.run(count, file_bytes(1, 128)).p50)
                times = []
                for batch in batches_after(store.wal, count, 1, 128):
                    start = clock()
                    await store.persist_entries(batch)
                    times.append(clock() - start)
                ours.append(sample_of(times).p50)
                ratios.append(ours[-1] / floors[-1])

    asyncio.run(run())
    detail = {"p50_us": statistics.median(ours[1:]), "floor_p50_us": statistics.median(floors[1:])}
    return Row("await persist_entries, one awaiter: p50", "x floor", 1.5, True, ratios[1:], detail)


def many_awaiters(bench: Bench) -> Row:
    awaiters, each = 64, 300
    ratios, ours = [], []

    async def run() -> None:
        async with pylogwal.open(bench.new_path()) as store:
            for _ in range(bench.rounds + 1):
                floor = bench.floor.run(200, file_bytes(1, 128)).per_second
                ours.append(await append_together(store, awaiters, each))
                ratios.append(ours[-1] / floor)

    asyncio.run(run())
    detail = {"entries_per_s": statistics.median(ours[1:])}
    return Row(
        "64 awaiters of one entry, durable: rate", "x floor rate", 25, False, ratios[1:], detail
    )


def rolling(bench: Bench) -> Row:
    count, payload = 3000, 1024
    with bench.wal(segment_bytes=MIB) as small, bench.wal(segment_bytes=256 * MIB) as large:
        for wal in (small, large):
            sample(wal.persist_entries, batches_after(wal, 200, 1, payload))
        rolls, steady = [], []
        for _ in range(bench.rounds):
            before = small.stats().segments
            rolls.append(sample(small.persist_entries, batches_after(small, count, 1, payload)))
            steady.append(sample(large.persist_entries, batches_after(large, count, 1, payload)))
            rolled = small.stats().segments - before
    ratios = [a.p999 / b.p999 for a, b in zip(rolls, steady, strict=True)]
    detail = {
        "p999_us": statistics.median(one.p999 for one in rolls),
        "without_p999_us": statistics.median(one.p999 for one in steady),
        "max_us": max(one.maximum for one in rolls),
        "without_max_us": max(one.maximum for one in steady),
        "rolls_a_round": rolled,
    }
    return Row("durable, 1 KiB, rolls every MiB: p99.9", "x without", 2, True, ratios, detail)


def cut(bench: Bench, what: str) -> Row:
    """truncate, and replace_range of one entry, against an append."""
    count = 100
    ratios = []
    with bench.wal() as wal:
        wal.persist_entries(batches_after(wal, 1, 5000, 128)[0])
        for _ in range(bench.rounds):
            appends, cuts = [], []
            for _ in range(count):
                last = wal.last_index()
                append = [Entry(last + 1, 1, b"x" * 128)]
                appends.append(timed(lambda append=append: wal.persist_entries(append)))
                if what == "truncate":
                    cuts.append(timed(lambda last=last: wal.truncate(last + 1)))
                else:
                    other = [Entry(last + 1, 1, b"y" * 128)]
                    cuts.append(timed(lambda last=last, o=other: wal.replace_range(last + 1, o)))
            ratios.append(statistics.median(cuts) / statistics.median(appends))
    return Row(f"{what} of 1 entry: p50", "x append", 1.2, True, ratios)


def device_bytes(bench: Bench, *, restarted: bool) -> Row | None:
    count = 300
    rows = []
    path = bench.new_path()
    with Wal(path) as wal:
        sample(wal.persist_entries, batches_after(wal, 200, 1, 128))
        for _ in range(bench.rounds):
            if restarted:
                wal.close()
                os.sync()
                descriptor = os.open(min(path.glob("*.wal")), os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)
                wal = Wal(path)
                wal.persist_entries(batches_after(wal, 1, 1, 128)[0])
            batches = batches_after(wal, count, 1, 128)
            before = device_bytes_written(bench.directory)
            sample(wal.persist_entries, batches)
            after = device_bytes_written(bench.directory)
            if before is None or after is None:
                return None
            rows.append((after - before) / count / 1024)
        wal.close()
    state = "after a restart" if restarted else "steady"
    return Row(
        f"device bytes per durable append, {state}",
        "KiB",
        12,
        True,
        rows,
        {"lowest": min(rows), "note": "counts what other programs write, too"},
    )


# -- reading -------------------------------------------------------------------------------------


def get_entries(bench: Bench) -> Row:
    with bench.wal(durability="manual") as wal:
        wal.persist_entries(batches_after(wal, 1, 20_000, 128)[0])
        kept: list[list[Entry]] = []
        read = partial(wal.get_entries, 5001, 15_000)
        fresh = [timed(lambda: kept.append(read())) * 1e3 for _ in range(bench.rounds * 4)]
        kept.clear()
        rows = [timed(read) * 1e3 for _ in range(bench.rounds * 4)]
    return Row(
        "get_entries of 10,000",
        "ms",
        1,
        True,
        rows,
        {"all_results_kept_ms": statistics.median(fresh)},
    )


def per_call_us(function: Callable[..., object], arguments: list[Any]) -> float:
    clock = time.perf_counter
    start = clock()
    for argument in arguments:
        function(argument)
    called = clock() - start
    start = clock()
    for _ in arguments:
        pass
    return (called - (clock() - start)) / len(arguments) * 1e6


def random_indices(count: int, highest: int) -> list[int]:
    return [random.randint(1, highest) for _ in range(count)]


def one_entry(bench: Bench) -> Row:
    with bench.wal(durability="manual") as wal:
        wal.persist_entries(batches_after(wal, 1, 100_000, 128)[0])
        rows = [
            per_call_us(wal.entry, random_indices(50_000, 100_000)) for _ in range(bench.rounds)
        ]
    return Row("Wal.entry at random", "us", 0.8, True, rows)


def one_awaited_entry(bench: Bench) -> Row:
    rows = []

    async def run() -> None:
        async with pylogwal.open(bench.new_path(), durability="manual") as store:
            await store.persist_entries(batches_after(store.wal, 1, 100_000, 128)[0])
            for _ in range(bench.rounds):
                indices = random_indices(50_000, 100_000)
                start = time.perf_counter()
                for index in indices:
                    await store.entry(index)
                rows.append((time.perf_counter() - start) / len(indices) * 1e6)

    asyncio.run(run())
    return Row("await store.entry at random", "us", 1.5, True, rows)


def last_index(bench: Bench) -> Row:
    rows = []
    with bench.wal(durability="manual") as wal:
        wal.persist_entries(batches_after(wal, 1, 10, 128)[0])
        function = wal.last_index
        for _ in range(bench.rounds):
            times = range(200_000)
            start = time.perf_counter()
            for _ in times:
                function()
            middle = time.perf_counter()
            for _ in times:
                pass
            end = time.perf_counter()
            rows.append(((middle - start) - (end - middle)) / len(times) * 1e9)
    return Row("last_index()", "ns", 100, True, rows)


class BusyThread:
    """A Python thread that never lets go of the interpreter's lock by itself."""

    def __init__(self) -> None:
        self._stop = False
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self._stop:
            number += 1

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()


def beside_busy_thread(bench: Bench, what: str) -> Row:
    """Time that the calls themselves take: the thread's own clock, as the interpreter gives the
    other thread its share between any two instructions, whatever is called.
    """
    with bench.wal(durability="manual") as wal:
        wal.persist_entries(batches_after(wal, 1, 10_000, 128)[0])
        calls: Callable[[], tuple[Callable[..., object], list[Any]]]
        if what == "entry":
            calls = lambda: (wal.entry, random_indices(40_000, 10_000))  # noqa: E731
        elif what == "last_index":
            calls = lambda: (lambda _: wal.last_index(), [None] * 100_000)  # noqa: E731
        else:
            calls = lambda: (wal.persist_entries, batches_after(wal, 20_000, 1, 128))  # noqa: E731
        nothing = [None] * 1_000_000

        def idle(_: object) -> None:
            return

        ratios, plain = [], []
        for _ in range(bench.rounds):
            function, arguments = calls()
            alone = timed(lambda f=function, a=arguments: [f(x) for x in a] and None)
            function, arguments = calls()
            base_alone = timed(lambda: [idle(x) for x in nothing])
            with BusyThread():
                beside = timed(lambda f=function, a=arguments: [f(x) for x in a] and None)
                base_beside = timed(lambda: [idle(x) for x in nothing])
            ratios.append(beside / alone)
            plain.append(base_beside / base_alone)
    return Row(
        f"{what} beside a busy thread",
        "x alone",
        3,
        True,
        ratios,
        {"a_plain_python_call": statistics.median(plain)},
    )


# -- opening and looking after files -------------------------------------------------------------


def fill(path: Path, count: int, payload: int = 128) -> None:
    data = b"p" * payload
    with Wal(path, durability="manual") as wal:
        for start in range(1, count + 1, 4096):
            end = min(start + 4096, count + 1)
            wal.persist_entries([Entry(index, 1, data) for index in range(start, end)])


MEMORY_OF_AN_OPEN_LOG = """
import sys
from pylogwal import Wal

def anonymous():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))

before = anonymous()
wal = Wal(sys.argv[1])
wal.get_entries(int(sys.argv[2]), int(sys.argv[2]))
print(anonymous() - before)
wal.close()
"""


def opening(bench: Bench, count: int, target_ms: float) -> list[Row]:
    path = bench.new_path()
    fill(path, count, payload=128 if count <= 1_000_000 else 16)
    rows, memory = [], []
    for _ in range(bench.rounds):
        start = time.perf_counter()
        wal = Wal(path)
        rows.append((time.perf_counter() - start) * 1e3)
        segments = wal.stats().segments
        wal.close()
        command = [sys.executable, "-c", MEMORY_OF_AN_OPEN_LOG, str(path), str(count // 2)]
        memory.append(int(subprocess.check_output(command)) / 1024)
    what = f"{count:,} entries"
    detail = {"segments": segments}
    return [
        Row(f"open {what}, warm, closed cleanly", "ms", target_ms, True, rows, detail),
        Row(f"memory outside mappings, {what} open", "MiB", 8, True, memory),
    ]


def recovery(bench: Bench) -> Row:
    """Of a log that was not closed, its tail warm: bytes walked by the time of the open."""
    rates, ratios = [], []
    for _ in range(bench.rounds):
        path = bench.new_path()
        child = os.fork()
        if child == 0:
            wal = Wal(path, durability="manual", segment_bytes=256 * MIB)
            data = b"p" * 1024
            for start in range(1, 180_001, 1000):
                wal.persist_entries([Entry(i, 1, data) for i in range(start, start + 1000)])
            wal.flush()
            os._exit(0)
        os.waitpid(child, 0)
        with Wal(path, read_only=True) as reader:
            stats = reader.core.stats()
            rates.append(stats.walked_bytes / stats.recovery_ns)
        start = time.perf_counter()
        wal = Wal(path, segment_bytes=256 * MIB)
        ratios.append(time.perf_counter() - start)
        wal.close()
        for file in path.iterdir():
            file.unlink()
    return Row(
        "recovery scan of an unclean tail, 1 KiB entries",
        "GB/s",
        3,
        False,
        rates,
        {"writable_open_of_190_mb_ms": statistics.median(ratios) * 1e3},
    )


def purging(bench: Bench) -> Row:
    rows = []
    for _ in range(bench.rounds):
        path = bench.new_path()
        fill(path, 1_000_000)
        with Wal(path) as wal:
            wal.persist_entries([Entry(1_000_001, 1, b"")])
            count = wal.stats().segments
            purge = timed(lambda wal=wal: wal.purge(LogId(500_000, 1)))
            sync = statistics.median(
                timed(lambda wal=wal, i=i: wal.persist_entries([Entry(i, 1, b"")]))
                for i in range(1_000_002, 1_000_042)
            )
            gone = count - wal.stats().segments
            rows.append((purge - sync) * 1e3)
        for file in path.iterdir():
            file.unlink()
    return Row(
        "purge half of 1 million, beyond one append",
        "ms",
        2,
        True,
        rows,
        {"segments_removed": gone},
    )


def crc(bench: Bench) -> Row:
    data = os.urandom(4096)
    buffer = ffi.from_buffer(data)
    rates = []
    for _ in range(bench.rounds):
        start = time.perf_counter()
        for _ in range(20_000):
            lib.lw_crc32c(0, buffer, 4096)
        middle = time.perf_counter()
        for _ in range(20_000):
            lib.lw_crc32c(0, buffer, 0)
        end = time.perf_counter()
        rates.append(4096 * 20_000 / ((middle - start) - (end - middle)) / 1e9)
    return Row("CRC32C on 4 KiB", "GB/s", 10, False, rates)


# -- the table -----------------------------------------------------------------------------------


def all_rows(bench: Bench) -> list[tuple[str, Callable[[], Row | list[Row] | None]]]:
    rows: list[tuple[str, Callable[[], Row | list[Row] | None]]] = []
    for payload, targets in ((128, (1.10, 1.10, 1.15, 1.25)), (1024, (1.15, 1.15, 1.25, 1.30))):
        for batch, target in zip((1, 16, 128, 1024), targets, strict=True):
            row = partial(durable, bench, batch, payload, target)
            rows.append((f"durable-{batch}-{payload}", row))
    rows += [
        ("manual-1", partial(manual, bench, 1, 100_000, 1.0)),
        ("manual-1024", partial(manual, bench, 1024, 200, 8.0)),
        ("await-1", partial(one_awaiter, bench)),
        ("await-64", partial(many_awaiters, bench)),
        ("roll", partial(rolling, bench)),
        ("get_entries", partial(get_entries, bench)),
        ("entry", partial(one_entry, bench)),
        ("await-entry", partial(one_awaited_entry, bench)),
        ("last_index", partial(last_index, bench)),
        ("busy-entry", partial(beside_busy_thread, bench, "entry")),
        ("busy-last_index", partial(beside_busy_thread, bench, "last_index")),
        ("busy-persist", partial(beside_busy_thread, bench, "MANUAL persist_entries of one")),
        ("open-1m", partial(opening, bench, 1_000_000, 5)),
        ("open-10m", partial(opening, bench, 10_000_000, 10)),
        ("recovery", partial(recovery, bench)),
        ("purge", partial(purging, bench)),
        ("truncate", partial(cut, bench, "truncate")),
        ("replace", partial(cut, bench, "replace_range")),
        ("device-steady", partial(device_bytes, bench, restarted=False)),
        ("device-restarted", partial(device_bytes, bench, restarted=True)),
        ("crc", partial(crc, bench)),
    ]
    return rows


def show(row: Row) -> str:
    sign = "<=" if row.at_most else ">="
    detail = ", ".join(
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.detail.items()
    )
    return (
        f"{row.what:<52} {sign} {row.target:<5g} {row.measured:9.3f} {row.unit:<13} "
        f"{'met' if row.met else 'NOT MET':<8} {detail}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, help="a directory on the disk to measure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", help="rows whose name contains this")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument(
        "--real-time", action="store_true", help="woken before other programs; needs root"
    )
    options = parser.parse_args()
    ahead = options.real_time and schedule_ahead_of_others()
    rows: list[Row] = []
    with scratch(options.dir) as directory, contextlib.closing(Floor(directory)) as floor:
        bench = Bench(directory, floor, options.rounds)
        for name, measure in all_rows(bench):
            if options.only and not any(word in name for word in options.only):
                continue
            made = measure()
            for row in made if isinstance(made, list) else [made] if made is not None else []:
                print(show(row), flush=True)
                rows.append(row)
    if not rows:
        parser.error("no such row; there are: " + ", ".join(name for name, _ in all_rows(bench)))
    if options.json:
        report = {
            "real_time_scheduling": ahead,
            "rounds": options.rounds,
            "rows": [asdict(row) | {"measured": row.measured, "met": row.met} for row in rows],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
