"""Logs that earlier releases wrote are read by this one, and by the decoder.

`make_golden.py` made them. They are never made again: a format that can no longer read them is a
new version, and reads them all the same.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import NamedTuple

import pytest
from decoder import (
    COMMIT,
    ENTRY,
    PURGE,
    Entry,
    HardState,
    LogId,
    decode_segment,
    read_log,
    read_log_id,
)

GOLDEN = Path(__file__).parent / "golden"
LOGS = ["v1/closed", "v1/torn"]
SEGMENT_SIZE = 65536

golden_logs = pytest.mark.parametrize("name", LOGS)


class Expected(NamedTuple):
    boundary: LogId
    hard_state: HardState
    entries: list[Entry]


def unpack(name: str, directory: Path) -> Path:
    """The log as it was, in a directory of its own."""
    packed = sorted((GOLDEN / name).glob("*.xz"))
    assert packed, f"no golden files in {GOLDEN / name}"
    for file in packed:
        (directory / file.stem).write_bytes(lzma.decompress(file.read_bytes()))
    return directory


def expected_of(name: str) -> Expected:
    stored = json.loads((GOLDEN / name).with_name("expected.json").read_text())
    term, voted_for, commit_index, extra = stored["hard_state"]
    return Expected(
        LogId(*stored["boundary"]),
        HardState(term, voted_for, commit_index, bytes.fromhex(extra)),
        [
            Entry(index, term, text.encode() * times, kind)
            for index, term, kind, text, times in stored["entries"]
        ],
    )


@golden_logs
def test_the_decoder_reads_a_golden_log(name: str, tmp_path: Path) -> None:
    log = read_log(unpack(name, tmp_path))
    assert (log.boundary, log.hard_state, log.entries) == expected_of(name)
    assert log.closed == name.endswith("closed")


@golden_logs
def test_the_library_reads_a_golden_log_and_changes_nothing(name: str, tmp_path: Path) -> None:
    import pylogwal

    directory = unpack(name, tmp_path)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pylogwal.Wal(directory, read_only=True) as wal:
        assert read_by(wal) == expected_of(name)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


@golden_logs
def test_the_library_goes_on_with_a_golden_log(name: str, tmp_path: Path) -> None:
    import pylogwal

    directory = unpack(name, tmp_path)
    expected = expected_of(name)
    last = expected.entries[-1]
    more = [pylogwal.Entry(last.index + i, last.term, b"more" * i) for i in range(1, 400)]
    with pylogwal.Wal(directory, segment_bytes=SEGMENT_SIZE) as wal:
        assert read_by(wal) == expected
        wal.persist_entries(more)
    log = read_log(directory)
    assert (log.boundary, log.hard_state) == (expected.boundary, expected.hard_state)
    assert log.entries == expected.entries + more


@golden_logs
def test_a_golden_log_has_every_kind_of_record_and_sealed_segments(
    name: str, tmp_path: Path
) -> None:
    directory = unpack(name, tmp_path)
    log_id = read_log_id((directory / "LOCK").read_bytes())
    assert log_id is not None
    log = read_log(directory)
    assert len(log.segments) >= 3
    segments = [decode_segment(segment.data, log_id, segment.number) for segment in log.segments]
    frames = [frame for segment in segments for frame in segment.frames]
    footers = [segment.footer for segment in segments[:-1]]
    assert {frame.type for frame in frames} == set(range(ENTRY, COMMIT + 1))
    assert {frame.kind for frame in frames if frame.type == PURGE} == {0, 1}
    assert all(footers)
    assert any(footer and footer.lowest_overridden == 250 for footer in footers)
    tail = segments[-1]
    if name.endswith("torn"):
        assert tail.frames[-1].end > log.end.offset, "nothing is left of the torn batch"
        assert tail.frames[-1].type == ENTRY


def read_by(wal: object) -> Expected:
    from pylogwal import Wal

    assert isinstance(wal, Wal)
    boundary, hard_state = wal.load_purge_boundary(), wal.load_hard_state()
    assert boundary is not None
    assert hard_state is not None
    entries = [Entry(*entry) for entry in wal.get_entries(1, 2**64 - 1)]
    return Expected(LogId(*boundary), HardState(*hard_state), entries)
