"""Peers in one run: `python bench/peers/run.py [--json FILE]`. All take turns, round by round, in
an order that changes; a figure is the median of its rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from charts import FLOOR
from harness import Floor, Sample, append_together, file_bytes, scratch
from stores import KINDS, PAYLOAD, Kind, Store

import pylogwal

ROUNDS = 5
CALLS = {1: 2000, 16: 1000, 128: 300, 1024: 60}
AWAITERS = (1, 4, 16, 64, 256)
AWAITED = 4096
LOGS = (10_000, 100_000, 1_000_000)

Row = dict[str, Any]


def available(directory: Path, only: list[str]) -> dict[str, Kind]:
    """Those that are installed, and built."""
    kinds: dict[str, Kind] = {}
    for name, kind in KINDS.items():
        if only and name not in only:
            continue
        try:
            kind.open(directory / f"try {name}", True).close()
        except (ImportError, FileNotFoundError, RuntimeError) as error:
            print(f"without {name}: {error}")
        else:
            kinds[name] = kind
    return kinds


def in_turns(names: list[str], rounds: int) -> Iterator[tuple[str, bool]]:
    """Each name once a round, and whether it counts: the first round warms up."""
    for number in range(rounds + 1):
        for name in random.sample(names, len(names)):
            yield name, number > 0


@contextlib.contextmanager
def opened(kinds: dict[str, Kind], directory: Path, durable: bool) -> Iterator[dict[str, Store]]:
    """Each in a directory of its own."""
    directory.mkdir()
    stores = {name: kind.open(directory / name, durable) for name, kind in kinds.items()}
    yield stores
    for store in stores.values():
        store.close()


def appends(
    kinds: dict[str, Kind], directory: Path, rounds: int, batch: int, durable: bool
) -> list[Row]:
    calls = CALLS[batch]
    taken: defaultdict[str, list[Sample]] = defaultdict(list)
    kinds = {name: kind for name, kind in kinds.items() if durable or kind.no_sync}
    path = directory / f"append {batch} {durable}"
    with contextlib.closing(Floor(directory)) as floor, opened(kinds, path, durable) as stores:
        os.sync()
        for name, counts in in_turns([*stores, FLOOR] if durable else [*stores], rounds):
            if name == FLOOR:
                one = floor.run(calls, file_bytes(batch, PAYLOAD))
            else:
                one = stores[name].append(calls, batch)
            if counts:
                taken[name].append(one)
    return [
        {
            "store": name,
            "batch": batch,
            "durable": durable,
            "calls": calls,
            "entries_per_s": batch * statistics.median(one.per_second for one in samples),
            "entries_per_s_rounds": [batch * one.per_second for one in samples],
            "p50_us": statistics.median(one.p50 for one in samples),
            "p99_us": statistics.median(one.p99 for one in samples),
            "p999_us": statistics.median(one.p999 for one in samples),
        }
        for name, samples in taken.items()
    ]


def reads(kinds: dict[str, Kind], directory: Path, rounds: int) -> list[Row]:
    """10,000 from the middle of 20,000."""
    taken: defaultdict[str, list[float]] = defaultdict(list)
    kinds = {name: kind for name, kind in kinds.items() if kind.reads}
    with opened(kinds, directory / "read", durable=False) as stores:
        for store in stores.values():
            store.append(20, 1000)
        for name, counts in in_turns([*stores], 4 * rounds):
            seconds = stores[name].read(5001, 10_000)
            if counts:
                taken[name].append(seconds * 1e3)
    return [{"store": name, "ms": statistics.median(times)} for name, times in taken.items()]


def opens(kinds: dict[str, Kind], directory: Path, rounds: int) -> list[Row]:
    """Of logs that were closed, from the page cache."""
    rows = []
    held = 0
    directory = directory / "open"
    directory.mkdir()
    for size in LOGS:
        for name, kind in kinds.items():
            store = kind.open(directory / name, False)
            for _ in range(held, size, 10_000):
                store.append(10, 1000)
            store.close()
        held = size
        os.sync()
        taken: defaultdict[str, list[float]] = defaultdict(list)
        for name, counts in in_turns([*kinds], rounds):
            store = kinds[name].open(directory / name, False)
            store.close()
            if counts:
                taken[name].append(store.opened * 1e3)
        rows += [
            {"store": name, "entries": size, "ms": statistics.median(times)}
            for name, times in taken.items()
        ]
    return rows


async def group_commit(directory: Path, rounds: int) -> list[Row]:
    """Entries a second by the number of tasks that each await one entry, beside the floor's."""
    ours: defaultdict[int, list[float]] = defaultdict(list)
    alone: defaultdict[int, list[float]] = defaultdict(list)
    with contextlib.closing(Floor(directory)) as floor:
        async with pylogwal.open(directory / "awaiters") as store:
            for number in range(rounds + 1):
                for awaiters in AWAITERS:
                    one = floor.run(300, file_bytes(1, PAYLOAD)).per_second
                    rate = await append_together(store, awaiters, AWAITED // awaiters)
                    if number > 0:
                        alone[awaiters].append(one)
                        ours[awaiters].append(rate)
    return [
        {
            "awaiters": awaiters,
            "entries_per_s": statistics.median(ours[awaiters]),
            "floor_per_s": statistics.median(alone[awaiters]),
        }
        for awaiters in AWAITERS
    ]


def show(title: str, rows: list[Row], key: str, what: str, *, falling: bool = False) -> None:
    print(title)
    for row in sorted(rows, key=lambda row: row[key], reverse=falling):
        latencies = (
            f"   p50 {row['p50_us']:10.1f} us   p99 {row['p99_us']:10.1f} us"
            if "p50_us" in row
            else ""
        )
        print(f"  {row['store']:<24} {row[key]:>14,.2f} {what}{latencies}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--only", action="append", choices=KINDS, help="this store, and other --only"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    start = time.time()
    load = os.getloadavg()[0]
    with scratch(options.dir) as directory:
        kinds = available(directory, options.only or [])
        appended = []
        for durable in (True, False):
            for batch in CALLS:
                rows = appends(kinds, directory, options.rounds, batch, durable)
                title = f"{'durable' if durable else 'no sync'}, batches of {batch}"
                show(title, rows, "entries_per_s", "entries/s", falling=True)
                appended += rows
        read = reads(kinds, directory, options.rounds)
        show("10,000 entries read", read, "ms", "ms")
        open_times = opens(kinds, directory, options.rounds)
        for size in LOGS:
            rows = [row for row in open_times if row["entries"] == size]
            show(f"open {size:,} entries", rows, "ms", "ms")
        together = asyncio.run(group_commit(directory, options.rounds))
        for row in together:
            print("{awaiters:>4} awaiters {entries_per_s:>12,.0f} entries/s".format_map(row))
    report = {
        "date": time.strftime("%Y-%m-%d", time.gmtime(start)),
        "seconds": round(time.time() - start),
        "machine": f"{os.cpu_count()} processors, {platform.system()} {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}",
        "load_before": load,
        "rounds": options.rounds,
        "stores": {name: kind.described() for name, kind in kinds.items()},
        "appends": appended,
        "reads": read,
        "opens": open_times,
        "awaiters": together,
    }
    print(f"{report['seconds']} s; load {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
