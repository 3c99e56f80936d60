"""Draws the charts of docs/benchmarks.md from the JSON of bench/peers/run.py:
`python bench/charts.py peers.json docs`.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 50
COLOURS = ["#c0392b", "#2471a3", "#1e8449", "#b9770e", "#7d3c98", "#5d6d7e", "#000000"]


def lines(
    title: str, series: dict[str, list[tuple[float, float]]], x_name: str, y_name: str
) -> str:
    """A chart with logarithmic axes; each series is a list of points, labelled at its end."""
    points = [point for row in series.values() for point in row]
    x_low, x_high = (math.log10(pick(x for x, _ in points)) for pick in (min, max))
    y_low = math.floor(math.log10(min(y for _, y in points)))
    y_high = math.ceil(math.log10(max(y for _, y in points)))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - x_low) / (x_high - x_low)
        up = (math.log10(y) - y_low) / (y_high - y_low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (
            HEIGHT - TOP - BOTTOM
        )

    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"'
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{title}</text>',
    ]
    for power in range(y_low, y_high + 1):
        _, y = place(points[0][0], 10**power)
        drawn.append(
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(10**power)}</text>'
        )
    for x_value in sorted({x for x, _ in points}):
        x, _ = place(x_value, 10**y_low)
        y = HEIGHT - BOTTOM
        drawn.append(f'<text x="{x:.1f}" y="{y + 18}" text-anchor="middle">{x_value:g}</text>')
    drawn.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{x_name}'
        f'</text><text x="14" y="{TOP - 6}">{y_name}</text>'
    )
    ends = sorted((place(*row[-1])[1], name) for name, row in series.items())
    label_y = 0.0
    for colour, (end, name) in zip(COLOURS, ends, strict=False):
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in series[name]))
        label_y = max(end + 4, label_y + 15)
        drawn.append(
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{WIDTH - RIGHT + 8}" y="{label_y:.1f}" fill="{colour}">{name}</text>'
        )
    return "\n".join([*drawn, "</svg>", ""])


def short(value: float) -> str:
    return (
        f"{value / 1e6:g}M"
        if value >= 1e6
        else f"{value / 1e3:g}k"
        if value >= 1e3
        else f"{value:g}"
    )


def throughput(rows: list[dict[str, Any]], *, durable: bool) -> str:
    series = defaultdict(list)
    for row in rows:
        if row["durable"] is durable:
            series[row["store"]].append((row["batch"], row["entries_per_s"]))
    title = "Durable appends, 128 bytes" if durable else "Appends without a sync, 128 bytes"
    return lines(title, series, "entries a batch", "entries/s")


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    appends = json.loads(source.read_text())["appends"]
    (target / "durable-throughput.svg").write_text(throughput(appends, durable=True))
    (target / "throughput-without-sync.svg").write_text(throughput(appends, durable=False))


if __name__ == "__main__":
    main()
