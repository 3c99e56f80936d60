"""Small file systems of a test's own, on loop devices."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from processes import NO_PROC, in_memory

MIB = 1 << 20
SIZES = {"ext4": 64 * MIB, "xfs": 300 * MIB}
"""Bytes; mkfs.xfs takes no less. Sparse."""
_MAKERS = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}


class MountError(Exception):
    """Mounting does not work here; the message says why."""


def skip_or_fail(reason: str) -> NoReturn:
    """Skips the test; on CI, where mounts have to work for root, it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI is set")
    pytest.skip(reason)


@contextmanager
def mounts_needed() -> Iterator[None]:
    """Skips or fails the test where what the block mounts cannot be mounted."""
    if sys.platform != "linux":
        pytest.skip("loop devices and tmpfs are Linux's")
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    if NO_PROC is not None:
        skip_or_fail(NO_PROC)  # umount reads it
    try:
        yield
    except MountError as error:
        skip_or_fail(str(error))


def command(*words: object) -> None:
    """Runs it. Raises MountError where it is missing, or fails."""
    try:
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise MountError(f"{words[0]} is missing here") from error
    if done.returncode != 0:
        reason = done.stderr.strip().partition("\n")[0]
        raise MountError(f"{words[0]} does not work here: {reason}")


@contextmanager
def image_directory(size: int, otherwise: Path) -> Iterator[Path]:
    """A new directory for an image of `size` bytes: in memory where that much is free, since a disk
    that is slow to sync says nothing here; else in `otherwise`. Removed at the end.
    """
    made = Path(tempfile.mkdtemp(prefix="pylogwal-", dir=in_memory(size) or otherwise))
    try:
        yield made
    finally:
        shutil.rmtree(made)


def make_file_system(kind: str, image: Path, size: int, *options: object) -> None:
    """A file system without a file in it, in an image without a byte of what it held."""
    with image.open("wb") as file:
        file.truncate(size)
    command(*_MAKERS[kind], *options, image)


def mount(image: Path, on: Path) -> None:
    """On a loop device that goes with the unmount, and its cache with it."""
    command("mount", "-o", "loop", image, on)


def unmount(on: Path) -> None:
    """At once. Raises CalledProcessError where the file system is in use."""
    subprocess.run(["umount", on], check=True)
