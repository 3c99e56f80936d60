"""What a segment roll costs the writes around it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pylogwal
from pylogwal import Entry, Wal

SEGMENT_BYTES = 131072  # of the smallest segments the next is made at once, with a sync more
PATIENCE_S = 30


def wait_for_successor(wal: Wal) -> None:
    """Until the file is there that the next roll will take; it is made in the background."""
    deadline = time.monotonic() + PATIENCE_S
    while wal.stats().spares == 0 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert wal.stats().spares > 0


def test_a_roll_shares_the_sync_of_the_batch_before_it(tmp_path: Path) -> None:
    with Wal(tmp_path, segment_bytes=SEGMENT_BYTES) as wal:
        for index in range(1, 401):
            before = wal.stats()
            wal.persist_entries([Entry(index, 1, b"x" * 1000)])
            # An eighth of the segment starts the making of the next; its own header's sync is
            # over by then.
            if index % 100 == 50:
                wait_for_successor(wal)
            assert wal.stats().syncs - before.syncs == 1
        assert wal.stats().segments >= 4
        assert [entry.index for entry in wal.get_entries(1, 400)] == list(range(1, 401))


def test_the_sync_thread_rolls_ahead_too(tmp_path: Path) -> None:
    async def run() -> None:
        async with pylogwal.open(tmp_path, segment_bytes=SEGMENT_BYTES) as store:
            for index in range(1, 401):
                before = store.stats().syncs
                await store.persist_entries([Entry(index, 1, b"x" * 1000)])
                if index % 100 == 50:
                    wait_for_successor(store.wal)
                assert store.stats().syncs - before == 1
            assert store.stats().segments >= 4

    asyncio.run(run())
    with Wal(tmp_path) as wal:
        assert wal.last_index() == 400
