"""A log too large to be read at open."""

from __future__ import annotations

from pathlib import Path

from pylogwal import Entry, LogId, Wal

COUNT, STEP = 300_000, 5_000
SEGMENT_BYTES = 4 << 20


def entries_of(first: int) -> list[Entry]:
    return [Entry(i, 1, b"%064d" % i) for i in range(first, first + STEP)]


def disk_bytes(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in directory.iterdir())


def test_a_large_log_is_opened_unread_purged_by_half_and_read_back_whole(tmp_path: Path) -> None:
    with Wal(tmp_path, durability="manual", segment_bytes=SEGMENT_BYTES) as wal:
        for first in range(1, COUNT, STEP):
            wal.persist_entries(entries_of(first))
    before = disk_bytes(tmp_path)

    with Wal(tmp_path, segment_bytes=SEGMENT_BYTES) as wal:
        assert wal.core.stats().walked_bytes == 0
        assert (wal.first_index(), wal.last_index()) == (1, COUNT)
        segments = wal.stats().segments
        assert segments > 6
        wal.purge(LogId(COUNT // 2, 1))
        freed = before - disk_bytes(tmp_path)
        # Half of the segments, but for the one in the middle and the one that became a spare.
        assert freed >= (segments // 2 - 2) * SEGMENT_BYTES
        assert wal.first_index() == COUNT // 2 + 1
        for first in range(COUNT // 2 + 1, COUNT, STEP):
            assert wal.get_entries(first, first + STEP - 1) == entries_of(first)

    with Wal(tmp_path, segment_bytes=SEGMENT_BYTES) as wal:
        assert wal.core.stats().walked_bytes == 0
        assert wal.load_purge_boundary() == LogId(COUNT // 2, 1)
        assert wal.entry(COUNT) == entries_of(COUNT - STEP + 1)[-1]
