"""The C core as Python sees it: the one module that touches cffi.

A `Core` is one open handle. Its methods take and give plain Python values, raise this package's
errors, and know nothing of durability modes or event loops. What csrc/python can do without
dropping the interpreter's lock goes there; the rest, and everything where it is missing (PyPy),
goes through cffi.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import _cffi_backend  # noqa: F401  pylogwal._core imports it, which freezers cannot see

try:
    from pylogwal._core import ffi, lib
except ModuleNotFoundError as error:
    if error.name != "pylogwal._core":
        raise
    raise ModuleNotFoundError(
        "the C core, pylogwal._core, is not built: in the source tree run `make build`, or import "
        "pylogwal from elsewhere, where it is installed",
        name=error.name,
    ) from error
from pylogwal.checks import U64_MAX, clamped_index
from pylogwal.errors import (
    ClosedError,
    ConflictError,
    CorruptionError,
    DiskFullError,
    EntryTooLargeError,
    InvalidEntryError,
    LockedError,
    LogIOError,
    LogNotFoundError,
    PurgedError,
    QueueFullError,
    ReadOnlyError,
    SyncFailedError,
    UnsupportedFormatError,
    WalError,
)
from pylogwal.types import Entry, Finding, FindingKind, HardState, LogId, VerifyProgress

__all__ = [
    "LARGE_ENTRY_BYTES",
    "PERSIST",
    "PURGE",
    "REPLACE",
    "RESET",
    "TRUNCATE",
    "Core",
    "SegmentInfo",
    "Ticket",
    "Verifier",
    "crc32c",
]

_ERRORS: dict[int, type[WalError]] = {
    lib.LW_INVALID_ENTRY: InvalidEntryError,
    lib.LW_ENTRY_TOO_LARGE: EntryTooLargeError,
    lib.LW_CONFLICT: ConflictError,
    lib.LW_PURGED: PurgedError,
    lib.LW_CORRUPTION: CorruptionError,
    lib.LW_UNSUPPORTED_FORMAT: UnsupportedFormatError,
    lib.LW_LOCKED: LockedError,
    lib.LW_DISK_FULL: DiskFullError,
    lib.LW_SYNC_FAILED: SyncFailedError,
    lib.LW_CLOSED: ClosedError,
    lib.LW_READ_ONLY: ReadOnlyError,
    lib.LW_IO: LogIOError,
    lib.LW_LOG_NOT_FOUND: LogNotFoundError,
    lib.LW_QUEUE_FULL: QueueFullError,
}

PERSIST, TRUNCATE, REPLACE = lib.LW_PERSIST, lib.LW_TRUNCATE, lib.LW_REPLACE
PURGE, RESET = lib.LW_PURGE, lib.LW_RESET

_BOUND = (
    "fast_persist",
    "fast_replace",
    "fast_submit",
    "waits",
    "_get_entries",
    "_entry",
    "_small_entry",
    "first_index",
    "last_index",
    "durable_index",
    "fast_term",
)
"""What lw_python_bind makes, in its order."""

LARGE_ENTRY_BYTES: int = lib.LW_LARGE_ENTRY_BYTES
"""Of payload: an entry that is larger is read in another thread than an event loop's."""

_NOWHERE = LogId(0, 0)

_FINDING_KINDS = {
    lib.LW_FOUND_LOCK: FindingKind.LOCK,
    lib.LW_FOUND_HEADER: FindingKind.HEADER,
    lib.LW_FOUND_CLOSE_MARK: FindingKind.CLOSE_MARK,
    lib.LW_FOUND_FRAME: FindingKind.FRAME,
    lib.LW_FOUND_COMMIT: FindingKind.COMMIT,
    lib.LW_FOUND_CHAIN: FindingKind.CHAIN,
    lib.LW_FOUND_OFFSET_INDEX: FindingKind.OFFSET_INDEX,
    lib.LW_FOUND_FOOTER: FindingKind.FOOTER,
    lib.LW_FOUND_SHORT_FILE: FindingKind.SHORT_FILE,
    lib.LW_FOUND_MISSING_SEGMENT: FindingKind.MISSING_SEGMENT,
    lib.LW_FOUND_FOREIGN_FILE: FindingKind.FOREIGN_FILE,
    lib.LW_FOUND_UNREADABLE: FindingKind.UNREADABLE,
}

