"""How many descriptors and mappings a log takes; and that none is used after it was closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import processes
import pytest
from processes import PATIENCE_S, descriptors
from stores import run

from pylogwal import LogId, Wal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts what /proc lists")

MOST_A_LOG = 16
SMALLEST = 65536


def log_of(path: Path, segments: int) -> None:
    with Wal(path, durability="manual", segment_bytes=SMALLEST) as wal:
        while wal.stats().segments < segments:
            index = wal.last_index() + 1
            wal.persist_entries(run(index, index, payload=bytes(50_000)))


def mappings(of: Path) -> set[str]:
    """Their addresses."""
    maps = Path("/proc/self/maps").read_text()
    return {line.split()[0] for line in maps.splitlines() if str(of) in line}


def test_a_log_of_many_segments_takes_few_descriptors(tmp_path: Path) -> None:
    before = len(descriptors())
    path = tmp_path / "log"
    log_of(path, 100)
    with Wal(path, segment_bytes=SMALLEST) as wal, Wal(path, read_only=True) as reader:
        assert len(descriptors()) - before <= 2 * MOST_A_LOG
        reader.refresh()
        last = wal.last_index()
        wal.persist_entries(run(last + 1, last + 10, payload=bytes(4000)))
        reader.refresh()
        assert reader.last_index() == last + 10
        assert len(descriptors()) - before <= 2 * MOST_A_LOG
        wal.purge(LogId(last, 1))
        assert len(descriptors()) - before <= 2 * MOST_A_LOG
    assert len(descriptors()) == before


MANY = """
import resource, sys
from pylogwal import LogId, Wal
from stores import run
path = sys.argv[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
with Wal(path, segment_bytes=65536) as wal, Wal(path, read_only=True) as reader:
    assert wal.stats().segments == int(sys.argv[2]), wal.stats()
    reader.refresh()
    last = wal.last_index()
    assert reader.get_entries(last, last) == wal.get_entries(last, last)
    assert len(wal.core.segments()) == wal.stats().segments
    wal.persist_entries(run(last + 1, last + 5, payload=bytes(50_000)))
    wal.purge(LogId(last, 1))
    assert wal.stats().segments < 10, wal.stats()
"""


@pytest.mark.parametrize(
    "segments", [300, pytest.param(10_000, marks=pytest.mark.prove)], ids=["300", "10,000"]
)
def test_a_log_of_many_segments_opens_with_64_descriptors(tmp_path: Path, segments: int) -> None:
    path = tmp_path / "log"
    log_of(path, segments)
    command = [sys.executable, "-c", MANY, path, str(segments)]
    subprocess.run(command, env=processes.environment(), check=True, timeout=10 * PATIENCE_S)


def test_a_refresh_keeps_the_mappings_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log_of(path, 20)
    with Wal(path, read_only=True) as reader:
        before = mappings(path)
        assert len(before) == reader.stats().segments
        reader.refresh()
        assert mappings(path) == before


def test_a_spare_file_of_the_highest_number_wraps_no_counter(tmp_path: Path) -> None:
    path = tmp_path / "log"
    Wal(path, segment_bytes=SMALLEST).close()
    (path / f"{2**64 - 1:016x}.spare").write_bytes(bytes(SMALLEST))
    with Wal(path, segment_bytes=SMALLEST, spare_segments=6) as wal:
        while wal.stats().segments < 5 or wal.stats().spares < 6:
            index = wal.last_index() + 1
            wal.persist_entries(run(index, index, payload=b"x" * 9000))
        assert not (path / f"{0:016x}.spare").exists()
    with Wal(path, segment_bytes=SMALLEST, spare_segments=0) as wal:
        assert wal.last_index() == index
        assert wal.stats().spares <= 1  # the successor may have its name already
    assert not list(path.glob("*.spare"))


STRANGERS = """
import os, sys, threading, time
from pathlib import Path
from pylogwal import Wal
from stores import run
path, strangers = Path(sys.argv[1]), Path(sys.argv[2])
stop = threading.Event()

def open_and_close():
    # Each number that is free is taken at once, by a file that no sync may meet.
    while not stop.is_set():
        taken = [os.open(strangers, os.O_RDONLY) for _ in range(8)]
        for descriptor in taken:
            os.close(descriptor)

thread = threading.Thread(target=open_and_close)
thread.start()
wal = Wal(path, segment_bytes=65536)

def sync():
    while not stop.is_set():
        wal.flush()

syncing = threading.Thread(target=sync)
syncing.start()
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    last = wal.last_index()
    wal.persist_entries(run(last + 1, last + 1, payload=bytes(30_000)), wait=False)
stop.set()
thread.join()
syncing.join()
print(wal.stats().segments, wal.stats().syncs)
wal.close()
"""


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.prove)])
def test_no_sync_meets_the_file_of_a_stranger(tmp_path: Path, seconds: int) -> None:
    """A pipe's fdatasync is EINVAL, which would be a failed sync."""
    stranger = tmp_path / "stranger"
    os.mkfifo(stranger)
    held = os.open(stranger, os.O_RDWR)
    try:
        command = [sys.executable, "-c", STRANGERS, tmp_path / "log", stranger, str(seconds)]
        done = subprocess.run(
            command, env=processes.environment(), capture_output=True, text=True, check=False
        )
    finally:
        os.close(held)
    assert done.returncode == 0, done.stderr
    segments, _ = map(int, done.stdout.split())
    assert segments > 10
