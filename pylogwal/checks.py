"""What a caller may give to a log, checked in Python before any state is looked at.

Integers are `int` and its subclasses, never `bool` (an index of True is a mistake) and never a type
that only converts. What is returned holds plain `int`, `bytes` and `str`, so nothing that
the caller changes later reaches the log.
"""

from __future__ import annotations

from collections.abc import Iterable

from pylogwal.errors import EntryTooLargeError, InvalidEntryError
from pylogwal.types import Durability, Entry, HardState, LogId

__all__ = [
    "KIND_MAX",
    "ENTRY_BYTES_MAX",
    "EXTRA_BYTES_MAX",
    "INDEX_MAX",
    "SYNC_INTERVAL_MAX_MS",
    "U64_MAX",
    "VOTED_FOR_BYTES_MAX",
    "checked_cutoff",
    "checked_durability",
    "checked_entries",
    "checked_from_index",
    "checked_hard_state",
    "checked_int",
    "checked_max_bytes",
    "checked_option",
    "checked_timeout",
    "clamped_index",
    "refuse_one_entry",
]

U64_MAX = 2**64 - 1
INDEX_MAX = 2**64 - 2
"""Highest index of an entry: one less than fits, so that the index after it still does."""
KIND_MAX = 255
VOTED_FOR_BYTES_MAX = 255
EXTRA_BYTES_MAX = 2 * 1024
ENTRY_BYTES_MAX = 1 << 30
SYNC_INTERVAL_MAX_MS = 3_600_000
TIMEOUT_MAX_S = 1e9
"""Longer than anybody waits: three decades."""


def checked_entries(entries: Iterable[Entry], max_entry_bytes: int) -> list[Entry]:
    """Copies a batch and checks all of it that can be judged without the log.

    Every field's type and range, payloads against `max_entry_bytes` (bytes), indices contiguous and
    ascending, terms never descending. The first entry that is wrong is the one reported.

    Raises InvalidEntryError, or EntryTooLargeError which is one.
    """
    refuse_one_entry(entries)
    try:
        iterator = iter(entries)
    except TypeError as error:
        raise InvalidEntryError(
            f"entries is {_type_name(entries)}, not an iterable of Entry; pass a list of them"
        ) from error
    batch: list[Entry] = []
    for place, item in enumerate(iterator):
        entry = _checked_entry(item, place, max_entry_bytes)
        if batch:
            _check_follows(batch[-1], entry)
        batch.append(entry)
    return batch


def refuse_one_entry(entries: object) -> None:
    """An Entry is a tuple, so without this its fields would be taken for entries.

    Raises InvalidEntryError where an Entry stands in place of a list.
    """
    if isinstance(entries, Entry):
        raise InvalidEntryError(
            f"entries is one Entry, of index {entries.index}, not a list of them; pass [entry]"
        )


def _checked_entry(item: object, place: int, max_entry_bytes: int) -> Entry:
    if not isinstance(item, Entry):
        raise InvalidEntryError(f"entries[{place}] is {_type_name(item)}, not an Entry")
    index = _entry_int(item.index, "index", place, 1, INDEX_MAX)
    term = _entry_int(item.term, "term", place, 0, U64_MAX, index)
    kind = _entry_int(item.kind, "kind", place, 0, KIND_MAX, index)
    try:
        payload = _copied_bytes(item.payload)
    except TypeError as error:
        raise InvalidEntryError(
            f"the payload of entry {index} is {_type_name(item.payload)}, which is not bytes-like; "
            "encode it first",
            index=index,
        ) from error
    if len(payload) > max_entry_bytes:
        raise EntryTooLargeError(
            f"the payload of entry {index} is {len(payload)} bytes, over max_entry_bytes="
            f"{max_entry_bytes}; split it, or open the log with a larger max_entry_bytes",
            index=index,
        )
    return Entry(index, term, payload, kind)


def _check_follows(before: Entry, entry: Entry) -> None:
    if entry.index != before.index + 1:
        raise InvalidEntryError(
            f"entry {entry.index} follows entry {before.index} in one batch; "
            "indices must be contiguous and ascending",
            index=entry.index,
        )
    if entry.term < before.term:
        raise InvalidEntryError(
            f"entry {entry.index} has term {entry.term}, below term {before.term} of the entry "
            "before it; terms never decrease",
            index=entry.index,
        )


def checked_cutoff(cutoff: LogId) -> LogId:
    """A purge's cutoff: a LogId with index 0..2^64-2 and term 0..2^64-1.

    Raises InvalidEntryError.
    """
    if not isinstance(cutoff, LogId):
        raise InvalidEntryError(f"cutoff is {_type_name(cutoff)}, not a LogId")
    index = _argument_int(cutoff.index, "cutoff.index", INDEX_MAX)
    return LogId(index, _argument_int(cutoff.term, "cutoff.term", U64_MAX))


def checked_from_index(from_index: int) -> int:
    """Where a truncate starts, 0..2^64-1. Raises InvalidEntryError."""
    return _argument_int(from_index, "from_index", U64_MAX)