_SIGNALS_EVERY_NS = 100_000_000
"""So often a call that waits lets the interpreter look for signals."""

_UNKNOWN = U64_MAX
"""As the last index of a range: nobody can tell."""


class Ticket(NamedTuple):
    """A write that was given to the core."""

    number: int
    queued: bool
    """Not accepted yet: it waits for a rotation, and may still be refused."""


class SegmentInfo(NamedTuple):
    """One segment file. Sizes and offsets in bytes."""

    number: int
    file: str
    size: int
    end: int
    """Where its frames end."""
    first_index: int
    """Of the entries that are visible in it; equal to `next_index` where none is."""
    next_index: int
    sealed: bool


def _error(path: str, error: Any, *, opening: bool = False) -> Exception:
    """The exception for an lw_error; what may be done about damage depends on whether it was met
    while `opening`.
    """
    detail = ffi.string(error.detail).decode("utf-8", "replace")
    file = ffi.string(error.file).decode("utf-8", "replace") or None
    if error.status == lib.LW_OUT_OF_RANGE:
        return ValueError(detail)
    if error.status == lib.LW_TIMED_OUT:
        return TimeoutError(detail)
    if error.status == lib.LW_NO_MEMORY:
        return MemoryError(detail)
    offset = error.offset if error.has_offset else None
    first = error.index if error.has_index else None
    is_one = bool(error.has_index) and error.index == error.last_index
    last = error.last_index if is_one or (first and error.last_index != _UNKNOWN) else None
    error_type = _ERRORS.get(error.status, WalError)
    if error_type is CorruptionError:
        detail += _what_is_lost(first, last, opening=opening)
    elif error_type is DiskFullError:
        detail += "; the log is as before: free some space, or purge, and try again"
    if error_type in _EXPLAINED:
        detail += f" (docs/operations.md, {error_type.__name__})"
    where = path if file is None else f"{path}/{file}"
    if offset is not None:
        where += f" at byte {offset}"
    return error_type(
        f"{detail} [{where}]",
        path=path,
        file=file,
        offset=offset,
        index=first if is_one else None,
        errno=error.sys_errno or None,
        first_index=first,
        last_index=last,
    )


_EXPLAINED = {
    ConflictError,
    CorruptionError,
    DiskFullError,
    LockedError,
    LogIOError,
    LogNotFoundError,
    SyncFailedError,
    UnsupportedFormatError,
}
"""The message names the page that tells an operator what to do."""


def _what_is_lost(first: int | None, last: int | None, *, opening: bool) -> str:
    """Behind the description of some damage: the range, and the safe ways out of it."""
    if first is None:
        return "; nothing was changed"
    if last is None:
        lost = f"entries from {first} on are lost"
    elif first == last:
        lost = f"entry {first} is lost"
    else:
        lost = f"entries {first}..{last} are lost"
    join = "let this member join again as a new one, never with an older copy of its log"
    if opening or last is None:
        return f"; {lost}; nothing was changed, and the log does not open: {join}"
    return (
        f"; {lost}; nothing was changed: if a snapshot beyond index {last} exists, purge up to "
        f"it; else {join}"
    )


