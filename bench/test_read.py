"""Entries out: one, many, and the index alone."""

from __future__ import annotations

from typing import Any

import pytest

from pylogwal import Wal


def test_read_entry(benchmark: Any, wal: Wal) -> None:
    benchmark(wal.entry, 12_345)


def test_read_term(benchmark: Any, wal: Wal) -> None:
    benchmark(wal.term, 12_345)


@pytest.mark.parametrize("count", [1, 100, 10_000])
def test_read_range(benchmark: Any, wal: Wal, count: int) -> None:
    benchmark(wal.get_entries, 5001, 5000 + count)


def test_read_range_without_the_c_module(benchmark: Any, wal: Wal) -> None:
    benchmark(wal.core.read, 5001, 6000, 2**64 - 1)


def test_last_index(benchmark: Any, wal: Wal) -> None:
    benchmark(wal.last_index)
