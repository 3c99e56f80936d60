"""Draws the charts of docs/benchmarks.md from the JSON of bench/peers/run.py:
`python bench/charts.py build/peers/peers.json docs`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

Row = dict[str, Any]

OURS, FLOOR = "pylogwal", "C: pwrite + fdatasync"
INK, FAINT = "#222222", "#dddddd"
COLOURS = {"Python": "#c77c11", "Rust": "#00896a", "Go": "#8a5aa8", "C": "#555555"}
OUR_COLOUR = "#0057b7"
"""By language, from colours that are told apart without red and green, and by their brightness."""


class Drawing:
    """An SVG on a white ground, for light pages and dark ones."""

    def __init__(self, width: int, height: int, title: str, below: str = "") -> None:
        self.width, self.height = width, height
        font = 'font-family="Helvetica, Arial, sans-serif" font-size="12"'
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {font}>',
            f'<rect width="{width}" height="{height}" fill="white"/>',
        ]
        self.text(20, 26, title, size=16, bold=True)
        self.text(20, 45, below, colour="#555555")

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        colour: str = INK,
        anchor: str = "start",
        size: int = 12,
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" '
            f'font-size="{size}"{weight}>{escape(text)}</text>'
        )

    def path(
        self, points: Iterable[tuple[float, float]], colour: str, width: float = 1, dash: str = ""
    ) -> None:
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>'
        )

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" '
            f'rx="1.5" fill="{colour}"/>'
        )

    def dot(self, x: float, y: float, radius: float, fill: str, edge: str) -> None:
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{edge}" '
            'stroke-width="1.6"/>'
        )

    def svg(self) -> str:
        return "\n".join([*self._parts, "</svg>", ""])


def rounded(value: float) -> str:
    """To two digits, or as many as there are before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def milliseconds(value: float) -> str:
    return f"{rounded(value / 1000)} s" if value >= 1000 else f"{rounded(value)} ms"


class Stores:
    """Their names, colours and order, in all charts the same."""

    def __init__(self, report: dict[str, Any]) -> None:
        self._languages = {name: one["language"] for name, one in report["stores"].items()}

    def name(self, store: str) -> str:
        language = self._languages.get(store)
        return store if store in (OURS, FLOOR) else f"{store} ({language})"

    def colour(self, store: str) -> str:
        return OUR_COLOUR if store == OURS else COLOURS[self._languages.get(store, "C")]

    def label(self, drawing: Drawing, store: str, x: float, y: float, anchor: str = "end") -> None:
        drawing.text(
            x, y, self.name(store), colour=self.colour(store), anchor=anchor, bold=store == OURS
        )


def best_first(rows: list[Row], key: str, *, falling: bool = False) -> list[str]:
    """The floor at the head."""
    ordered = [
        row["store"] for row in sorted(rows, key=lambda row: -row[key] if falling else row[key])
    ]
    return sorted(ordered, key=lambda name: name != FLOOR)


def throughput(report: dict[str, Any], stores: Stores, *, durable: bool) -> str:
    """A panel for each size of batch; bars as long as the share of its fastest."""
    rows = [row for row in report["appends"] if row["durable"] is durable]
    batches = sorted({row["batch"] for row in rows})
    order = best_first([row for row in rows if row["batch"] == 1], "entries_per_s", falling=True)
    left, panel, step, top = 185, 175, 23, 84
    title = "Durable appends" if durable else "Appends without a sync"
    drawing = Drawing(
        left + panel * len(batches) + 20,
        top + step * len(order) + 14,
        f"{title}, entries a second",
        f"128 bytes each, one writer{'; a sync for each batch' if durable else ''}; "
        "each panel to the scale of its fastest",
    )
    for line, name in enumerate(order):
        stores.label(drawing, name, left - 10, top + line * step + 13)
    for column, batch in enumerate(batches):
        x = left + column * panel
        found = {row["store"]: row["entries_per_s"] for row in rows if row["batch"] == batch}
        longest = max(found.values())
        entries = "1 entry" if batch == 1 else f"{batch} entries"
        drawing.text(x, top - 10, f"{entries} a batch", bold=True)
        for line, name in enumerate(order):
            length = found[name] / longest * (panel - 62)
            y = top + line * step
            drawing.bar(x, y, length, step - 7, stores.colour(name))
            drawing.text(
                x + max(length, 1) + 5,
                y + 13,
                short(found[name]),
                colour=stores.colour(name),
                bold=name == OURS,
            )
        drawing.path([(x - 0.5, top - 3), (x - 0.5, top + step * len(order) - 4)], INK)
    return drawing.svg()