class Core:
    """One open handle of the C core. Thread-safe. Dropped without close it is abandoned: threads,
    descriptors and lock go, without a flush.
    """

    def __init__(
        self,
        path: str,
        *,
        segment_bytes: int,
        max_entry_bytes: int,
        spare_segments: int,
        max_queue_bytes: int,
        sync_interval_ms: int,
        create: bool,
        read_only: bool,
    ) -> None:
        options = ffi.new(
            "lw_options *",
            {
                "segment_bytes": segment_bytes,
                "max_entry_bytes": max_entry_bytes,
                "spare_segments": spare_segments,
                "max_queue_bytes": max_queue_bytes,
                "sync_interval_ms": sync_interval_ms,
                "create": create,
                "read_only": read_only,
            },
        )
        self.path = path
        handle = ffi.new("lw_wal **")
        error = ffi.new("lw_error *")
        if lib.lw_wal_open(os.fsencode(path), options, handle, error) != lib.LW_OK:
            raise _error(path, error, opening=True)
        self._handle = ffi.gc(handle[0], lib.lw_wal_free)
        self._bind()

    def _check(self, function: Callable[..., int], *arguments: Any) -> int:
        """Calls, and raises what comes back. Returns LW_OK, LW_PENDING or LW_NOT_FOUND."""
        error = ffi.new("lw_error *")
        status = function(*arguments, error)
        if status in (lib.LW_OK, lib.LW_PENDING, lib.LW_NOT_FOUND):
            return status
        raise _error(self.path, error)

    def _wait(self, function: Callable[..., int], *arguments: Any) -> None:
        """The same for a call that waits: in slices, between which signals are handled."""
        with_slice = (*arguments, _SIGNALS_EVERY_NS)
        error = ffi.new("lw_error *")
        while (status := function(*with_slice, error)) == lib.LW_TIMED_OUT:
            pass
        if status != lib.LW_OK:
            raise _error(self.path, error)

    def _bind(self) -> None:
        path = self.path

        def make_error(address: int) -> Exception:
            return _error(path, ffi.cast("lw_error *", address))

        functions: list[Any] = []
        bound = lib.lw_python_bind(
            self._handle, id(self._handle), id(functions), id(Entry), id(make_error)
        )
        if bound == len(_BOUND):
            for name, function in zip(_BOUND, functions, strict=True):
                setattr(self, name, function)

    # -- writing ---------------------------------------------------------------------------------

    # What _BOUND names is replaced in each handle by functions of csrc/python/entries.c, where the
    # interpreter has them. They keep its lock, and take their arguments by position.

    def fast_persist(self, entries: object, durable: bool) -> Any:
        """Writes and waits. NotImplemented where the entries are not exactly right, or there is no
        such function here: then check them, and use `submit`.
        """
        del entries, durable
        return NotImplemented

    def fast_replace(self, from_index: object, entries: object, durable: bool) -> Any:
        """The same for replace_range; without entries it is truncate."""
        del from_index, entries, durable
        return NotImplemented

    def fast_submit(self, entries: object) -> Any:
        """A ticket's number, negative where it is queued; or NotImplemented, as above."""
        del entries
        return NotImplemented

    def waits(self, loop: object, descriptor: int, durable: bool) -> Any:
        """The writes of an event loop that wait to be durable, or accepted, with a descriptor that
        the loop listens to, and is subscribed here (csrc/python/waits.c); or NotImplemented.
        """
        del loop, descriptor, durable
        return NotImplemented

    def _get_entries(self, first: int, last: int, max_bytes: int) -> Any:
        del first, last, max_bytes
        return NotImplemented

    def _entry(self, index: int) -> Any:
        del index
        return NotImplemented

    def _small_entry(self, index: int) -> Any:
        del index
        return NotImplemented

    def first_index(self) -> int:
        """Index of the first entry, or the last index + 1."""
        self.check_open()
        return int(lib.lw_wal_first_index(self._handle))

    def last_index(self) -> int:
        """Highest index accepted."""
        self.check_open()
        return int(lib.lw_wal_last_index(self._handle))

    def durable_index(self) -> int:
        """Highest index that is durable with all before it."""
        self.check_open()
        return int(lib.lw_wal_durable_index(self._handle))

    def fast_term(self, index: object) -> Any:
        """`term`; or NotImplemented where the index is not exactly an int, or as above."""
        del index
        return NotImplemented

    def submit(
        self,
        operation: int,
        *,
        at: LogId = _NOWHERE,
        entries: Sequence[Entry] = (),
        hard_state: HardState | None = None,
        may_wait: bool,
    ) -> Ticket:
        """One write. The entries and the hard state have been checked (`pylogwal.checks`).

        Where writes that wait for a rotation leave no room for it, it waits for that if it
        `may_wait`, and is a QueueFullError else.
        """
        keep = [ffi.from_buffer(entry.payload) for entry in entries]
        rows = ffi.new("lw_entry[]", len(entries))
        for row, entry, payload in zip(rows, entries, keep, strict=True):
            row.index, row.term, _, row.kind = entry
            row.payload, row.size = payload, len(entry.payload)
        state = ffi.NULL if hard_state is None else _hard_state_to_c(hard_state)
        batch = ffi.new("lw_batch *", (operation, at, rows, len(entries), state))
        ticket, error = ffi.new("uint64_t *"), ffi.new("lw_error *")
        arguments = (self._handle, batch, lib.LW_QUEUE, ticket, error)
        while (status := lib.lw_wal_submit(*arguments)) == lib.LW_QUEUE_FULL and may_wait:
            self._wait(lib.lw_wal_wait_room, self._handle)
        if status not in (lib.LW_OK, lib.LW_PENDING):
            raise _error(self.path, error)
        return Ticket(ticket[0], status == lib.LW_PENDING)

    def wait(self, ticket: Ticket, *, durable: bool) -> None:
        """Until accepted, or durable. Blocks; raises what the write was refused with."""
        self._wait(lib.lw_wal_wait_slice, self._handle, ticket.number, durable)

    def poll(self, ticket: Ticket, durable: bool) -> bool:
        """Whether it is accepted, or durable. Raises what the write was refused with, once."""
        poll = lib.lw_wal_poll if ticket.queued else lib.lw_wal_poll_accepted
        return bool(self._check(poll, self._handle, ticket.number, durable) == lib.LW_OK)

    def wait_removed(self) -> None:
        """Until the files that a durable purge made useless are gone. Blocks."""
        self._wait(lib.lw_wal_wait_removed, self._handle)

    # -- being told ------------------------------------------------------------------------------

    def subscribe(self, descriptor: int) -> None:
        """Has the descriptor written to after each `arm`. It stays the caller's."""
        self._check(lib.lw_wal_subscribe, self._handle, descriptor)

    def unsubscribe(self, descriptor: int) -> None:
        """Before the descriptor is closed."""
        lib.lw_wal_unsubscribe(self._handle, descriptor)

    def arm(self, number: int, durable: bool, descriptor: int) -> None:
        """Has the descriptor written to at the next change, for who waits for the ticket of that
        number to be accepted, or durable; then a sync is started. At once where it is so already.
        """
        lib.lw_wal_arm(self._handle, descriptor, number, durable)

    # -- reading ---------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raises ClosedError where the handle is closed, or was opened before a fork."""
        self._check(lib.lw_wal_check_open, self._handle)

    def get_entries(self, first: int, last: int, max_bytes: int = U64_MAX) -> list[Entry]:
        """Indices and `max_bytes` are ints in 0..2^64-1; 2^64-1 bytes are no limit."""
        entries = self._get_entries(first, last, max_bytes)
        return self.read(first, last, max_bytes) if entries is NotImplemented else entries

    def entry(self, index: int) -> Entry | None:
        """Any int; outside of 0..2^64-1 there is none."""
        entry = self._entry(index)
        if entry is not NotImplemented:
            return entry  # type: ignore[no-any-return]
        index = clamped_index(index)
        found = self.read(index, index, U64_MAX)
        return found[0] if found else None

    def small_entry(self, index: int) -> Any:
        """`entry`; or NotImplemented where its payload is larger than LARGE_ENTRY_BYTES."""
        entry = self._small_entry(index)
        if entry is not NotImplemented:
            return entry
        index = clamped_index(index)
        size = ffi.new("uint64_t *")
        if self._check(lib.lw_wal_payload_size, self._handle, index, size) == lib.LW_NOT_FOUND:
            return None
        return NotImplemented if size[0] > LARGE_ENTRY_BYTES else self.entry(index)

    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """`get_entries` on any interpreter."""
        buffer, size, count = ffi.new("uint8_t **"), ffi.new("size_t *"), ffi.new("size_t *")
        self._check(lib.lw_wal_read, self._handle, first, last, max_bytes, buffer, size, count)
        try:
            return _unpacked(ffi.buffer(buffer[0], size[0])[:], count[0]) if count[0] else []
        finally:
            lib.lw_buffer_free(buffer[0])

    def term(self, index: int) -> int | None:
        """The term of an entry or the boundary; None where it is not known, as it is at any int
        outside of 0..2^64-1.
        """
        held = clamped_index(index)
        held = held if held == index else U64_MAX  # which no log holds
        term = ffi.new("uint64_t *")
        status = self._check(lib.lw_wal_term, self._handle, held, term)
        return None if status == lib.LW_NOT_FOUND else int(term[0])

    def boundary(self) -> LogId | None:
        """Of the highest purge."""
        found = ffi.new("lw_log_id *")
        status = self._check(lib.lw_wal_boundary, self._handle, found)
        return None if status == lib.LW_NOT_FOUND else LogId(found.index, found.term)

    def hard_state(self) -> HardState | None:
        """The latest accepted."""
        found = ffi.new("lw_hard_state *")
        if self._check(lib.lw_wal_hard_state, self._handle, found) == lib.LW_NOT_FOUND:
            return None
        vote = bytes(ffi.buffer(found.vote, found.vote_size)).decode() if found.has_vote else None
        extra = bytes(ffi.buffer(found.extra, found.extra_size))
        return HardState(found.term, vote, found.commit_index, extra)

    def wait_durable(self, index: int, timeout_ns: int) -> None:
        """`timeout_ns` below 0: as long as it takes."""
        if timeout_ns >= 0:
            self._check(lib.lw_wal_wait_durable, self._handle, index, timeout_ns)
            return
        ticket, place = self.durable_target(index)
        if ticket:
            self._wait(lib.lw_wal_wait_synced_slice, self._handle, ticket)
            self.check_durable(index, place)

    def durable_target(self, index: int) -> tuple[int, Any]:
        """The number of the ticket to wait for, 0 where `index` is durable; and what to check with
        afterwards.
        """
        ticket, place = ffi.new("uint64_t *"), ffi.new("lw_position *")
        self._check(lib.lw_wal_durable_target, self._handle, index, ticket, place)
        return int(ticket[0]), place

    def check_durable(self, index: int, place: Any) -> None:
        """Raises ConflictError where the entry was replaced since `durable_target`."""
        self._check(lib.lw_wal_check_durable, self._handle, index, place)

    # -- the handle ------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read-only: looks at the directory again. Blocks."""
        error = ffi.new("lw_error *")
        if lib.lw_wal_refresh(self._handle, error) != lib.LW_OK:
            raise _error(self.path, error, opening=True)

    def stats(self) -> Any:
        """The core's lw_stats."""
        self.check_open()
        return self.last_stats()

    def last_stats(self) -> Any:
        """The same, also of a log that is closed."""
        stats = ffi.new("lw_stats *")
        lib.lw_wal_stats(self._handle, stats)
        return stats

    def segments(self) -> list[SegmentInfo]:
        """The segments that hold the log, oldest first."""
        self.check_open()
        rows = ffi.new("lw_segment_info[]", 64)
        found: list[SegmentInfo] = []
        after = 0
        while count := lib.lw_wal_segments(self._handle, after, rows, 64):
            found += self._segment_infos(rows[0:count])
            after = rows[count - 1].number
        return found

    @staticmethod
    def _segment_infos(rows: Any) -> list[SegmentInfo]:
        return [
            SegmentInfo(
                row.number,
                f"{row.number:016x}.wal",
                row.size,
                row.end,
                row.first_index,
                row.next_index,
                bool(row.sealed),
            )
            for row in rows
        ]

    def owned_here(self) -> bool:
        """False in a forked child, whose copy holds nothing."""
        return not lib.lw_wal_is_forked(self._handle)

    def close(self) -> None:
        """Flushes and releases everything, even if the flush fails. May be repeated. Blocks."""
        self._check(lib.lw_wal_close, self._handle)


