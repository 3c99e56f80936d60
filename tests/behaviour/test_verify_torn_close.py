"""What a power cut leaves of a close that was being written is no damage: nothing relies on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from stores import flip

from pylogwal import Entry, HardState, Wal
from pylogwal.verification import Verification

PAGE, SECTOR = 4096, 512
EXTRA = 192
"""Where the page holds the hard state's extra bytes, if nobody has the vote: docs/format.md."""


def closed(path: Path, extra: bytes, entries: int = 1) -> Path:
    """A closed log's only segment."""
    with Wal(path, segment_bytes=65536) as wal:
        wal.persist_entries([Entry(index, 1, bytes(100)) for index in range(1, entries + 1)])
        wal.save_hard_state(HardState(1, extra=extra))
    return path / f"{1:016x}.wal"


def entries_after(path: Path) -> int:
    with Wal(path) as wal:
        return wal.last_index()


@pytest.mark.parametrize("behind", [1, 2, 7, 300], ids="{}_bytes_in_the_second_sector".format)
@pytest.mark.parametrize("lost", [0, 1])
def test_a_sector_of_the_close_mark_that_was_not_written(
    lost: int, behind: int, tmp_path: Path
) -> None:
    segment = closed(tmp_path, b"B" * (SECTOR - EXTRA + behind))
    content = bytearray(segment.read_bytes())
    start = PAGE + lost * SECTOR
    assert any(content[start : start + SECTOR])
    content[start : start + SECTOR] = bytes(SECTOR)
    segment.write_bytes(content)
    assert list(Verification(str(tmp_path))) == []
    assert entries_after(tmp_path) == 1


@pytest.mark.parametrize("entries", [1, 2, 5])
def test_one_item_of_the_offset_index_that_a_later_writer_replaced(
    entries: int, tmp_path: Path
) -> None:
    """It opened the closed log, wrote, and stored an offset index of its own, of which a sector
    came to the disk and no other write did."""
    segment = closed(tmp_path, b"", entries)
    content = bytearray(segment.read_bytes())
    last = len(content) - PAGE - 4
    place = int.from_bytes(content[last : last + 4], "little")
    content[last : last + 4] = (place + 0x1111).to_bytes(4, "little")
    segment.write_bytes(content)
    assert list(Verification(str(tmp_path))) == []
    assert entries_after(tmp_path) == entries


def test_one_byte_of_it_is_damage(tmp_path: Path) -> None:
    segment = closed(tmp_path, b"")
    for at in (PAGE + EXTRA, segment.stat().st_size - PAGE - 4):
        flip(segment, at)
        found = list(Verification(str(tmp_path)))
        assert [finding.needed for finding in found] == [False]
        flip(segment, at)
