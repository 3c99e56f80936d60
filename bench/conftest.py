"""Logs to measure, in a directory that is gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import scratch

from pylogwal import Entry, Wal

PAYLOAD = b"p" * 128
HELD = 20_000


@pytest.fixture
def directory() -> Iterator[Path]:
    with scratch() as made:
        yield made


@pytest.fixture
def wal(directory: Path) -> Iterator[Wal]:
    """MANUAL, with `HELD` entries."""
    with Wal(directory / "log", durability="manual") as opened:
        opened.persist_entries([Entry(index, 1, PAYLOAD) for index in range(1, HELD + 1)])
        opened.flush()
        yield opened