class Verifier:
    """Verification of the log in a directory, step by step (csrc/verify.h). One thread at a time.

    With a `Core` it ends with ClosedError once that is closed.
    """

    def __init__(self, path: str, core: Core | None = None) -> None:
        self._path = path
        self._core = core  # which has to outlive it
        handle, error = ffi.new("lw_verify **"), ffi.new("lw_error *")
        wal = ffi.NULL if core is None else core._handle  # noqa: SLF001
        if lib.lw_verify_open(os.fsencode(path), wal, handle, error) != lib.LW_OK:
            raise _error(path, error)
        self._handle = ffi.gc(handle[0], lib.lw_verify_free)
        self._finding = ffi.new("lw_finding *")
        self._progress = ffi.new("lw_verify_progress *")

    def step(self) -> Finding | None:
        """Goes on for some milliseconds without the interpreter's lock, or to the next finding.
        Raises StopIteration at the end.
        """
        error = ffi.new("lw_error *")
        status = lib.lw_verify_next(self._handle, self._finding, self._progress, error)
        if status == lib.LW_PENDING:
            return None
        if status == lib.LW_NOT_FOUND:
            raise StopIteration
        if status != lib.LW_OK:
            raise _error(self._path, error)
        return self._found()

    def _found(self) -> Finding:
        found = self._finding
        known = bool(found.has_index)
        return Finding(
            file=ffi.string(found.file).decode(),
            segment=found.segment or None,
            offset=found.offset,
            kind=_FINDING_KINDS[found.kind],
            first_index=found.first_index if known else None,
            last_index=found.last_index if known and found.last_index != _UNKNOWN else None,
            needed=bool(found.needed),
            message=ffi.string(found.detail).decode(),
        )

    def stop(self) -> None:
        """The steps that follow give what was found until now, and then end."""
        error = ffi.new("lw_error *")
        if lib.lw_verify_stop(self._handle, error) != lib.LW_OK:
            raise _error(self._path, error)

    def progress(self) -> VerifyProgress:
        """As of the last step."""
        p = self._progress
        last = max(p.next_index - 1, 0)
        return VerifyProgress(p.bytes, p.total_bytes, p.segments, p.entries, p.first_index, last)

    def close(self) -> None:
        """Releases mapping and directory. Once, and not during a step."""
        ffi.release(self._handle)


def _hard_state_to_c(state: HardState) -> Any:
    vote = b"" if state.voted_for is None else state.voted_for.encode()
    made = ffi.new("lw_hard_state *")
    made.term, made.commit_index = state.term, state.commit_index
    made.has_vote = state.voted_for is not None
    made.vote_size, made.extra_size = len(vote), len(state.extra)
    made.vote[0 : len(vote)] = vote
    made.extra[0 : len(state.extra)] = state.extra
    return made


def _unpacked(packed: bytes, count: int) -> list[Entry]:
    """Entries from the layout of lw_wal_read: four 8-byte numbers, then the aligned payload."""
    numbers = memoryview(packed).cast("Q")
    entries = []
    at = 0
    for _ in range(count):
        index, term, size, kind = numbers[at // 8 : at // 8 + 4]
        entries.append(Entry(index, term, packed[at + 32 : at + 32 + size], kind))
        at += 32 + (size + 7) // 8 * 8
    return entries


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC32C of `data`, continued from `crc`."""
    return int(lib.lw_crc32c(crc, data, len(data)))
