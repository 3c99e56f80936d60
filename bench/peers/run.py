"""Peers in one run: `python bench/peers/run.py [--json FILE]`. All take turns, round by round."""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness import Floor, make_batches, sample, scratch
from stores import PEERS, Peer

PAYLOAD = b"p" * 128
ROUNDS = 5
CALLS = {1: 100, 16: 100, 128: 50, 1024: 15}
FLOOR = "C: pwrite + fdatasync"


def open_all(directory: Path, durable: bool) -> dict[str, Peer]:
    """Each in a directory of its own; those that are installed."""
    directory.mkdir()
    stores: dict[str, Peer] = {}
    for name, make in PEERS.items():
        with contextlib.suppress(ImportError):
            stores[name] = make(directory / name, durable)
    return stores


def measure(directory: Path, batch: int, durable: bool) -> list[dict[str, Any]]:
    """Appends: medians of rounds that take turns."""
    stores = open_all(directory / f"{batch}-{durable}", durable)
    floor = Floor(directory) if durable else None
    rounds = defaultdict(list)
    following = 1
    for number in range(ROUNDS + 1):
        batches = make_batches(following, CALLS[batch], batch, PAYLOAD)
        following += CALLS[batch] * batch
        for name, store in stores.items():
            taken = sample(store.append, batches)
            if number > 0:
                rounds[name].append(taken)
        if floor is not None:
            rounds[FLOOR].append(floor.run(CALLS[batch], batch * (40 + 128) + 80))
    for store in stores.values():
        store.close()
    if floor is not None:
        floor.close()
    return [
        {
            "store": name,
            "batch": batch,
            "durable": durable,
            "entries_per_s": batch * statistics.median(one.per_second for one in taken),
            "p50_us": statistics.median(one.p50 for one in taken),
            "p99_us": statistics.median(one.p99 for one in taken),
        }
        for name, taken in rounds.items()
    ]


def reads(directory: Path) -> list[dict[str, Any]]:
    rows = []
    for name, store in open_all(directory / "read", durable=False).items():
        for entries in make_batches(1, 20, 1000, PAYLOAD):
            store.append(entries)
        times = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            found = store.read(5001, 15_000)
            times.append(time.perf_counter() - start)
            assert len(found) == 10_000
        store.close()
        rows.append({"store": name, "read_10000_ms": statistics.median(times) * 1e3})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, help="on the disk to measure")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    appends = []
    with scratch(options.dir) as directory:
        for durable in (True, False):
            for batch in CALLS:
                rows = measure(directory, batch, durable)
                appends += rows
                print(f"{'durable' if durable else 'no sync'}, batches of {batch}")
                for row in sorted(rows, key=lambda row: -row["entries_per_s"]):
                    print(
                        f"  {row['store']:<24} {row['entries_per_s']:>12,.0f} entries/s  "
                        f"p50 {row['p50_us']:>8.1f} us  p99 {row['p99_us']:>8.1f} us"
                    )
        ranges = reads(directory)
        print("10,000 entries read")
        for row in sorted(ranges, key=lambda row: row["read_10000_ms"]):
            print(f"  {row['store']:<24} {row['read_10000_ms']:>8.2f} ms")
    if options.json:
        options.json.write_text(json.dumps({"appends": appends, "reads": ranges}, indent=1) + "\n")


if __name__ == "__main__":
    main()
