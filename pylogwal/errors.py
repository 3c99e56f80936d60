"""Every error that this package raises about a log has one root, `WalError`.

Arguments that are wrong before any log is concerned (an option out of range, a hard state with a
name too long, a float for an index) are plain ValueError and TypeError.

A message says what happened, where, and what to do about it; the attributes say the same to a
program. Errors can be pickled, so they cross from a worker process to its parent.
"""

from __future__ import annotations

import os
from typing import Any

__all__ = [
    "ClosedError",
    "ConflictError",
    "CorruptionError",
    "DiskFullError",
    "EntryTooLargeError",
    "InvalidEntryError",
    "LockedError",
    "LogIOError",
    "LogNotFoundError",
    "PurgedError",
    "QueueFullError",
    "ReadOnlyError",
    "SyncFailedError",
    "UnsupportedFormatError",
    "WalError",
]


class WalError(Exception):
    """Root of every error about a log. Attributes are None where they are not known.

    path: the log's directory.
    file: the name of the file in it.
    offset: a byte position in that file.
    index: the Raft index concerned.
    errno: the system's error number; an error that has one is an OSError.
    first_index, last_index: the inclusive range of indices concerned.
    """

    path: str | None
    file: str | None
    offset: int | None
    index: int | None
    errno: int | None
    first_index: int | None
    last_index: int | None

    def __init__(
        self,
        message: str,
        *,
        path: str | os.PathLike[str] | None = None,
        file: str | None = None,
        offset: int | None = None,
        index: int | None = None,
        errno: int | None = None,
        first_index: int | None = None,
        last_index: int | None = None,
    ) -> None:
        super().__init__(message)
        self.path = None if path is None else os.fspath(path)
        self.file = file
        self.offset = offset
        self.index = index
        # In the classes that are OSErrors too this is OSError's own slot, not the instance's dict.
        self.errno = errno
        self.first_index = index if first_index is None else first_index
        self.last_index = index if first_index is None else last_index
        if isinstance(self, OSError):
            _describe_to_the_system(self, errno, self.path)

    def __str__(self) -> str:
        # OSError would show errno and strerror in place of the message.
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError would rebuild from positional arguments, which this constructor does not take.
        return _rebuilt, (type(self), str(self), self.errno, self.path), self.__dict__.copy()


def _describe_to_the_system(error: OSError, errno: int | None, path: str | None) -> None:
    error.strerror = None if errno is None else os.strerror(errno)
    error.filename = path


def _rebuilt(
    error_type: type[WalError], message: str, errno: int | None, path: str | None
) -> WalError:
    return error_type(message, errno=errno, path=path)


class InvalidEntryError(WalError, ValueError):
    """The log cannot take these entries: a gap, a descending term, index 0, a kind out of range, a
    wrong type. The whole batch is refused and nothing is written.
    """


class EntryTooLargeError(InvalidEntryError):
    """A payload is larger than `max_entry_bytes`. The whole batch is refused."""


class ConflictError(InvalidEntryError):
    """The log holds another entry of the same index and term, which Raft rules out: two leaders of
    one term, or another log's entry. Also: an entry was replaced while its durability was awaited.
    """


class PurgedError(WalError, ValueError):
    """The call would change what lies at or below the purge boundary, which is gone for good. In a
    read-only log: what was to be read was purged by the writer meanwhile; refresh it.
    """


class CorruptionError(WalError):
    """Bytes on disk are damaged. `first_index` and `last_index` name the range that is lost, and
    are None where no entry is; nothing on disk was changed.

    Where the log is open, a purge up to a snapshot beyond `last_index` drops what is damaged.
    Else the node has to join its group again, as a new member. It must never run from an older copy
    of its log: it would have forgotten votes and entries that it acknowledged.
    """


class UnsupportedFormatError(WalError):
    """The log was written in a newer format version than this release reads."""


class LogNotFoundError(WalError, FileNotFoundError):
    """There is no log here, and `create=False` or `read_only=True`; or the parent of the directory
    that was to be created does not exist. `errno` is ENOENT.
    """


class LockedError(WalError, OSError):
    """Another writer has the log open, in this process or another."""


class DiskFullError(WalError, OSError):
    """No space, or no quota, for this write. The log is as before the call and readable; the same
    call works once there is space.
    """


class SyncFailedError(WalError, OSError):
    """An fdatasync or a directory sync failed. Every later write is refused with this error until
    the log is opened again; reads work. What was not acknowledged may or may not be there then.
    """


class LogIOError(WalError, OSError):
    """Any other error of the operating system, with its `errno`. ESTALE: another directory stands
    where the log was opened, so that its next start would not see what is written here.
    """


class QueueFullError(WalError):
    """`submit` met a rotation, and the writes that wait for it hold `max_queue_bytes` already.
    Nothing was accepted; the same call works once the rotation is done.
    """


class ClosedError(WalError):
    """The log was closed; open it again."""


class ReadOnlyError(WalError):
    """The log was opened with `read_only=True`; open it without, to write."""