def clamped_index(index: int) -> int:
    """An index to look for, brought into 0..2^64-1: what lies outside is in no log.

    Raises TypeError.
    """
    if isinstance(index, bool) or not isinstance(index, int):
        raise TypeError(f"an index is an int, not {_type_name(index)}")
    return min(max(int(index), 0), U64_MAX)


def checked_max_bytes(max_bytes: int | None) -> int | None:
    """The limit of a range read, in payload bytes, 0 or more; None is no limit.

    Raises TypeError, ValueError.
    """
    return None if max_bytes is None else checked_int("max_bytes", max_bytes, 0, None)


def checked_hard_state(state: HardState) -> HardState:
    """Copies a hard state and checks its fields; a bytes-like `extra` becomes `bytes`.

    Raises TypeError or ValueError that names the field.
    """
    if not isinstance(state, HardState):
        raise TypeError(f"the hard state is {_type_name(state)}, not a HardState")
    term = checked_int("HardState.term", state.term, 0, U64_MAX)
    commit_index = checked_int("HardState.commit_index", state.commit_index, 0, U64_MAX)
    voted_for = None if state.voted_for is None else _checked_voted_for(state.voted_for)
    try:
        extra = _copied_bytes(state.extra)
    except TypeError as error:
        raise TypeError(
            f"HardState.extra is {_type_name(state.extra)}, which is not bytes-like"
        ) from error
    if len(extra) > EXTRA_BYTES_MAX:
        raise ValueError(
            f"HardState.extra is {len(extra)} bytes; at most {EXTRA_BYTES_MAX} are kept"
        )
    return HardState(term, voted_for, commit_index, extra)


def _checked_voted_for(voted_for: object) -> str:
    if not isinstance(voted_for, str):
        raise TypeError(f"HardState.voted_for is {_type_name(voted_for)}, not a str or None")
    try:
        encoded = str.encode(voted_for)  # not its own `encode` or `__str__`: an enum has another
    except UnicodeEncodeError as error:
        raise ValueError(
            "HardState.voted_for holds a lone surrogate, which UTF-8 cannot"
        ) from error
    if len(encoded) > VOTED_FOR_BYTES_MAX:
        raise ValueError(
            f"HardState.voted_for is {len(encoded)} bytes of UTF-8; at most "
            f"{VOTED_FOR_BYTES_MAX} are kept"
        )
    return encoded.decode()


def checked_durability(durability: Durability | str) -> Durability:
    """The mode itself, from a member or its string. Raises ValueError."""
    try:
        return Durability(durability)
    except ValueError:
        modes = ", ".join(repr(str(mode)) for mode in Durability)
        raise ValueError(f"durability is {durability!r}, not one of {modes}") from None


def checked_option(name: str, value: object, low: int, high: int) -> int:
    """An option of a log that is an int in low..high. Raises ValueError that names it."""
    try:
        return checked_int(name, value, low, high)
    except TypeError as error:
        raise ValueError(str(error)) from None


def checked_timeout(timeout: float | None) -> int:
    """A time to wait, in seconds, as nanoseconds; -1 for None and for what never comes to an end.

    Raises TypeError, ValueError.
    """
    if timeout is None:
        return -1
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout is {_type_name(timeout)}, not a number of seconds or None")
    if not timeout >= 0:
        raise ValueError(f"timeout is {timeout}, not 0 or more seconds")
    return -1 if timeout > TIMEOUT_MAX_S else int(timeout * 1e9)


def checked_int(name: str, value: object, low: int, high: int | None) -> int:
    """An argument that is an int in low..high (no upper limit where None).

    Raises TypeError or ValueError that names it.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {_type_name(value)}, not an int")
    if value < low or (high is not None and value > high):
        limits = f"{low} or more" if high is None else f"{low}..{high}"
        raise ValueError(f"{name} is {value}, not {limits}")
    return int(value)


def _entry_int(
    value: object, field: str, place: int, low: int, high: int, index: int | None = None
) -> int:
    where = f"entries[{place}].{field}" if index is None else f"the {field} of entry {index}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidEntryError(f"{where} is {_type_name(value)}, not an int", index=index)
    if not low <= value <= high:
        index = value if index is None else index
        raise InvalidEntryError(f"{where} is {value}, not {low}..{high}", index=index)
    return int(value)


def _argument_int(value: object, name: str, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidEntryError(f"{name} is {_type_name(value)}, not an int")
    if not 0 <= value <= high:
        raise InvalidEntryError(f"{name} is {value}, not 0..{high}")
    return int(value)


def _copied_bytes(data: object) -> bytes:
    """The bytes of any bytes-like object. TypeError for the rest, also where `bytes()` would guess
    (an int is not that many zeros).
    """
    if type(data) is bytes:
        return data
    with memoryview(data) as view:  # type: ignore[arg-type]
        return view.tobytes()


def _type_name(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
