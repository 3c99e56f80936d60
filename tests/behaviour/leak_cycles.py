"""Opens, uses and closes a log again and again, and says what it holds more at the end than it did
when it was warm. A program of its own, so that nothing else is counted:

    python leak_cycles.py DIRECTORY KIND CYCLES [LEAK]

LEAK is lost on purpose, in each cycle or each hundredth: for the test of this test.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import mmap
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from processes import descriptors, threads, threads_end
from stores import SEGMENT_BYTES

import pylogwal
from pylogwal import CorruptionError, Entry, InvalidEntryError, LockedError, LogId, Wal

PAYLOAD = b"x" * 100


class Held(NamedTuple):
    """What a process has."""

    heap_bytes: int
    python_blocks: int
    descriptors: int
    mappings: int
    threads: int


class MallInfo(ctypes.Structure):
    """struct mallinfo2 of glibc, from 2.33 on."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "free_chunks", "fast_chunks", "maps")),
        *((name, ctypes.c_size_t) for name in ("mapped", "unused", "fast", "used", "free", "top")),
    ]


def fill_interned() -> None:
    """Lets the interpreter's table of interned strings reach its final size. The table keeps places
    of strings that are gone until it is full; it would grow by half a megabyte in some cycle.
    """
    for number in range(200_000):
        sys.intern(f"a string that nobody keeps, {number}")


def clear_type_cache() -> None:
    """The interpreter's cache of attribute lookups keeps the names that were looked up. A name that
    is made for each lookup (asyncio does, and C code that gives it as `char *`) takes a place that
    depends on its address, so the cache fills with copies by chance: up to 4,096 of them.
    """
    clear = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
    clear()


def held() -> Held:
    for _ in range(3):
        gc.collect()
    clear_type_cache()
    function = ctypes.CDLL(None).mallinfo2
    function.restype = MallInfo
    heap = function()
    return Held(
        heap_bytes=heap.used + heap.mapped,
        python_blocks=sys.getallocatedblocks(),
        descriptors=len(descriptors()),
        mappings=len(Path("/proc/self/maps").read_text().splitlines()),
        threads=len(threads()),
    )


# ---- what a cycle does ---------------------------------------------------------------------------


def cycle_of_a_handle(path: Path, index: int) -> None:
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries([Entry(index, 1, PAYLOAD)])
        assert wal.entry(index) is not None
        if index % 50 == 0:
            wal.purge(LogId(index, 1))


def cycle_of_a_store(path: Path, index: int) -> None:
    async def main() -> None:
        async with pylogwal.open(path, segment_bytes=SEGMENT_BYTES) as store:
            await store.persist_entries([Entry(index, 1, PAYLOAD)])
            assert store.get_entries(index, index)
            if index % 50 == 0:
                await store.purge(LogId(index, 1))

    asyncio.run(main())


def damaged_log(path: Path) -> Path:
    if not path.exists():
        Wal(path, segment_bytes=SEGMENT_BYTES).close()
        os.truncate(path / f"{1:016x}.wal", 4096)
    return path


def refused(error: type[Exception], function: Callable[..., object], *arguments: Any) -> None:
    try:
        function(*arguments)
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


def cycle_of_errors(path: Path, index: int) -> None:
    with Wal(path, segment_bytes=SEGMENT_BYTES, durability="manual") as wal:
        refused(LockedError, Wal, path)
        refused(InvalidEntryError, wal.persist_entries, [Entry(index, 1, PAYLOAD)] * 2)
        wal.persist_entries([Entry(index, 1, PAYLOAD)])
        if index % 50 == 0:
            wal.purge(LogId(index, 1))
    refused(CorruptionError, Wal, damaged_log(path.with_name("damaged")))
    refused(ValueError, lambda: Wal(path, segment_bytes=1))
    refused(pylogwal.WalError, lambda: Wal(path.with_name("none"), create=False))


CYCLES = {
    "handle": cycle_of_a_handle,
    "store": cycle_of_a_store,
    "errors": cycle_of_errors,
}


# ---- what can be lost ----------------------------------------------------------------------------

_lost: list[object] = []


def lose_memory(index: int) -> None:
    malloc = ctypes.CDLL(None).malloc
    malloc.restype = ctypes.c_void_p
    malloc(ctypes.c_size_t(64))


def lose_an_object(index: int) -> None:
    _lost.append(bytes(200 + index % 2))


def lose_a_descriptor(index: int) -> None:
    if index % 100 == 0:
        os.open("/dev/null", os.O_RDONLY)


def lose_a_mapping(index: int) -> None:
    if index % 100 == 0:  # every other one has other rights, or they would grow into one
        _lost.append(mmap.mmap(-1, 4096, prot=mmap.PROT_READ | index // 100 % 2 * mmap.PROT_WRITE))


def lose_a_thread(index: int) -> None:
    if index % 100 == 0:
        threading.Thread(target=threading.Event().wait, daemon=True).start()


LEAKS = {
    "heap_bytes": lose_memory,
    "python_blocks": lose_an_object,
    "descriptors": lose_a_descriptor,
    "mappings": lose_a_mapping,
    "threads": lose_a_thread,
}


def settle(leak: str | None) -> None:
    """Waits for the thread of an `aclose`, which ends a little after the loop does."""
    if leak != "threads":
        threads_end({threading.get_native_id()})


def main(directory: Path, kind: str, count: int, leak: str | None) -> None:
    logging.disable()
    cycle = CYCLES[kind]
    lose = LEAKS[leak] if leak else None

    def run(first: int, last: int) -> None:
        for index in range(first, last + 1):
            cycle(directory / kind, index)
            if lose is not None:
                lose(index)

    warm_up = count // 3
    fill_interned()
    run(1, warm_up)
    settle(leak)
    before = held()
    run(warm_up + 1, count)
    settle(leak)
    after = held()
    grown = {name: getattr(after, name) - getattr(before, name) for name in Held._fields}
    print(json.dumps(grown), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:5] or [None])
