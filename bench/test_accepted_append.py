"""One batch, accepted: all but the disk."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import PAYLOAD

from pylogwal import Entry, Wal


@pytest.mark.parametrize("count", [1, 16, 1024])
def test_accepted_append(benchmark: Any, wal: Wal, count: int) -> None:
    def setup() -> tuple[tuple[list[Entry]], dict[str, Any]]:
        first = wal.last_index() + 1
        return ([Entry(i, 1, PAYLOAD) for i in range(first, first + count)],), {}

    benchmark.pedantic(wal.persist_entries, setup=setup, rounds=300, warmup_rounds=10)


def test_entries_that_are_there_already(benchmark: Any, wal: Wal) -> None:
    benchmark(wal.persist_entries, wal.get_entries(1, 1024))