def latencies(report: dict[str, Any], stores: Stores) -> str:
    """Of batches of one entry: for each store the way from p50 to p99.9."""
    rows = {row["store"]: row for row in report["appends"] if row["durable"] and row["batch"] == 1}
    order = best_first(list(rows.values()), "p50_us")
    left, right, step, top = 185, 800, 26, 92
    low = min(row["p50_us"] for row in rows.values()) * 0.85
    high = max(row["p999_us"] for row in rows.values()) * 1.3
    drawing = Drawing(
        right + 30,
        top + step * len(order) + 12,
        "Latency of a durable append of one entry",
        "128 bytes, one writer; logarithmic",
    )

    def place(value: float) -> float:
        return left + math.log(value / low) / math.log(high / low) * (right - left)

    bottom = top + step * len(order)
    for power in range(1, 7):
        for digit in (1, 2, 5):
            value = digit * 10**power
            if low <= value <= high:
                drawing.path([(place(value), top - 8), (place(value), bottom)], FAINT)
                text = milliseconds(value / 1000) if value >= 1000 else f"{value} us"
                drawing.text(place(value), top - 14, text, anchor="middle", colour="#555555")
    for line, name in enumerate(order):
        y = top + line * step + 12
        colour = stores.colour(name)
        points = [place(rows[name][key]) for key in ("p50_us", "p99_us", "p999_us")]
        drawing.path([(points[0], y), (points[-1], y)], colour, 3 if name == OURS else 1.6)
        for x, fill in zip(points, (colour, "white", "white"), strict=True):
            drawing.dot(x, y, 5 if name == OURS else 4, fill, colour)
        drawing.dot(points[2], y, 1.5, colour, colour)
        stores.label(drawing, name, left - 10, y + 4)
    x = right - 190
    for text, fill, point in (("p50", INK, ""), ("p99", "white", ""), ("p99.9", "white", ".")):
        drawing.dot(x, 40, 4, fill, INK)
        if point:
            drawing.dot(x, 40, 1.5, INK, INK)
        drawing.text(x + 10, 44, text)
        x += 62
    return drawing.svg()


def reads(report: dict[str, Any], stores: Stores) -> str:
    found = {row["store"]: row["ms"] for row in report["reads"]}
    order = sorted(found, key=lambda name: found[name])
    left, right, step, top = 185, 700, 23, 64
    drawing = Drawing(
        right + 70,
        top + step * len(order) + 14,
        "10,000 entries read, milliseconds",
        "128 bytes each, into objects of the store's language; * from its own copy in memory",
    )
    for line, name in enumerate(order):
        y = top + line * step
        length = found[name] / max(found.values()) * (right - left)
        drawing.bar(left, y, length, step - 7, stores.colour(name))
        star = " *" if "memory" in report["stores"][name]["reads"] else ""
        drawing.text(
            left + length + 5,
            y + 13,
            f"{rounded(found[name])}{star}",
            colour=stores.colour(name),
            bold=name == OURS,
        )
        stores.label(drawing, name, left - 10, y + 13)
    drawing.path([(left - 0.5, top - 4), (left - 0.5, top + step * len(order))], INK)
    return drawing.svg()


class Axes:
    """Logarithmic on both sides."""

    def __init__(
        self, drawing: Drawing, xs: list[float], ys: list[float], right: float, top: float = 70
    ) -> None:
        self.drawing, self.right, self.top = drawing, right, top
        self.left, self.bottom = 75.0, drawing.height - 50.0
        self._xs = min(xs), max(xs)
        self._ys = 10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys)))

    def place(self, x: float, y: float) -> tuple[float, float]:
        def share(value: float, ends: tuple[float, float]) -> float:
            return math.log(value / ends[0]) / math.log(ends[1] / ends[0])

        return (
            self.left + 12 + share(x, self._xs) * (self.right - self.left - 12),
            self.bottom - share(y, self._ys) * (self.bottom - self.top),
        )

    def draw(self, xs: list[float], x_name: str, y_text: Any) -> None:
        low, high = (round(math.log10(end)) for end in self._ys)
        for power in range(low, high + 1):
            _, y = self.place(xs[0], 10.0**power)
            self.drawing.path([(self.left, y), (self.right + 8, y)], FAINT)
            self.drawing.text(self.left - 8, y + 4, y_text(10.0**power), anchor="end")
        for value in xs:
            x, _ = self.place(value, self._ys[0])
            self.drawing.text(x, self.bottom + 19, f"{value:,}", anchor="middle")
        middle = (self.left + self.right) / 2
        self.drawing.text(middle, self.bottom + 39, x_name, anchor="middle", colour="#555555")


