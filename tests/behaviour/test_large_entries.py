"""An entry that takes long to read is not read in the event loop's thread, nor with its lock."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pylogwal
from pylogwal import Entry, WalLogStore, core
from pylogwal.core import LARGE_ENTRY_BYTES

MIB = 1024 * 1024
HUGE_BYTES = 64 * MIB
SMALL, LARGEST_SMALL, LARGE, HUGE = range(1, 5)
SIZES = {SMALL: 100, LARGEST_SMALL: LARGE_ENTRY_BYTES, LARGE: LARGE_ENTRY_BYTES + 1}
TRIES = 5


async def opened(path: Path) -> WalLogStore:
    store = await pylogwal.open(
        path, durability="manual", segment_bytes=4 * MIB, max_entry_bytes=HUGE_BYTES
    )
    await store.persist_entries([Entry(at, 1, bytes([at]) * size) for at, size in SIZES.items()])
    return store


@contextmanager
def threads_started() -> Iterator[list[str]]:
    names: list[str] = []

    def note(*_: object) -> None:
        names.append(threading.current_thread().name)
        sys.setprofile(None)

    threading.setprofile(note)
    try:
        yield names
    finally:
        threading.setprofile(None)


@pytest.mark.parametrize("bound", [True, False], ids=["", "as where there are no C functions"])
async def test_only_a_large_entry_is_read_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: bool
) -> None:
    if not bound:
        monkeypatch.setattr(core.Core, "_bind", lambda self: None)
    async with await opened(tmp_path / "log") as store:
        for index, size in SIZES.items():
            with threads_started() as names:
                entry = await store.entry(index)
            assert entry == Entry(index, 1, bytes([index]) * size)
            assert len(names) == (index == LARGE), (index, names)
            assert store.wal.entry(index) == entry
        with threads_started() as names:
            assert await store.entry(0) is None
            assert await store.entry(HUGE) is None
            assert await store.entry(2**70) is None
            with pytest.raises(TypeError):
                await store.entry(1.0)  # type: ignore[arg-type]
        assert names == []


async def longest_pause_and_whole_s(store: WalLogStore) -> tuple[float, float]:
    """Of a task that only yields, while the huge entry is read."""
    pauses_s: list[float] = []

    async def yields() -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(0)
            pauses_s.append(-(before - (before := time.monotonic())))

    task = asyncio.create_task(yields())
    await asyncio.sleep(0)
    pauses_s.clear()
    started = time.monotonic()
    entry = await store.entry(HUGE)
    whole_s = time.monotonic() - started
    task.cancel()
    assert entry is not None
    assert len(entry.payload) == HUGE_BYTES
    assert pauses_s, "the loop did not run at all"
    return max(pauses_s), whole_s


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="it copies with the lock held")
async def test_the_loop_runs_while_a_large_entry_is_read(tmp_path: Path) -> None:
    async with await opened(tmp_path / "log") as store:
        await store.persist_entries([Entry(HUGE, 1, bytes(HUGE_BYTES))])
        shares = []
        for _ in range(TRIES):
            pause_s, whole_s = await longest_pause_and_whole_s(store)
            shares.append(pause_s / whole_s)
            if shares[-1] < 0.25:
                return
        raise AssertionError(f"of the time that the read takes, the loop stood for {shares}")


async def test_a_large_entry_that_is_damaged_is_told_as_a_small_one_is(tmp_path: Path) -> None:
    async with await opened(tmp_path / "log") as store:
        (segment, *_) = sorted((tmp_path / "log").glob("*.wal"))
        with segment.open("r+b") as file:
            file.seek(8192 + 2 * LARGE_ENTRY_BYTES)  # in the payload of the large one
            file.write(b"\xff")
        with pytest.raises(pylogwal.CorruptionError) as raised:
            await store.entry(LARGE)
        assert raised.value.index == LARGE
        with pytest.raises(pylogwal.CorruptionError, match="entry 3 is lost"):
            store.wal.entry(LARGE)


async def test_a_read_that_nobody_waits_for_any_more_harms_nothing(tmp_path: Path) -> None:
    store = await opened(tmp_path / "log")
    reading = [asyncio.create_task(store.entry(LARGE)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in reading:
        task.cancel()
    assert all(
        isinstance(ended, asyncio.CancelledError)
        for ended in await asyncio.gather(*reading, return_exceptions=True)
    )
    late = asyncio.create_task(store.entry(LARGE))
    await asyncio.sleep(0)
    await store.aclose()
    (ended,) = await asyncio.gather(late, return_exceptions=True)
    assert isinstance(ended, (Entry, pylogwal.ClosedError))
    with pytest.raises(pylogwal.ClosedError):
        await store.entry(LARGE)


def test_a_large_entry_that_is_replaced_meanwhile_is_read_as_one_or_the_other(
    tmp_path: Path,
) -> None:
    versions = [Entry(1, term, bytes([term]) * (LARGE_ENTRY_BYTES + term)) for term in range(1, 40)]
    with pylogwal.Wal(tmp_path, durability="manual") as wal:
        wal.persist_entries(versions[:1])
        seen: list[Entry | None] = []

        def read() -> None:
            while not seen or seen[-1] != versions[-1]:
                seen.append(wal.entry(1))

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for version in versions[1:]:
            wal.replace_range(1, [version])
        for reader in readers:
            reader.join()
        assert all(entry in versions for entry in seen)
