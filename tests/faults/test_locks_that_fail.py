"""File systems that cannot lock a directory: then LOCK alone has to do, as for earlier versions."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from faults import build_shim, run_beneath

OPEN = """
import sys
from pathlib import Path
from faults import Fault, Shim
from pylogwal import Entry, LockedError, Wal, WalError

path, error, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
Wal(path).close()
shim = Shim()
shim.watch(path)
shim.choose(Fault("flock", error, False, number))
try:
    wal = Wal(path)
except WalError as error:
    print(type(error).__name__, error.errno, error.file)
    Wal(path).close()  # nothing stayed locked
    sys.exit()
wal.persist_entries([Entry(1, 1)])
try:
    Wal(path)
except LockedError as error:
    print(type(error).__name__, error.file)
wal.close()
Wal(path).close()
"""


def answer(shim: Path, log: Path, error: str, number: int) -> str:
    """What is printed where that flock of an open fails: the directory's is the first."""
    return run_beneath(shim, OPEN, log, error, number).strip()


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.parametrize("error", ["EBADF", "ENOLCK", "EOPNOTSUPP", "EINVAL", "EIO"])
def test_where_the_directory_cannot_be_locked_lock_alone_keeps_out(
    shim: Path, tmp_path: Path, error: str
) -> None:
    """The second writer of that program finds the directory free."""
    assert answer(shim, tmp_path, error, 1) == "LockedError LOCK"


def test_where_lock_cannot_be_locked_nothing_is_opened_and_nothing_stays_locked(
    shim: Path, tmp_path: Path
) -> None:
    assert answer(shim, tmp_path, "ENOLCK", 2) == f"LogIOError {errno.ENOLCK} LOCK"


def test_a_flock_that_a_signal_interrupts_is_tried_again(shim: Path, tmp_path: Path) -> None:
    assert answer(shim, tmp_path, "EINTR", 1) == "LockedError None"
    assert answer(shim, tmp_path, "EINTR", 2) == "LockedError None"
