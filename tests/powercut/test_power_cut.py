"""The power of a real file system is cut: ext4 and xfs on loop devices, by FS_IOC_SHUTDOWN."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounts import SIZES, image_directory, mounts_needed, skip_or_fail

HERE = Path(__file__).parent
KINDS = pytest.mark.parametrize("kind", list(SIZES))
SAMPLE = {"ext4": 10, "xfs": 3}
FULL = {"ext4": 200, "xfs": 50}
"""Cycles."""
UNTIL_IT_SEES = 500
"""Cycles at most; the least visible of the lies below is seen in every tenth or so."""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """For the image. Whatever is mounted in it is so for the program alone that mounts it."""
    with mounts_needed(), image_directory(max(SIZES.values()), tmp_path) as made:
        yield made


def cut(kind: str, directory: Path, cycles: int, preloaded: Path | None = None) -> str | None:
    """The first thing that was lost; None where nothing was."""
    paths = os.pathsep.join([str(HERE.parent), str(HERE.parent.parent)])
    preload = " ".join(filter(None, [os.environ.get("LD_PRELOAD"), preloaded and str(preloaded)]))
    done = subprocess.run(
        [sys.executable, HERE / "cut_cycles.py", kind, directory, "--cycles", str(cycles)],
        env={**os.environ, "PYTHONPATH": paths, "LD_PRELOAD": preload},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    print(done.stdout, done.stderr)
    if done.returncode == 3:
        skip_or_fail(done.stdout.strip())
    if done.returncode == 1 and done.stdout.startswith("LOST"):
        return done.stdout
    assert done.returncode == 0, done.stderr
    return None


def hold(kind: str, directory: Path, cycles: int, tmp_path: Path) -> None:
    lost = cut(kind, directory, cycles)
    if lost is not None:
        subprocess.run(["cp", "--sparse=always", directory / "image", tmp_path], check=True)
        pytest.fail(f"{lost}the file system is {tmp_path / 'image'}", pytrace=False)


@KINDS
def test_what_is_acknowledged_survives(kind: str, directory: Path, tmp_path: Path) -> None:
    hold(kind, directory, SAMPLE[kind], tmp_path)


@pytest.mark.prove
@KINDS
def test_what_is_acknowledged_survives_at_length(
    kind: str, directory: Path, tmp_path: Path
) -> None:
    hold(kind, directory, FULL[kind], tmp_path)


def lie(tmp_path: Path, *definitions: str) -> Path:
    """A library that leaves syncs out."""
    library = tmp_path / "lying_sync.so"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", *definitions]
    subprocess.run(["gcc", *options, HERE / "lying_sync.c", "-o", library], check=True)
    return library


def test_without_fdatasync_it_is_seen_to_be_lost(directory: Path, tmp_path: Path) -> None:
    assert cut("ext4", directory, UNTIL_IT_SEES, lie(tmp_path, "-DFILES")) is not None


@pytest.mark.prove
@KINDS
@pytest.mark.parametrize(
    "left_out",
    [("-DFILES",), ("-DFILES", "-DEVERY=10"), ("-DFILES", "-DERRORS"), ("-DDIRECTORIES",)],
    ids=" ".join,
)
def test_every_sync_that_is_left_out_is_seen(
    kind: str, left_out: tuple[str, ...], directory: Path, tmp_path: Path
) -> None:
    """Of files, of one file in ten, the errors of those of files, of directories."""
    assert cut(kind, directory, UNTIL_IT_SEES, lie(tmp_path, *left_out)) is not None
