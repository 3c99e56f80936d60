"""Many at once: threads, tasks, and the fdatasyncs that they share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from stores import SEGMENT_BYTES, run

import pylogwal
from pylogwal import ConflictError, Entry, Wal

THREADS, TASKS, EACH = 6, 40, 60
MODES = ("batch", "interval", "manual")


def in_threads(*works: Callable[[], None]) -> None:
    """Runs them all at once; raises the first failure."""
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def append_at_the_end(wal: Wal, payload: bytes) -> int:
    """Appends wherever the log ends at this moment, once it is free."""
    while True:
        index = wal.last_index() + 1
        try:
            wal.persist_entries([Entry(index, 1, payload)])
        except ConflictError:  # another thread was first
            continue
        return index


@pytest.mark.parametrize("mode", MODES)
def test_no_update_of_any_thread_is_lost(tmp_path: Path, mode: str) -> None:
    written: dict[int, bytes] = {}

    def work(wal: Wal, number: int) -> None:
        for count in range(EACH):
            payload = b"%d/%d " % (number, count) + b"x" * 200
            index = append_at_the_end(wal, payload)
            assert wal.last_index() >= index
            assert wal.entry(index) == Entry(index, 1, payload)
            assert index not in written
            written[index] = payload

    with Wal(tmp_path / "log", durability=mode, segment_bytes=SEGMENT_BYTES) as wal:
        in_threads(*(lambda number=n: work(wal, number) for n in range(THREADS)))
        assert wal.stats().entries == THREADS * EACH
    with Wal(tmp_path / "log") as wal:
        found = wal.get_entries(1, 2**64 - 1)
    assert [entry.index for entry in found] == list(range(1, THREADS * EACH + 1))
    assert {entry.index: entry.payload for entry in found} == written


@pytest.mark.parametrize("mode", MODES)
async def test_no_update_of_any_task_is_lost(tmp_path: Path, mode: str) -> None:
    written: dict[int, bytes] = {}
    options = {"durability": mode, "segment_bytes": SEGMENT_BYTES}
    async with pylogwal.open(tmp_path / "log", **options) as store:

        async def work(number: int) -> None:
            for count in range(EACH // 3):
                payload = b"%d/%d " % (number, count) + b"x" * 300
                while True:
                    index = store.last_index() + 1
                    try:
                        await store.persist_entries([Entry(index, 1, payload)])
                        break
                    except ConflictError:  # it met a roll, and another task was before it
                        continue
                assert await store.entry(index) == Entry(index, 1, payload)
                assert index not in written
                written[index] = payload

        await asyncio.gather(*(work(number) for number in range(TASKS)))
        found = store.get_entries(1, 2**64 - 1)
        assert {entry.index: entry.payload for entry in found} == written
    with Wal(tmp_path / "log") as wal:
        assert wal.get_entries(1, 2**64 - 1) == found


@pytest.mark.parametrize("segment_bytes", [SEGMENT_BYTES, 1 << 22])
def test_an_entry_is_readable_as_soon_as_it_counts_and_from_then_on(
    tmp_path: Path, segment_bytes: int
) -> None:
    count = 600

    def payload(index: int) -> bytes:
        return b"%d " % index * (index % 90 + 1)

    def write(wal: Wal) -> None:
        for index in range(1, count + 1):
            wal.persist_entries([Entry(index, 1, payload(index))])
            assert wal.last_index() == index

    def read(wal: Wal) -> None:
        seen = 0
        while seen < count:
            last = wal.last_index()
            assert last >= seen
            if last > seen:
                assert wal.entry(last) == Entry(last, 1, payload(last))
            found = wal.get_entries(max(1, seen - 50), 2**64 - 1)
            assert last == 0 or found[-1].index >= last
            expected = range(max(1, seen - 50), len(found) + max(1, seen - 50))
            assert found == [Entry(index, 1, payload(index)) for index in expected]
            seen = last

    with Wal(tmp_path / "log", durability="manual", segment_bytes=segment_bytes) as wal:
        in_threads(lambda: write(wal), *([lambda: read(wal)] * 3))


async def test_tasks_that_wait_at_once_share_a_sync(tmp_path: Path) -> None:
    async with pylogwal.open(tmp_path / "log") as store:
        await store.persist_entries(run(1, 1))
        before = store.stats()
        await asyncio.gather(*(store.persist_entries(run(n, n)) for n in range(2, 502)))
        after = store.stats()
        assert after.batches - before.batches == 500
        # How many share one depends on the disk; exactly: tests/faults/test_a_sync_that_lasts.py.
        assert after.syncs - before.syncs < 500
        assert store.durable_index() == 501


def test_threads_that_wait_at_once_share_a_sync(tmp_path: Path) -> None:
    with Wal(tmp_path / "log") as wal:
        in_threads(
            *([lambda: [append_at_the_end(wal, b"x") for _ in range(EACH)] and None] * THREADS)
        )
        stats = wal.stats()
        assert stats.batches == THREADS * EACH
        assert stats.syncs < stats.batches


async def test_a_task_that_only_reads_is_not_held_up_by_one_that_writes(tmp_path: Path) -> None:
    async with pylogwal.open(tmp_path / "log") as store:
        future = store.submit(run(1, 100))
        assert [entry.index for entry in store.get_entries(1, 100)] == list(range(1, 101))
        assert await store.entry(100) == run(100, 100)[0]
        await future
