"""One batch, durable: what a leader waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import PAYLOAD

from pylogwal import Entry, HardState, Wal


@pytest.mark.parametrize("count", [1, 16, 128, 1024])
def test_durable_append(benchmark: Any, directory: Path, count: int) -> None:
    with Wal(directory / "log") as wal:

        def setup() -> tuple[tuple[list[Entry]], dict[str, Any]]:
            first = wal.last_index() + 1
            return ([Entry(i, 1, PAYLOAD) for i in range(first, first + count)],), {}

        benchmark.pedantic(wal.persist_entries, setup=setup, rounds=200, warmup_rounds=10)


def test_durable_append_with_a_vote(benchmark: Any, directory: Path) -> None:
    state = HardState(1, "a", 1)
    with Wal(directory / "log") as wal:

        def setup() -> tuple[tuple[list[Entry], HardState], dict[str, Any]]:
            return ([Entry(wal.last_index() + 1, 1, PAYLOAD)], state), {}

        benchmark.pedantic(wal.persist_entries, setup=setup, rounds=200, warmup_rounds=10)
