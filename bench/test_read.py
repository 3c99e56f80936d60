"""Entries out: one, many, and what a Raft node asks all the time: indices and terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import HELD, PAYLOAD

from pylogwal import Entry, Wal


def test_read_entry(benchmark: Any, wal: Wal) -> None:
    benchmark(wal.entry, 12_345)


def test_read_term(benchmark: Any, wal: Wal) -> None:
    benchmark(wal.term, 12_345)


def test_read_term_of_the_last_entry(benchmark: Any, wal: Wal) -> None:
    benchmark(wal.term, HELD)


def test_read_term_in_a_sealed_segment(benchmark: Any, directory: Path) -> None:
    with Wal(directory / "log", durability="manual", segment_bytes=1 << 20) as wal:
        for first in range(1, HELD, 1000):
            wal.persist_entries([Entry(i, 1, PAYLOAD) for i in range(first, first + 1000)])
        benchmark(wal.term, 1000)


def test_read_term_without_the_c_module(benchmark: Any, wal: Wal) -> None:
    benchmark(wal.core.term, 12_345)


@pytest.mark.parametrize("count", [1, 100, 10_000])
def test_read_range(benchmark: Any, wal: Wal, count: int) -> None:
    benchmark(wal.get_entries, 5001, 5000 + count)


def test_read_range_without_the_c_module(benchmark: Any, wal: Wal) -> None:
    benchmark(wal.core.read, 5001, 6000, 2**64 - 1)


@pytest.mark.parametrize("name", ["first_index", "last_index", "durable_index"])
def test_positions(benchmark: Any, wal: Wal, name: str) -> None:
    benchmark(getattr(wal, name))
