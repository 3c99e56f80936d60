"""Errors carry what is known, whatever else they are, and cross a process boundary whole."""

from __future__ import annotations

import copy
import errno
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pylogwal
from pylogwal import errors

ERRORS: list[type[pylogwal.WalError]] = [getattr(errors, name) for name in errors.__all__]
FIELDS: dict[str, Any] = {
    "path": "/var/log",
    "file": "0000000000000001.wal",
    "offset": 4096,
    "index": 7,
    "errno": errno.ENOSPC,
    "first_index": 7,
    "last_index": 9,
}

every_error = pytest.mark.parametrize("error_type", ERRORS, ids=lambda error: error.__name__)


@every_error
def test_what_is_not_known_is_none(error_type: type[pylogwal.WalError]) -> None:
    error = error_type("it broke; mend it")
    assert str(error) == "it broke; mend it"
    for field in FIELDS:
        assert getattr(error, field) is None


@every_error
def test_what_is_known_is_kept_through_pickle_and_copy(
    error_type: type[pylogwal.WalError],
) -> None:
    error = error_type("it broke; mend it", **FIELDS)
    for twin in (error, pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is error_type
        assert str(twin) == "it broke; mend it"
        assert {field: getattr(twin, field) for field in FIELDS} == FIELDS


@every_error
def test_the_root_catches_every_error(error_type: type[pylogwal.WalError]) -> None:
    assert issubclass(error_type, pylogwal.WalError)
    assert getattr(pylogwal, error_type.__name__) is error_type


@pytest.mark.parametrize(
    "error_type",
    [
        pylogwal.LockedError,
        pylogwal.DiskFullError,
        pylogwal.SyncFailedError,
        pylogwal.LogIOError,
        pylogwal.LogNotFoundError,
    ],
)
def test_a_system_error_is_an_os_error_with_its_number(
    error_type: type[pylogwal.WalError],
) -> None:
    with pytest.raises(OSError, match="it broke") as raised:
        raise error_type("it broke", **FIELDS)
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.strerror == "No space left on device"
    assert raised.value.filename == "/var/log"


def test_a_path_may_be_any_path() -> None:
    assert pylogwal.WalError("it broke", path=Path("/var/log")).path == "/var/log"


def test_wrong_entries_and_purged_ranges_are_value_errors_and_nothing_else_is() -> None:
    value_errors = {error for error in ERRORS if issubclass(error, ValueError)}
    assert value_errors == {
        pylogwal.InvalidEntryError,
        pylogwal.EntryTooLargeError,
        pylogwal.ConflictError,
        pylogwal.PurgedError,
    }


def raised_by(call: Callable[[], object]) -> pylogwal.WalError:
    with pytest.raises(pylogwal.WalError) as raised:
        call()
    return raised.value


def test_no_log_is_a_file_not_found_error_and_creates_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    calls = {
        "the parent": lambda: pylogwal.Wal(tmp_path / "none" / "log"),
        "to write": lambda: pylogwal.Wal(tmp_path / "none", create=False),
        "to write, a directory": lambda: pylogwal.Wal(tmp_path / "empty", create=False),
        "to read": lambda: pylogwal.Wal(tmp_path / "none", read_only=True),
        "to read, a directory": lambda: pylogwal.Wal(tmp_path / "empty", read_only=True),
    }
    for name, call in calls.items():
        error = raised_by(call)
        assert type(error) is pylogwal.LogNotFoundError, name
        assert isinstance(error, FileNotFoundError), name
        assert error.errno == errno.ENOENT, name
        assert os.strerror(errno.ENOENT) not in str(error), name  # the text says it already
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_an_errno_makes_an_error_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    error = raised_by(lambda: pylogwal.Wal(tmp_path / "file"))
    assert type(error) is pylogwal.LogIOError
    assert error.errno == errno.ENOTDIR
    with pylogwal.Wal(tmp_path / "log"):
        error = raised_by(lambda: pylogwal.Wal(tmp_path / "log"))
    assert type(error) is pylogwal.LockedError
    assert error.errno == errno.EWOULDBLOCK
    assert os.strerror(errno.EWOULDBLOCK) not in str(error)


def test_who_does_not_ask_hears_nothing_of_the_logger() -> None:
    handlers = logging.getLogger("pylogwal").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)
    script = "import logging, pylogwal; logging.getLogger('pylogwal').warning('torn')"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert told.stderr == b""


def test_the_message_of_what_an_operator_meets_names_the_page(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pylogwal.Wal(log) as wal:
        wal.persist_entries([pylogwal.Entry(1, 1)])
        met = [
            raised_by(lambda: pylogwal.Wal(log)),
            raised_by(lambda: wal.persist_entries([pylogwal.Entry(1, 1, b"another")])),
        ]
    (tmp_path / "file").write_bytes(b"")
    met += [
        raised_by(lambda: pylogwal.Wal(tmp_path / "none", create=False)),
        raised_by(lambda: pylogwal.Wal(tmp_path / "none", read_only=True)),
        raised_by(lambda: pylogwal.Wal(tmp_path / "none" / "log")),
        raised_by(lambda: pylogwal.Wal(tmp_path / "file")),
    ]
    (segment,) = log.glob("*1.wal")
    segment.unlink()
    met.append(raised_by(lambda: pylogwal.Wal(log)))
    assert {type(error) for error in met} == {
        pylogwal.LockedError,
        pylogwal.ConflictError,
        pylogwal.LogNotFoundError,
        pylogwal.LogIOError,
        pylogwal.CorruptionError,
    }
    for error in met:
        assert f"(docs/operations.md, {type(error).__name__})" in str(error)
