"""A log is restored by a copy that leaves out zeros (cp --sparse, rsync -S, tar -S), or shares its
blocks with the original (cp --reflink), and then the disk is full.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mounts import MIB, SIZES, command, image_directory, make_file_system, mount, mounts_needed
from processes import PATIENCE_S
from stores import run, state_of

from pylogwal import DiskFullError, Entry, HardState, LogId, Wal

SEGMENT_BYTES = 2 * MIB
ROOM_BYTES = MIB // 2
"""More than recovery and a purge need, less than the holes of a copy of `original`."""


@contextmanager
def mounted(kind: str, on: Path) -> Iterator[Path]:
    """A small file system of that kind."""
    on.mkdir()
    with image_directory(SIZES.get(kind, 0), on.parent) as images:
        with mounts_needed():
            if kind == "tmpfs":
                command("mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", on)
            else:
                image = images / "image"
                make_file_system(kind, image, SIZES[kind])
                mount(image, on)
        try:
            yield on
        finally:
            subprocess.run(["umount", "-l", str(on)], check=True)


@pytest.fixture(params=["tmpfs", "ext4", "xfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with mounted(request.param, tmp_path / "disk") as on:
        yield on


def copy_sparse(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        content = path.read_bytes()
        with (target / path.name).open("wb") as file:
            for at in range(0, len(content), 4096):
                if content[at : at + 4096].strip(b"\0"):
                    file.seek(at)
                    file.write(content[at : at + 4096])
            file.truncate(len(content))


def original(path: Path, segments: int = 1) -> Wal:
    """A log, still open, whose last segment holds 100 small entries."""
    wal = Wal(path, segment_bytes=SEGMENT_BYTES, spare_segments=0)
    while len(wal.core.segments()) < segments:
        wal.persist_entries([Entry(wal.last_index() + 1, 1, bytes(range(256)) * 400)])
    last = wal.last_index()
    wal.persist_entries(run(last + 1, last + 100), HardState(1, "a"))
    return wal


def clean(source: Path, target: Path) -> None:
    original(source).close()
    copy_sparse(source, target)


def unclean(source: Path, target: Path) -> None:
    with original(source):
        copy_sparse(source, target)


def torn(source: Path, target: Path) -> None:
    """The last batch is not whole: recovery has something to cut."""
    with original(source) as wal:
        end = wal.core.segments()[-1].end
        wal.persist_entries([Entry(101, 1, b"x" * 30_000)])
        copy_sparse(source, target)
    with (target / f"{1:016x}.wal").open("r+b") as file:
        file.seek(end)
        file.write(bytes(40))


COPIES = [clean, unclean, torn]


def stuff(path: Path) -> None:
    """Takes all the space that is left."""
    with path.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 512):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError as full:
                if full.errno != errno.ENOSPC:
                    raise


def stuff_but(path: Path, room: int) -> None:
    """Takes all the space that is left but about `room` bytes."""
    kept = path.with_suffix(".room")
    kept.write_bytes(b"x" * room)
    stuff(path)
    remove(kept)


def remove(path: Path) -> None:
    """Returns when its space is there again, which on XFS is some time after."""
    size = path.stat().st_size
    path.unlink()
    until = time.monotonic() + PATIENCE_S
    while (status := os.statvfs(path.parent)).f_bfree * status.f_frsize < size // 2:
        assert time.monotonic() < until
        time.sleep(0.001)


def content(log: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in log.iterdir()}


def append(wal: Wal, size: int) -> None:
    wal.persist_entries([Entry(wal.last_index() + 1, 1, b"z" * size)])


def fill_up(wal: Wal, size: int) -> int:
    """Appends until the disk is full, which may be no other error. Bytes of payload."""
    written = 0
    while True:
        try:
            append(wal, size)
        except DiskFullError:
            return written
        written += size


def refuses(wal: Wal) -> None:
    """Every write but a purge and a reset is DiskFullError and changes nothing."""
    before = state_of(wal)
    last = before.last
    writes: list[Callable[[], None]] = [
        lambda: append(wal, 100),
        lambda: append(wal, 20_000),
        lambda: wal.truncate(last),
        lambda: wal.replace_range(last, run(last, last, 9)),
        lambda: wal.save_hard_state(HardState(7, "b")),
    ]
    for write in writes * 2:
        with pytest.raises(DiskFullError):
            write()
        assert state_of(wal) == before
    wal.flush()
    wal.persist_entries(before.entries[-3:])  # which are there


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("size", [100, 20_000])
def test_a_copy_gets_its_blocks_when_it_is_opened(
    disk: Path, tmp_path: Path, copy: Callable[[Path, Path], None], size: int
) -> None:
    copy(tmp_path / "log", disk / "log")
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES, spare_segments=0) as wal:
        stuff(disk / "filler")
        fill_up(wal, size)
        assert wal.core.segments()[-1].end > SEGMENT_BYTES // 4 * 3
        state = state_of(wal)
        wal.purge(LogId(state.last, 1))
        remove(disk / "filler")
        append(wal, size)
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES) as wal:
        assert wal.load_purge_boundary() == LogId(state.last, 1)
        assert wal.last_index() == state.last + 1


def is_tmpfs(disk: Path) -> bool:
    """It allocates memory for holes that are looked at through a mapping."""
    return f" {disk} tmpfs " in Path("/proc/mounts").read_text()


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_opens_on_a_full_disk_and_goes_on_when_there_is_space(
    disk: Path, tmp_path: Path, copy: Callable[[Path, Path], None]
) -> None:
    copy(tmp_path / "log", disk / "log")
    stuff_but(disk / "filler", ROOM_BYTES)
    if is_tmpfs(disk) and copy is not clean:  # whose end is looked for in all of the segment
        with pytest.raises(DiskFullError):
            Wal(disk / "log", segment_bytes=SEGMENT_BYTES)
        return
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES, spare_segments=0) as wal:
        assert wal.get_entries(1, 999) == run(1, 100)
        refuses(wal)
        for index in (10, 20, 30):
            wal.purge(LogId(index, 1))
            refuses(wal)
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES, spare_segments=0) as wal:
        assert wal.get_entries(1, 999) == run(31, 100)
        refuses(wal)
        wal.reset()
        assert wal.last_index() == 0
        with pytest.raises(DiskFullError):
            append(wal, 100)
        remove(disk / "filler")
        append(wal, 100)
        wal.truncate(1)
        append(wal, 20_000)
        state = state_of(wal)
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES) as wal:
        assert state_of(wal) == state


def test_what_a_purge_frees_fills_the_holes_without_a_restart(disk: Path, tmp_path: Path) -> None:
    original(tmp_path / "log", segments=3).close()
    copy_sparse(tmp_path / "log", disk / "log")
    stuff_but(disk / "filler", ROOM_BYTES)
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES, spare_segments=0) as wal:
        refuses(wal)
        last = wal.last_index()
        wal.purge(LogId(last - 50, 1))
        until = time.monotonic() + PATIENCE_S
        while fill_up(wal, 2000) == 0:  # the blocks are there a little after the names are gone
            assert time.monotonic() < until
        fill_up(wal, 2000)
        assert wal.core.segments()[-1].end > SEGMENT_BYTES // 4 * 3
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES) as wal:
        assert wal.get_entries(1, last) == run(last - 49, last)


@pytest.mark.parametrize("copy", COPIES)
def test_where_not_even_recovery_has_its_blocks_nothing_is_opened_and_nothing_changed(
    disk: Path, tmp_path: Path, copy: Callable[[Path, Path], None]
) -> None:
    copy(tmp_path / "log", disk / "log")
    stuff(disk / "filler")
    before = content(disk / "log")
    for _ in range(3):
        with pytest.raises(DiskFullError, match="recovery needs") as full:
            Wal(disk / "log", segment_bytes=SEGMENT_BYTES)
        assert full.value.file == f"{1:016x}.wal"
        assert full.value.errno == errno.ENOSPC
        assert content(disk / "log") == before
    if not is_tmpfs(disk) or copy is clean:
        with Wal(disk / "log", read_only=True) as reader:
            assert reader.get_entries(1, 999) == run(1, 100)
    remove(disk / "filler")
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES) as wal:
        assert wal.get_entries(1, 999) == run(1, 100)
        append(wal, 100)


@pytest.mark.parametrize("kind", ["wal", "spare"])
def test_a_prepared_file_with_holes_is_refused_or_gets_its_blocks(
    disk: Path, tmp_path: Path, kind: str
) -> None:
    original(tmp_path / "log").close()
    copy_sparse(tmp_path / "log", disk / "log")
    with (disk / "log" / f"{2 if kind == 'wal' else 2**63:016x}.{kind}").open("wb") as file:
        file.truncate(SEGMENT_BYTES)
    stuff_but(disk / "filler", SEGMENT_BYTES + ROOM_BYTES)
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES) as wal:
        assert fill_up(wal, 3000) > SEGMENT_BYTES // 2
        last = wal.last_index()
        wal.purge(LogId(last - 5, 1))
        remove(disk / "filler")
        while wal.last_index() < last + 2000:
            append(wal, 3000)
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES) as wal:
        assert [entry.index for entry in wal.get_entries(1, 9999)] == [
            *range(last - 4, last + 2001)
        ]


def test_a_log_that_has_its_blocks_opens_on_a_full_disk_and_is_written_on(disk: Path) -> None:
    """XFS answers ENOSPC where blocks are reserved again, though they are there."""
    original(disk / "log").close()
    stuff(disk / "filler")
    for _ in range(3):
        with Wal(disk / "log", segment_bytes=SEGMENT_BYTES, spare_segments=0) as wal:
            append(wal, 100)
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES, spare_segments=0) as wal:
        assert fill_up(wal, 3000) > SEGMENT_BYTES // 2


@pytest.mark.parametrize("size", [100, 20_000])
def test_a_copy_that_shares_its_blocks_gets_its_own(tmp_path: Path, size: int) -> None:
    with mounted("xfs", tmp_path / "disk") as disk:
        original(disk / "original").close()
        for name in ("log", "full"):
            subprocess.run(
                ["cp", "-r", "--reflink=always", disk / "original", disk / name], check=True
            )
        with Wal(disk / "log", segment_bytes=SEGMENT_BYTES, spare_segments=0) as wal:
            stuff(disk / "filler")
            fill_up(wal, size)
            assert wal.core.segments()[-1].end > SEGMENT_BYTES // 4 * 3
            wal.purge(LogId(wal.last_index(), 1))
        before = content(disk / "full")
        with pytest.raises(DiskFullError):
            Wal(disk / "full", segment_bytes=SEGMENT_BYTES)
        assert content(disk / "full") == before
        remove(disk / "filler")
        with Wal(disk / "full", segment_bytes=SEGMENT_BYTES) as wal:
            assert wal.get_entries(1, 999) == run(1, 100)
            append(wal, size)
