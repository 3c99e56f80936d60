"""Durable entries a second: the log, beside a plain loop that writes and syncs the same bytes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections import deque
from pathlib import Path

import pylogwal
from pylogwal.demo_model import Source
from pylogwal.types import Entry

__all__ = ["measure"]

BATCHES = 100
BATCH_ENTRIES = 32
ROUNDS = 4
IN_FLIGHT = 8
SEGMENT_BYTES = 16 * 1024 * 1024


def measure(directory: Path, source: Source) -> str:
    """The result as a line. Takes `ROUNDS` turns with each, so that a disk that changes its mind
    is the same to all. Blocks.
    """
    batches = [
        source.entries(1 + number * BATCH_ENTRIES, (number + 1) * BATCH_ENTRIES, term=1)
        for number in range(BATCHES)
    ]
    plain_s = single_s = many_s = 0.0
    for turn in range(ROUNDS):
        plain_s += plain_loop(directory / f"plain-{turn}", batches)
        single_s += asyncio.run(_log_loop(directory / f"one-{turn}", batches, 1))
        many_s += asyncio.run(_log_loop(directory / f"many-{turn}", batches, IN_FLIGHT))
    entries = ROUNDS * BATCHES * BATCH_ENTRIES
    return (
        f"durable entries/s, {BATCH_ENTRIES} lines a batch: {entries / single_s:,.0f} one batch at "
        f"a time, {entries / many_s:,.0f} with {IN_FLIGHT} in flight; "
        f"a plain loop of write and fdatasync {entries / plain_s:,.0f}"
    )


def plain_loop(path: Path, batches: list[list[Entry]]) -> float:
    """Seconds for the bytes alone: one write and one fdatasync a batch, into a file whose blocks
    are there already.
    """
    blocks = [b"".join([entry.payload for entry in batch]) for batch in batches]
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, bytes(sum(map(len, blocks))))
        os.fsync(descriptor)
        offset = 0
        started_s = time.perf_counter()
        for block in blocks:
            os.pwrite(descriptor, block, offset)
            _sync(descriptor)
            offset += len(block)
        return time.perf_counter() - started_s
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    full_sync = getattr(fcntl, "F_FULLFSYNC", None)
    if full_sync is not None:  # macOS, where fsync stops at the drive's cache
        fcntl.fcntl(descriptor, full_sync)
    else:
        os.fdatasync(descriptor)


async def _log_loop(directory: Path, batches: list[list[Entry]], in_flight: int) -> float:
    """Seconds for the same batches in a log, with so many on the way at once."""
    async with pylogwal.open(directory, segment_bytes=SEGMENT_BYTES) as store:
        waiting: deque[asyncio.Future[None]] = deque()
        started_s = time.perf_counter()
        for batch in batches:
            if len(waiting) == in_flight:
                await waiting.popleft()
            waiting.append(store.submit(batch))
        for future in waiting:
            await future
        return time.perf_counter() - started_s
