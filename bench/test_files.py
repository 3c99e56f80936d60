"""Opening a log, and giving its space back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import PAYLOAD

from pylogwal import Entry, LogId, Wal

SEGMENT_BYTES = 4 * 1024 * 1024


def fill(path: Path, count: int) -> None:
    with Wal(path, durability="manual", segment_bytes=SEGMENT_BYTES) as wal:
        for first in range(1, count, 4096):
            last = min(first + 4095, count)
            wal.persist_entries([Entry(index, 1, PAYLOAD) for index in range(first, last + 1)])


@pytest.mark.parametrize("count", [1_000, 200_000])
def test_open_and_close(benchmark: Any, directory: Path, count: int) -> None:
    fill(directory / "log", count)

    def open_and_close() -> None:
        Wal(directory / "log", segment_bytes=SEGMENT_BYTES).close()

    benchmark.pedantic(open_and_close, rounds=20, warmup_rounds=2)


def test_open_beside_the_writer(benchmark: Any, directory: Path) -> None:
    fill(directory / "log", 200_000)

    def open_and_close() -> None:
        Wal(directory / "log", read_only=True).close()

    benchmark.pedantic(open_and_close, rounds=20, warmup_rounds=2)


def test_purge_of_a_segment(benchmark: Any, directory: Path) -> None:
    fill(directory / "log", 400_000)
    with Wal(directory / "log", segment_bytes=SEGMENT_BYTES) as wal:
        a_segment = SEGMENT_BYTES // 168

        def setup() -> tuple[tuple[LogId], dict[str, Any]]:
            return (LogId(wal.first_index() + a_segment, 1),), {}

        benchmark.pedantic(wal.purge, setup=setup, rounds=10)
