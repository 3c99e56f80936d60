"""The asyncio face: one task that waits, and many that share a sync."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from conftest import PAYLOAD

import pylogwal
from pylogwal import Entry, WalLogStore


@pytest.mark.parametrize("tasks", [1, 8, 64])
def test_awaited_append(benchmark: Any, directory: Path, tasks: int) -> None:
    """A round is one entry of each task."""
    with asyncio.Runner() as runner:
        store = runner.run(opened(directory))

        def one_round() -> None:
            runner.run(append(store, tasks))

        benchmark.pedantic(one_round, rounds=200, warmup_rounds=10)
        runner.run(store.aclose())


async def opened(directory: Path) -> WalLogStore:
    return await pylogwal.open(directory / "log")


async def append(store: WalLogStore, tasks: int) -> None:
    first = store.last_index() + 1
    await asyncio.gather(*(store.submit([Entry(first + i, 1, PAYLOAD)]) for i in range(tasks)))
