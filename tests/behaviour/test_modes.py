"""Who may read a log: its owner. It holds votes, and commands that may be secrets."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import SEGMENT_BYTES

from pylogwal import Entry, HardState, LogId, Wal

UMASKS = (0o000, 0o002, 0o022, 0o027, 0o077)


@pytest.fixture(params=UMASKS, ids=[f"umask-{umask:03o}" for umask in UMASKS])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    earlier = os.umask(request.param)
    yield request.param
    os.umask(earlier)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(log: Path) -> dict[str, int]:
    """Of the files of a log, which its writer may be renaming just now."""
    found = {}
    for path in log.iterdir():
        try:
            found[path.name] = mode(path)
        except FileNotFoundError:
            continue
    return found


def fill(wal: Wal, segments: int = 3) -> None:
    """Appends until there are so many segments more."""
    until = len(wal.core.segments()) + segments
    while len(wal.core.segments()) < until:
        wal.persist_entries([Entry(wal.last_index() + 1, 1, bytes(6000))], HardState(1, "a"))


def inode(path: Path) -> int:
    return path.stat().st_ino


@pytest.mark.parametrize("spares", [0, 2])
def test_files_are_their_owners_alone_whatever_the_umask(
    tmp_path: Path, umask: int, spares: int
) -> None:
    log = tmp_path / "log"
    seen: set[int] = set()
    for _ in range(2):
        with Wal(log, segment_bytes=SEGMENT_BYTES, spare_segments=spares) as wal:
            seen |= set(modes(log).values())
            fill(wal)
            wal.purge(LogId(wal.last_index() - 1, 1))
            fill(wal)
            seen |= set(modes(log).values())
    assert seen | set(modes(log).values()) == {0o600 & ~umask}
    assert mode(log) == 0o700 & ~umask


@pytest.mark.parametrize("bits", [0o700, 0o750, 0o755, 0o2775])
def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path, bits: int) -> None:
    log = tmp_path / "log"
    log.mkdir()
    log.chmod(bits)
    for _ in range(2):
        with Wal(log, segment_bytes=SEGMENT_BYTES) as wal:
            fill(wal)
        assert mode(log) == bits


WIDE = {0o644: 0o600, 0o666: 0o600, 0o755: 0o600, 0o640: 0o600, 0o600: 0o600, 0o4604: 0o600}


@pytest.mark.parametrize("bits", WIDE, ids=oct)
@pytest.mark.parametrize("umask", [0o000, 0o077], indirect=True)
def test_a_segment_that_is_used_again_is_narrowed_first(
    tmp_path: Path, umask: int, bits: int
) -> None:
    """Made as by an earlier version, readable for everybody."""
    log = tmp_path / "log"
    again: set[Path] = set()
    with (
        contextlib.ExitStack() as held,
        Wal(log, segment_bytes=SEGMENT_BYTES, spare_segments=2) as wal,
    ):
        for _ in range(100):  # whether a segment is used again depends on how many files are wanted
            fill(wal)
            before = {}
            for segment in wal.core.segments()[:-1]:
                path = log / segment.file
                path.chmod(bits)
                before[inode(path)] = path
                held.enter_context(path.open())  # or a new file could have the number of its inode
            wal.purge(LogId(wal.last_index(), 1))
            fill(wal)
            again = {
                log / segment.file
                for segment in wal.core.segments()
                if before.get(inode(log / segment.file), log / segment.file) != log / segment.file
            }
            if again:
                break
        assert {mode(path) for path in again} == {WIDE[bits]}


@pytest.mark.parametrize("kind", ["spare", "wal"])
def test_a_file_that_waits_to_be_used_is_narrowed_when_it_is(tmp_path: Path, kind: str) -> None:
    """A spare, and a segment that was prepared but has no header."""
    log = tmp_path / "log"
    with Wal(log, segment_bytes=SEGMENT_BYTES, spare_segments=0) as wal:
        wal.persist_entries([Entry(1, 1)])
    waiting = log / f"{2 if kind == 'wal' else 2**63:016x}.{kind}"
    waiting.write_bytes(bytes(SEGMENT_BYTES))
    waiting.chmod(0o644)
    here = inode(waiting)
    with Wal(log, segment_bytes=SEGMENT_BYTES, spare_segments=1) as wal:
        fill(wal, 1)
        segment = log / f"{2:016x}.wal"
        assert inode(segment) == here
        assert mode(segment) == 0o600
        assert mode(log / "LOCK") == 0o600


def test_no_right_is_added_where_the_owner_has_none(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    leftover = log / f"{1:016x}.spare"  # of a log whose making was cut short
    leftover.touch()
    leftover.chmod(0o266)
    if not os.access(leftover, os.R_OK):
        leftover.chmod(0o666)
    wanted = mode(leftover) & 0o600
    here = inode(leftover)
    with Wal(log, segment_bytes=SEGMENT_BYTES):
        segment = log / f"{1:016x}.wal"
        assert inode(segment) == here
        assert mode(segment) == wanted
