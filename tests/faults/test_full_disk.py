"""A disk that is really full: a small tmpfs, and an ext4 on a loop device."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounts import MIB, command, image_directory, make_file_system, mount, mounts_needed
from processes import run_python
from stores import SEGMENT_BYTES, state_of

import pylogwal
from pylogwal import DiskFullError, Entry, HardState, LogId, Wal

ALL = 2**64 - 1
MODES = ("batch", "interval", "manual")


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    on = tmp_path / "disk"
    on.mkdir()
    with image_directory(6 * MIB, tmp_path) as images:
        with mounts_needed():
            if request.param == "tmpfs":
                command("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", on)
            else:
                image = images / "image"
                make_file_system("ext4", image, 6 * MIB, "-O", "^has_journal", "-m", 0)
                mount(image, on)
        yield on
        subprocess.run(["umount", "-l", str(on)], check=True)


def entry_of(index: int, size: int = 3000) -> Entry:
    return Entry(index, 1, (b"%d " % index * size)[:size])


def fill(wal: Wal, size: int = 3000) -> None:
    """Appends until the disk is full; the log must then be as before that call."""
    while True:
        index = wal.last_index() + 1
        before = wal.last_index(), wal.durable_index()
        try:
            wal.persist_entries([entry_of(index, size)])
        except DiskFullError as error:
            full = error
            break
    assert full.errno == errno.ENOSPC
    assert isinstance(full, OSError)
    assert wal.last_index() == before[0]
    assert wal.durable_index() >= before[1]


def stuff(path: Path) -> None:
    """Takes all the space that is left."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError as error:
            full = error
    assert full.errno == errno.ENOSPC


@pytest.mark.parametrize("mode", MODES)
def test_a_full_disk_refuses_and_after_a_purge_the_log_goes_on(disk: Path, mode: str) -> None:
    with Wal(disk / "log", durability=mode, segment_bytes=SEGMENT_BYTES) as wal:
        for _ in range(4):
            fill(wal)
            state = state_of(wal)
            last = state.last
            assert state.entries == [entry_of(i) for i in range(state.first, last + 1)]
            for _ in range(5):  # as often as one likes
                with pytest.raises(DiskFullError):
                    wal.persist_entries([entry_of(last + 1)])
                assert state_of(wal) == state
            wal.flush()
            wal.purge(LogId(last - 30, 1))
            for index in range(last + 1, last + 50):
                wal.persist_entries([entry_of(index)])
            wal.save_hard_state(HardState(last, "n1"))
        state = state_of(wal)
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES) as wal:
        assert state_of(wal) == state


def test_a_reset_frees_a_full_disk(disk: Path) -> None:
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES) as wal:
        for _ in range(3):
            fill(wal)
            wal.reset()
            assert wal.last_index() == 0
        wal.persist_entries([entry_of(1)])
    with Wal(disk / "log") as wal:
        assert wal.get_entries(1, ALL) == [entry_of(1)]


def test_a_batch_that_is_larger_than_the_disk_is_refused_and_a_small_one_taken(disk: Path) -> None:
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES) as wal:
        for index in range(1, 30, 2):
            with pytest.raises(DiskFullError):
                wal.persist_entries([entry_of(index, 12 * MIB)])
            wal.persist_entries([entry_of(index), entry_of(index + 1)])
        state = state_of(wal)
    with Wal(disk / "log") as wal:
        assert state_of(wal) == state
        assert state.entries == [entry_of(i) for i in range(1, 31)]


async def test_the_futures_of_a_full_disk_and_what_comes_after(disk: Path) -> None:
    async with pylogwal.open(disk / "log", segment_bytes=SEGMENT_BYTES) as store:
        full = False
        while not full:
            last = store.last_index()
            try:
                await store.persist_entries([entry_of(last + 1)])
            except DiskFullError:
                full = True
        assert store.last_index() == last
        await store.purge(LogId(last - 5, 1))
        await store.persist_entries([entry_of(last + 1)])
        assert await store.entry(last + 1) == entry_of(last + 1)


def test_a_full_disk_is_no_hindrance_to_a_restart(disk: Path) -> None:
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES) as wal:
        fill(wal)
        stuff(disk / "rest")
        state = state_of(wal)
    for _ in range(3):
        with Wal(disk / "log", segment_bytes=SEGMENT_BYTES) as wal:
            assert state_of(wal) == state
    with Wal(disk / "log", read_only=True) as wal:
        assert state_of(wal) == state
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES) as wal:
        wal.purge(LogId(state.last - 3, 1))
        wal.persist_entries([entry_of(state.last + 1)])


def test_a_log_cannot_be_made_on_a_full_disk_and_can_be_made_later(disk: Path) -> None:
    stuff(disk / "rest")
    for _ in range(3):
        with pytest.raises(DiskFullError):
            Wal(disk / "log", segment_bytes=MIB)
    (disk / "rest").unlink()
    with Wal(disk / "log", segment_bytes=MIB) as wal:
        wal.persist_entries([entry_of(1)])


KILLED = """
import os, signal, sys
from pylogwal import DiskFullError, Entry, Wal
wal = Wal(sys.argv[1], durability="manual", segment_bytes=65536)
try:
    while True:
        i = wal.last_index() + 1
        wal.persist_entries([Entry(i, 1, (b"%d " % i * 3000)[:3000])])
except DiskFullError:
    print(wal.last_index(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_on_a_full_disk_loses_nothing(disk: Path) -> None:
    last = int(run_python(KILLED, disk / "log", status=-9))
    with Wal(disk / "log", segment_bytes=SEGMENT_BYTES) as wal:
        assert wal.get_entries(1, ALL) == [entry_of(i) for i in range(1, last + 1)]
        fill(wal)
        wal.purge(LogId(last - 3, 1))
        wal.persist_entries([entry_of(wal.last_index() + 1)])


def test_a_file_size_limit_is_an_error_and_no_signal(tmp_path: Path) -> None:
    run_python(
        """
import errno, resource, sys
from pylogwal import Entry, Wal, WalError
with Wal(sys.argv[1], segment_bytes=65536) as wal:
    wal.persist_entries([Entry(1, 1, b"x")])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        wal.persist_entries([Entry(2, 1, b"x" * (4 << 20))])
    except WalError as error:
        assert error.errno == errno.EFBIG, error
    else:
        raise SystemExit("it went through")
    wal.persist_entries([Entry(2, 1, b"y")])
    assert wal.last_index() == 2
""",
        tmp_path / "log",
    )
