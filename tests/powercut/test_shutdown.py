"""A file system that is shut down during a sync, as it is when its disk fails: the kernel may still
say that the sync was done.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mounts import SIZES, image_directory, make_file_system, mount, mounts_needed

from pylogwal import Wal

HERE = Path(__file__).parent
WRITER = """
import pathlib, sys
from pylogwal import Entry, Wal, WalError

path, trigger = sys.argv[1:]
wal = Wal(path, segment_bytes=65536, spare_segments=0)
for index in (1, 2, 3):  # from the second segment on, blocks are reserved and not written
    wal.persist_entries([Entry(index, 1, bytes(40_000))])
assert wal.stats().segments >= 3, wal.stats()
pathlib.Path(trigger).touch()
acknowledged = 3
try:
    for index in (4, 5):
        wal.persist_entries([Entry(index, 1, bytes(8_000))])
        acknowledged = index
except WalError as error:
    print(acknowledged, type(error).__name__)
else:
    print(acknowledged)
"""


@pytest.mark.parametrize("kind", list(SIZES))
def test_a_sync_that_ended_well_is_not_believed(kind: str, tmp_path: Path) -> None:
    library = tmp_path / "shutdown_sync.so"
    build = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", HERE / "shutdown_sync.c"]
    subprocess.run([*build, "-o", library], check=True)
    with mounts_needed():
        directory = image_directory(SIZES[kind], tmp_path)
        image, disk, trigger = directory / "image", directory / "disk", tmp_path / "trigger"
        disk.mkdir()
        make_file_system(kind, image, SIZES[kind])
        mount(image, disk)
        try:
            done = subprocess.run(
                [sys.executable, "-c", WRITER, disk / "log", trigger],
                env={**os.environ, "LD_PRELOAD": str(library), "SHUT_DOWN_FROM": str(trigger)},
                capture_output=True,
                text=True,
            )
            subprocess.run(["umount", disk], check=True)
            mount(image, disk)
            with Wal(disk / "log", read_only=True) as wal:
                last = wal.last_index()
        finally:
            subprocess.run(["umount", disk], check=True)
            subprocess.run(["rm", "-r", directory], check=True)
    said = done.stdout.split()
    assert said, done.stderr
    assert int(said[0]) <= last, f"{said[0]} entries were acknowledged, {last} are there"
    assert said == ["3", "SyncFailedError"]
