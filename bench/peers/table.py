"""Prints the tables of docs/benchmarks.md from the JSON of run.py:
`python bench/peers/table.py build/peers/peers.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from charts import FLOOR, OURS, best_first, rounded, short

Row = dict[str, Any]


def table(head: list[str], rows: list[list[str]]) -> None:
    for row in [head, ["---"] + ["--:"] * (len(head) - 1), *rows]:
        print("| " + " | ".join(row) + " |")
    print()


def strong(name: str) -> str:
    return f"**{name}**" if name == OURS else name


def cells(rows: list[Row], key: str, names: list[str], columns: list[int], show: Any) -> list[Any]:
    """A line for each store, a column for each value of `key`."""
    found = {(row["store"], row[key]): row for row in rows}
    return [[strong(name), *(show(found[name, one]) for one in columns)] for name in names]


def appends(report: Row, *, durable: bool) -> None:
    rows = [row for row in report["appends"] if row["durable"] is durable]
    batches = sorted({row["batch"] for row in rows})
    order = best_first([row for row in rows if row["batch"] == 1], "entries_per_s", falling=True)
    state = "durable" if durable else "no sync"
    print(f"Entries a second, {state}, by the size of the batch; p50 in us in brackets:\n")

    def show(row: Row) -> str:
        return f"{short(row['entries_per_s'])} ({rounded(row['p50_us'])})"

    table([state, *map(str, batches)], cells(rows, "batch", order, batches, show))


def latencies(report: Row) -> None:
    rows = [row for row in report["appends"] if row["durable"] and row["batch"] == 1]
    found = {row["store"]: row for row in rows}
    print("Latency of a durable append of one entry, us:\n")
    table(
        ["durable, 1 entry", "p50", "p99", "p99.9"],
        [
            [strong(name), *(rounded(found[name][key]) for key in ("p50_us", "p99_us", "p999_us"))]
            for name in best_first(rows, "p50_us")
        ],
    )


def reads_and_opens(report: Row) -> None:
    read = {row["store"]: row["ms"] for row in report["reads"]}
    opened = {(row["store"], row["entries"]): row["ms"] for row in report["opens"]}
    sizes = sorted({row["entries"] for row in report["opens"]})
    print("Milliseconds to read 10,000 entries, and to open a log of so many:\n")
    table(
        ["", "read 10,000", *(f"open {size:,}" for size in sizes)],
        [
            [
                strong(name),
                rounded(read[name]) if name in read else "cannot",
                *(rounded(opened[name, size]) for size in sizes),
            ]
            for name in best_first(
                [row for row in report["opens"] if row["entries"] == sizes[-1]], "ms"
            )
        ],
    )


def group_commit(report: Row) -> None:
    rows = report["awaiters"]
    print("Durable entries a second of so many tasks that each await one entry:\n")
    table(
        ["awaiting tasks", *(str(row["awaiters"]) for row in rows)],
        [
            [strong(OURS), *(short(row["entries_per_s"]) for row in rows)],
            [f"{FLOOR}, one by one", *(short(row["floor_per_s"]) for row in rows)],
        ],
    )


def stores(report: Row) -> None:
    print("What each was told:\n")
    for name, one in report["stores"].items():
        no_sync = one["no_sync"] or "cannot be told so, and is left out"
        reads = one["reads"] or "cannot read a range: all entries are read when it is opened"
        print(f"- {name} {one['version']} ({one['language']}). Durable: {one['durable']}.")
        print(f"  No sync: {no_sync}. Reads: {reads}.")
    print()


def conditions(report: Row) -> None:
    spread = []
    for row in report["appends"]:
        if row["store"] == FLOOR:
            rates = row["entries_per_s_rounds"]
            spread.append(f"{short(min(rates))} to {short(max(rates))}")
    print(
        f"{report['date']}: {report['machine']}; {report['rounds']} rounds, {report['seconds']} s; "
        f"load {report['load_before']:.1f} before.\nThe floor's rounds, from the slowest to the "
        f"fastest: {', '.join(spread)} entries/s."
    )


def main() -> None:
    report = json.loads(Path(sys.argv[1]).read_text())
    appends(report, durable=True)
    latencies(report)
    appends(report, durable=False)
    reads_and_opens(report)
    group_commit(report)
    stores(report)
    conditions(report)


if __name__ == "__main__":
    main()
