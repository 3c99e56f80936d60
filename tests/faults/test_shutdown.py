"""A file system that is shut down during a sync, as it is when its disk fails: the kernel may still
say that the sync was done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults import build_shim, run_beneath
from mounts import SIZES, image_directory, make_file_system, mount, mounts_needed, unmount

from pylogwal import Wal

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


@contextmanager
def mounted(image: Path, on: Path) -> Iterator[None]:
    mount(image, on)
    try:
        yield
    finally:
        unmount(on)


@pytest.mark.parametrize("kind", list(SIZES))
def test_a_sync_that_ended_well_is_not_believed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, trigger = tmp_path / "disk", tmp_path / "trigger"
    disk.mkdir()
    shim = build_shim(tmp_path, "shutdown_sync.c")
    monkeypatch.setenv("SHUT_DOWN_FROM", str(trigger))
    with mounts_needed(), image_directory(SIZES[kind], tmp_path) as images:
        image = images / "image"
        make_file_system(kind, image, SIZES[kind])
        with mounted(image, disk):
            said = run_beneath(shim, WRITER, disk / "log", trigger).split()
        with mounted(image, disk), Wal(disk / "log", read_only=True) as wal:
            last = wal.last_index()
    assert said
    assert int(said[0]) <= last, f"{said[0]} entries were acknowledged, {last} are there"
    assert said == ["3", "SyncFailedError"]