def apart(wanted: dict[str, float], gap: float, lowest: float) -> dict[str, float]:
    """Heights as near to what is wanted as lets neighbours stand `gap` apart."""
    groups: list[tuple[list[str], float]] = []
    for name in sorted(wanted, key=lambda name: wanted[name]):
        groups.append(([name], wanted[name]))
        while len(groups) > 1:
            (above, at), (below, under) = groups[-2:]
            if at + (len(above) + len(below)) / 2 * gap <= under:
                break
            names = above + below
            middle = (at * len(above) + under * len(below)) / len(names)
            groups[-2:] = [(names, middle)]
    placed = {}
    for names, middle in groups:
        start = middle - (len(names) - 1) / 2 * gap
        start -= max(0, start + (len(names) - 1) * gap - lowest)
        placed |= {name: start + number * gap for number, name in enumerate(names)}
    return placed


def opens(report: dict[str, Any], stores: Stores) -> str:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in report["opens"]:
        series.setdefault(row["store"], []).append((row["entries"], row["ms"]))
    xs = sorted({x for points in series.values() for x, _ in points})
    drawing = Drawing(
        800,
        430,
        "Time to open a log that was closed",
        "from the page cache, the last entry read included; logarithmic",
    )
    axes = Axes(drawing, xs, [y for points in series.values() for _, y in points], 520)
    axes.draw(xs, "entries in the log", milliseconds)
    ends = {name: axes.place(*points[-1])[1] for name, points in series.items()}
    heights = apart(ends, 17, axes.bottom)
    for name in sorted(series, key=lambda name: name == OURS):
        colour, ours = stores.colour(name), name == OURS
        points = [axes.place(*point) for point in series[name]]
        drawing.path(points, colour, 4 if ours else 1.6)
        for x, y in points:
            drawing.dot(x, y, 4 if ours else 2.5, colour, colour)
        end_x, end_y = points[-1]
        drawing.path([(end_x + 7, end_y), (end_x + 30, heights[name])], colour, 0.7)
        text = f"{milliseconds(series[name][-1][1])}  {stores.name(name)}"
        drawing.text(end_x + 35, heights[name] + 4, text, colour=colour, bold=ours)
    return drawing.svg()


def group_commit(report: dict[str, Any]) -> str:
    rows = report["awaiters"]
    xs = [row["awaiters"] for row in rows]
    drawing = Drawing(
        740,
        400,
        "Group commit: durable entries a second",
        "by the number of tasks that each await an entry of 128 bytes; logarithmic",
    )
    ours = [(row["awaiters"], row["entries_per_s"]) for row in rows]
    floor = [(row["awaiters"], row["floor_per_s"]) for row in rows]
    axes = Axes(drawing, xs, [y for _, y in ours + floor], 620)
    axes.draw(xs, "awaiting tasks", short)
    below = [axes.place(*point) for point in floor]
    drawing.path(below, COLOURS["C"], 2, "6 4")
    x, y = below[-1]
    drawing.text(x, y + 20, f"{FLOOR}, one by one", colour=COLOURS["C"], anchor="end")
    points = [axes.place(*point) for point in ours]
    drawing.path(points, OUR_COLOUR, 4)
    for (x, y), (_, rate), (_, alone) in zip(points, ours, floor, strict=True):
        drawing.dot(x, y, 5, OUR_COLOUR, OUR_COLOUR)
        text = f"{short(rate)} ({rounded(rate / alone)} x)"
        drawing.text(x + 6, y + 20, text, colour=OUR_COLOUR, bold=True)
    x, y = points[-1]
    drawing.text(x + 12, y - 6, OURS, colour=OUR_COLOUR, bold=True)
    return drawing.svg()


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    report = json.loads(source.read_text())
    stores = Stores(report)
    charts = {
        "durable-throughput": throughput(report, stores, durable=True),
        "throughput-without-sync": throughput(report, stores, durable=False),
        "latency": latencies(report, stores),
        "range-reads": reads(report, stores),
        "open-time": opens(report, stores),
        "group-commit": group_commit(report),
    }
    for name, svg in charts.items():
        (target / f"{name}.svg").write_text(svg)


if __name__ == "__main__":
    main()
