"""What the interfaces give, and that the store in memory has all that the one on disk has."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import pylogwal
from pylogwal import Entry, LogId, LogStore, MemoryLogStore, MetaStore, Wal, WalLogStore
from pylogwal.memory import MemoryWal


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


async def test_replace_range_by_nothing_is_truncate_alone() -> None:
    for nothing in ([], (), iter([]), (entry for entry in ())):
        journal = Journal()
        await journal.replace_range(5, nothing)
        assert journal.calls == [("truncate", 5)]


async def test_replace_range_reads_an_iterator_once_and_before_anything_is_dropped() -> None:
    journal = Journal()
    await journal.replace_range(5, (Entry(i, 1) for i in (5, 6)))
    assert journal.calls == [("truncate", 5), ("persist_entries", [Entry(5, 1), Entry(6, 1)])]

    def broken() -> Iterator[Entry]:
        yield Entry(5, 1)
        raise LookupError

    journal = Journal()
    with pytest.raises(LookupError):
        await journal.replace_range(5, broken())
    assert journal.calls == []


async def test_replace_range_drops_nothing_where_one_entry_stands_in_place_of_a_list() -> None:
    journal = Journal()
    with pytest.raises(
        pylogwal.InvalidEntryError, match=r"one Entry, of index 5, .*pass \[entry\]"
    ):
        await journal.replace_range(5, Entry(5, 1))  # type: ignore[arg-type]
    assert journal.calls == []


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


OF_A_DISK = {"path", "verify"}
"""What of `Wal` means nothing without one; so do the first halves of its writes, `accept_...`."""


def calls_of(kind: type) -> dict[str, tuple[bool, list[tuple[str, object, object]]]]:
    """The public names of a class: whether it is awaited, and name, kind and default of each
    argument.
    """
    found = {}
    for name in dir(kind):
        value = getattr(kind, name)
        if name.startswith("_") and name not in ("__aenter__", "__enter__"):
            continue
        given = inspect.signature(value).parameters.values() if callable(value) else ()
        arguments = [(argument.name, argument.kind, argument.default) for argument in given]
        found[name] = inspect.iscoroutinefunction(value), arguments
    return found


def test_the_store_in_memory_has_every_call_of_the_store_on_disk() -> None:
    assert calls_of(MemoryLogStore) == calls_of(WalLogStore)


def test_the_log_in_memory_has_every_call_of_the_log_on_disk() -> None:
    on_disk = calls_of(Wal)
    for name in [name for name in on_disk if name in OF_A_DISK or name.startswith("accept")]:
        del on_disk[name]
    assert calls_of(MemoryWal) == on_disk


def test_open_shows_the_options_of_the_log() -> None:
    assert inspect.signature(pylogwal.open).parameters == inspect.signature(Wal).parameters


async def test_open_gives_a_coroutine(tmp_path: Path) -> None:
    async with await asyncio.create_task(pylogwal.open(tmp_path / "log")) as store:
        assert store.last_index() == 0
    opening = pylogwal.open(tmp_path / "log")
    await (await opening).aclose()
    with pytest.raises(RuntimeError, match="reuse"):
        await opening
    pylogwal.open(tmp_path / "log").close()


async def test_a_refresh_shows_the_store_in_memory_as_it_is() -> None:
    async with MemoryLogStore() as store:
        await store.persist_entries([Entry(1, 1)])
        await store.refresh()
        assert store.last_index() == 1


async def test_a_store_says_where_it_is_and_how_it_stands(tmp_path: Path) -> None:
    async with pylogwal.open(tmp_path / "log", durability="manual") as store:
        assert repr(store) == f"<pylogwal.WalLogStore on {store.wal!r}>"
        assert repr(store.wal) == f"<pylogwal.Wal {str(tmp_path / 'log')!r} (manual)>"
    assert repr(store.wal).endswith("(closed)>")
