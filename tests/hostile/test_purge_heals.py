"""What a CorruptionError advises is true: a purge past the damaged range heals the log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from stores import SEGMENT_BYTES, copy_beside_writer, run

from pylogwal import CorruptionError, LogId, Wal
from pylogwal.core import SegmentInfo

LAST = 300
PAGE, FRAMES = 4096, 8192


def damage(path: Path, offset: int, size: int = 8) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        before = file.read(size)
        file.seek(offset)
        file.write(bytes(byte ^ 0xFF for byte in before))


def payload(log: Path, segment: SegmentInfo) -> None:
    damage(log / segment.file, FRAMES + 3 * (40 + 1000) + 500)


def frame_header(log: Path, segment: SegmentInfo) -> None:
    damage(log / segment.file, FRAMES + 3 * (40 + 1000) + 4)


def offset_index(log: Path, segment: SegmentInfo) -> None:
    damage(log / segment.file, segment.size - PAGE - 12)


def header(log: Path, segment: SegmentInfo) -> None:
    damage(log / segment.file, 20)


def footer(log: Path, segment: SegmentInfo) -> None:
    damage(log / segment.file, segment.size - PAGE + 20)


def opened(path: Path) -> Wal:
    return Wal(path, segment_bytes=SEGMENT_BYTES)


def write(path: Path) -> list[SegmentInfo]:
    with opened(path) as wal:
        for first in range(1, LAST, 10):
            wal.persist_entries(run(first, first + 9, payload=b"p" * 1000))
        return wal.core.segments()


def is_whole(wal: Wal, first: int) -> None:
    assert [entry.index for entry in wal.get_entries(1, LAST)] == list(range(first, LAST + 1))


def killed_copy(wal: Wal, path: Path) -> Path:
    copy_beside_writer(Path(wal.path), path)
    return path


@pytest.mark.parametrize("harm", [payload, frame_header, offset_index])
def test_damage_that_reads_meet_is_healed_by_a_purge_past_it(
    tmp_path: Path, harm: Callable[[Path, SegmentInfo], None]
) -> None:
    log = tmp_path / "log"
    segments = write(log)
    harm(log, segments[1])
    with opened(log) as wal:
        with pytest.raises(CorruptionError, match=r"beyond index .* purge up to it") as met:
            wal.get_entries(1, LAST)
        error = met.value
        assert error.first_index is not None
        assert error.last_index is not None
        assert segments[1].first_index <= error.first_index <= error.last_index
        wal.purge(LogId(error.last_index + 1, 1))
        is_whole(wal, error.last_index + 2)
        killed = killed_copy(wal, tmp_path / "killed")
    for path in (log, killed):
        with opened(path) as wal:
            is_whole(wal, error.last_index + 2)


@pytest.mark.parametrize("harm", [header, footer])
def test_damage_that_keeps_a_log_from_opening_is_healed_while_its_writer_runs(
    tmp_path: Path, harm: Callable[[Path, SegmentInfo], None]
) -> None:
    log = tmp_path / "log"
    segments = write(log)
    with opened(log) as wal:
        harm(log, segments[1])
        with pytest.raises(
            CorruptionError, match="does not open: let this member join again"
        ) as met:
            Wal(log, read_only=True)
        assert met.value.last_index == segments[1].next_index - 1
        wal.purge(LogId(segments[1].next_index, 1))
        is_whole(wal, segments[1].next_index + 1)
        killed = killed_copy(wal, tmp_path / "killed")
    for path in (log, killed):
        with opened(path) as wal:
            is_whole(wal, segments[1].next_index + 1)


def test_damage_in_the_open_segment_is_healed_by_a_purge_once_that_segment_is_sealed(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    with opened(log) as wal:
        wal.persist_entries(run(1, 10, payload=b"p" * 1000))
        payload(log, wal.core.segments()[0])
        with pytest.raises(CorruptionError) as met:
            wal.get_entries(1, 10)
        assert (met.value.first_index, met.value.last_index) == (4, 4)
        wal.purge(LogId(5, 1))
        assert [entry.index for entry in wal.get_entries(1, 10)] == list(range(6, 11))
        killed = killed_copy(wal, tmp_path / "killed")
    with pytest.raises(CorruptionError):  # it is read frame by frame
        opened(killed)
    with opened(log) as wal:  # it was closed, so it is not
        for first in range(11, LAST, 10):
            wal.persist_entries(run(first, first + 9, payload=b"p" * 1000))
        killed = killed_copy(wal, tmp_path / "killed")
    with opened(killed) as wal:
        is_whole(wal, 6)
