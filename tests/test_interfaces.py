"""LogStore's provided methods have the trait's own defaults."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pylogwal import Entry, LogId, LogStore, MetaStore


class Journal(LogStore):
    """A store that has only what is required, and writes down what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []

    async def persist_entries(self, entries: Iterable[Entry]) -> None:
        self.calls.append(("persist_entries", list(entries)))

    async def entry(self, index: int) -> Entry | None:
        return None

    def get_entries(self, first: int, last: int, max_bytes: int | None = None) -> list[Entry]:
        return []

    async def purge(self, cutoff: LogId) -> None:
        self.calls.append(("purge", cutoff))

    async def truncate(self, from_index: int) -> None:
        self.calls.append(("truncate", from_index))

    def is_write_durable(self) -> bool:
        return True

    async def reset(self) -> None:
        self.calls.append(("reset", None))

    def last_index(self) -> int:
        return 0


async def test_replace_range_is_truncate_and_then_persist() -> None:
    journal = Journal()
    await journal.replace_range(5, [Entry(5, 1)])
    assert journal.calls == [("truncate", 5), ("persist_entries", [Entry(5, 1)])]


async def test_flush_does_nothing_and_there_is_no_boundary() -> None:
    journal = Journal()
    journal.flush()
    await journal.flush_async()
    assert journal.load_purge_boundary() is None
    assert journal.calls == []


def test_an_interface_alone_makes_no_store() -> None:
    with pytest.raises(TypeError, match="abstract"):
        LogStore()  # type: ignore[abstract]
    with pytest.raises(TypeError, match="abstract"):
        MetaStore()  # type: ignore[abstract]
