"""A close mark that one open did not believe is not there for a later one to believe."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pylogwal import CorruptionError, Entry, Wal

MARK = slice(4096, 8192)
COMMIT_SIZE = 80
NAME = "0000000000000001.wal"


def test_a_mark_that_a_power_cut_left_is_zeroed_by_the_open_that_does_not_believe_it(
    tmp_path: Path,
) -> None:
    with Wal(tmp_path / "log", segment_bytes=65536, spare_segments=0) as wal:
        wal.persist_entries([Entry(1, 1, b"first")])
        closed_at = wal.core.segments()[0].end
    mark = (tmp_path / "log" / NAME).read_bytes()[MARK]
    assert any(mark)

    # The first batch of the next open, of which a power cut kept the EPOCH, but not the COMMIT and
    # not the zeros over the mark.
    with Wal(tmp_path / "log", segment_bytes=65536, spare_segments=0) as wal:
        wal.persist_entries([Entry(2, 1, b"torn")])
        end = wal.core.segments()[0].end
        shutil.copytree(tmp_path / "log", tmp_path / "cut")
    segment = tmp_path / "cut" / NAME
    data = bytearray(segment.read_bytes())
    data[MARK] = mark
    data[end - COMMIT_SIZE : end] = bytes(COMMIT_SIZE)
    segment.write_bytes(data)

    with Wal(tmp_path / "cut", segment_bytes=65536, spare_segments=0) as wal:
        assert wal.last_index() == 1
        assert not any(segment.read_bytes()[MARK])
        wal.persist_entries([Entry(i, 1, b"acknowledged") for i in range(2, 50)])
        wal.persist_entries([Entry(50, 1, b"acknowledged")])
        shutil.copytree(tmp_path / "cut", tmp_path / "killed")

    segment = tmp_path / "killed" / NAME
    data = bytearray(segment.read_bytes())
    data[closed_at] ^= 1
    segment.write_bytes(data)
    with pytest.raises(CorruptionError) as caught:
        Wal(tmp_path / "killed")
    assert caught.value.first_index == 2
    assert segment.read_bytes() == bytes(data)
