"""Stores that nobody closes: what they held is let go, what they accepted stays."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import (
    descriptors,
    mapped_files,
    needs_proc,
    run_python,
    threads,
    threads_end,
)
from stores import SEGMENT_BYTES, run

import pylogwal
from pylogwal import LockedError, Wal, WalLogStore

OPTIONS = {"durability": "manual", "segment_bytes": SEGMENT_BYTES}


def let_go() -> None:
    for _ in range(3):
        gc.collect()


def assert_nothing_is_held(path: Path, running: set[int], before: dict[str, str]) -> None:
    assert threads_end(running)
    held = [name for name in descriptors().values() if name not in before.values()]
    assert held == []
    assert len(descriptors()) == len(before)
    assert mapped_files(path) == []
    with Wal(path) as wal:
        assert wal.get_entries(1, 9) == run(1, 5)


def test_a_handle_that_is_dropped_lets_go_of_everything(tmp_path: Path) -> None:
    running, before = threads(), descriptors()
    wal = Wal(tmp_path, **OPTIONS)
    wal.persist_entries(run(1, 5))
    assert len(threads() - running) == 2
    with pytest.warns(ResourceWarning, match="never closed") as kept:
        del wal
    assert_nothing_is_held(tmp_path, running, before)
    assert len(kept) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_store_that_a_finalizer_closes_lets_go_of_its_own_descriptors_only(
    tmp_path: Path,
) -> None:
    """The collector runs the finalizers of a cycle in any order."""
    loop = asyncio.new_event_loop()
    files: list[int] = []

    class Owner:
        def __init__(self, store: WalLogStore) -> None:
            self.store = store
            self.cycle = self

        def __del__(self) -> None:
            loop.run_until_complete(self.close())

        async def close(self) -> None:
            await asyncio.sleep(0.01)  # what the store's own finalizer asked the loop to do
            files.extend(os.open(tmp_path, os.O_RDONLY) for _ in range(4))
            await self.store.aclose()

    async def own() -> None:
        store = await pylogwal.open(tmp_path / "log")
        await store.persist_entries(run(1, 5))
        Owner(store)

    loop.run_until_complete(own())
    let_go()
    assert len(files) == 4
    for file in files:
        os.close(file)
    loop.close()


def test_a_handle_in_a_cycle_lets_go_when_it_is_collected(tmp_path: Path) -> None:
    running, before = threads(), descriptors()
    wal = Wal(tmp_path, **OPTIONS)
    wal.persist_entries(run(1, 5))
    cycle: list[Any] = [wal, wal.core.fast_persist]
    cycle.append(cycle)
    with pytest.warns(ResourceWarning, match="never closed"):
        del wal, cycle
        let_go()
    assert_nothing_is_held(tmp_path, running, before)


def test_a_store_that_is_dropped_in_its_loop_lets_go_of_everything(tmp_path: Path) -> None:
    async def main() -> None:
        running, before = threads(), descriptors()
        store = await pylogwal.open(tmp_path, **OPTIONS)
        await store.persist_entries(run(1, 5))
        await store.flush_async()
        with pytest.warns(ResourceWarning, match="never closed"):
            del store
            let_go()
        await asyncio.sleep(0)  # the loop lets go of its descriptor in its next turn
        assert_nothing_is_held(tmp_path, running, before)

    asyncio.run(main())


def test_a_store_that_is_dropped_after_its_loop_lets_go_of_everything(tmp_path: Path) -> None:
    running, before = threads(), descriptors()

    async def main() -> WalLogStore:
        store = await pylogwal.open(tmp_path, **OPTIONS)
        await store.persist_entries(run(1, 5))
        await store.flush_async()
        return store

    store = asyncio.run(main())
    with pytest.warns(ResourceWarning, match="never closed"):
        del store
        let_go()
    assert_nothing_is_held(tmp_path, running, before)


def test_a_store_that_is_dropped_while_a_write_waits_ends_it_first(tmp_path: Path) -> None:
    async def main() -> None:
        running, before = threads(), descriptors()
        store = await pylogwal.open(tmp_path, segment_bytes=SEGMENT_BYTES)
        future = store.submit(run(1, 5))
        with pytest.warns(ResourceWarning, match="never closed"):
            del store
            let_go()
        await future
        del future
        let_go()
        await asyncio.sleep(0)
        assert_nothing_is_held(tmp_path, running, before)

    asyncio.run(main())


def test_a_read_only_handle_that_is_dropped_lets_go_of_everything(tmp_path: Path) -> None:
    with Wal(tmp_path, **OPTIONS) as wal:
        wal.persist_entries(run(1, 5))
    running, before = threads(), descriptors()
    reader = Wal(tmp_path, read_only=True)
    assert reader.last_index() == 5
    with pytest.warns(ResourceWarning, match="never closed"):
        del reader
    assert_nothing_is_held(tmp_path, running, before)


def test_an_open_that_fails_lets_go_of_everything(tmp_path: Path) -> None:
    running = threads()
    with Wal(tmp_path, **OPTIONS) as wal:
        wal.persist_entries(run(1, 5))
        for _ in range(20):
            with pytest.raises(LockedError):
                Wal(tmp_path)
    assert threads_end(running)
    before = descriptors()
    segment = tmp_path / f"{1:016x}.wal"
    good = segment.read_bytes()
    segment.write_bytes(good[:4096])
    for read_only in (False, True):
        with pytest.raises(pylogwal.CorruptionError):
            Wal(tmp_path, read_only=read_only)
    segment.write_bytes(good)
    assert_nothing_is_held(tmp_path, running, before)


def test_the_lock_is_free_after_close_though_a_child_is_being_started(tmp_path: Path) -> None:
    """Between fork and exec a child that another thread starts holds copies of all descriptors."""
    source = """
import ctypes, os, sys
from pylogwal import Wal
libc = ctypes.CDLL(None)
wal = Wal(sys.argv[1])
read, write = os.pipe()
if os.uname().machine == "x86_64":
    child = libc.syscall(57)  # fork, without the handlers that os.fork runs
else:
    child = libc.syscall(220, 17, 0, 0, 0, 0)  # clone(SIGCHLD)
if child == 0:
    os.close(write)
    os.read(read, 1)
    os._exit(0)
os.close(read)
wal.close()
Wal(sys.argv[1]).close()
os.close(write)
os.waitpid(child, 0)
"""
    run_python(source, tmp_path / "log")


@needs_proc
def test_a_program_that_is_started_inherits_nothing(tmp_path: Path) -> None:
    source = "import os; print(*(os.readlink(f.path) for f in os.scandir('/proc/self/fd')\
 if os.path.lexists(f.path)))"
    with Wal(tmp_path / "log"):
        output = subprocess.run(
            [sys.executable, "-c", source], close_fds=False, capture_output=True, check=True
        ).stdout.decode()
    assert str(tmp_path) not in output
