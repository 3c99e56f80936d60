"""Damage, case by case, and the judge of what the library makes of it. Run as a program it takes
cases from a file, so that a dead interpreter is seen and shown with the case that killed it:

    python hostile_cases.py DIRECTORY LOG CASES CURRENT
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import traceback
import zlib
from pathlib import Path
from typing import NamedTuple

from hostile_logs import Files, Log, files_of, put
from stores import State, state_of

from pylogwal import CorruptionError, Entry, UnsupportedFormatError, Wal, WalError

ALL = 2**64 - 1
SECTOR = 512
READ_ONLY_ONE_IN = 16


class Case(NamedTuple):
    """One damage. `offset`: a bit, a length, a sector. `other`: a second file."""

    kind: str
    file: str
    offset: int = 0
    other: str = ""


class BrokenError(AssertionError):
    """The library did what it must not."""


def damaged(files: Files, case: Case) -> Files:
    made = dict(files)
    data = made[case.file]
    if case.kind == "flip":
        flipped = bytearray(data)
        flipped[case.offset // 8] ^= 1 << case.offset % 8
        made[case.file] = bytes(flipped)
    elif case.kind == "cut":
        made[case.file] = data[: case.offset]
    elif case.kind == "zero":
        start = case.offset * SECTOR
        end = min(start + SECTOR, len(data))
        made[case.file] = data[:start] + bytes(end - start) + data[end:]
    elif case.kind == "delete":
        del made[case.file]
    elif case.kind == "swap":
        made[case.file], made[case.other] = files[case.other], data
    elif case.kind == "copy":
        made[case.other] = data
    elif case.kind == "rename":
        made[case.other] = made.pop(case.file)
    else:
        raise ValueError(case.kind)
    return made


def byte_of(case: Case) -> range:
    """The bytes that the case touches."""
    if case.kind == "flip":
        return range(case.offset // 8, case.offset // 8 + 1)
    if case.kind == "zero":
        return range(case.offset * SECTOR, (case.offset + 1) * SECTOR)
    return range(case.offset, 2**40)


def require(holds: bool, what: str) -> None:
    if not holds:
        raise BrokenError(what)


def judge(directory: Path, log: Log, case: Case) -> str:
    """What became of it, in a word. Raises BrokenError."""
    files = damaged(log.files, case)
    if files == log.files:
        return "unchanged"
    put(directory, files)
    read_only = None
    # A read-only open looks at damage again and again, which takes its time.
    if zlib.crc32(repr(case).encode()) % READ_ONLY_ONE_IN == 0:
        read_only = _judge_open(directory, log, case, files, read_only=True)
        require(files_of(directory) == files, "a read-only open changed the files")
    outcome = _judge_open(directory, log, case, files, read_only=False)
    require(read_only in (None, outcome), f"read-only: {read_only}, writable: {outcome}")
    return outcome


def _judge_open(directory: Path, log: Log, case: Case, files: Files, *, read_only: bool) -> str:
    try:
        wal = Wal(directory, spare_segments=0, read_only=read_only)
    except WalError as error:
        if not read_only:
            after = files_of(directory)
            if "LOCK" not in files:
                require(after.pop("LOCK", b"") == b"", "a LOCK was written")
            require(after == files, f"files were changed, though: {error}")
        _judge_error(log, case, error)
        return "refused"
    try:
        return _judge_content(log, case, wal)
    finally:
        wal.close()


def _judge_error(log: Log, case: Case, error: WalError) -> None:
    fitting = (CorruptionError, UnsupportedFormatError)
    require(isinstance(error, fitting), f"{type(error).__name__}: {error}")
    if error.first_index is None:
        return
    state = log.states[-1]
    last = ALL if error.last_index is None else error.last_index
    require(error.first_index <= last, f"an empty range: {error}")
    require(error.first_index >= min(state.first, 1), f"before the log: {error}")
    lost = _lost(log, case)
    if error.file != case.file or not lost or case.kind in ("swap", "copy"):
        return
    covered = error.first_index <= lost[0] and last >= lost[-1]
    require(covered, f"{lost} are lost, the error says {error.first_index}..{error.last_index}")


def _lost(log: Log, case: Case) -> list[int]:
    """The indices that are lost for sure, as far as can be known: what a segment replaced of older
    ones is known to its own frames only, and to its footer; and the frames of a tail, which has
    none, cannot be read without its header.
    """
    frames = log.frames.get(case.file, [])
    if not frames:
        return []
    touched = byte_of(case)
    behind = [row for row in frames if row[1] > touched[0]]
    if case.kind not in ("flip", "zero"):
        touched, behind = range(0), frames
        kept = case.offset - 2 * 4096 if case.kind == "cut" else 0
        known = [index for _, end, index in frames if end <= kept]
    else:
        in_a_page = touched[0] < 8192 or touched[0] >= len(log.files[case.file]) - 4096
        behind = frames if in_a_page else behind
        known = [i for start, end, i in behind if end <= touched[0] or start > touched[-1]]
        if touched[0] < 4096 and case.file == max(log.frames):
            known = []
    begun = log.begins[case.file]
    return sorted({index for _, _, index in behind if index >= min([begun, *known])})


def _judge_content(log: Log, case: Case, wal: Wal) -> str:
    state = log.states[-1]
    hit = {log.entry_at(case.file, byte) for byte in (byte_of(case).start, byte_of(case)[-1])}
    try:
        found = state_of(wal)
    except CorruptionError as error:
        _judge_damaged_entries(log, wal, error)
        return "entries refused"
    if found == state:
        touched = hit - {None}
        require(
            case.kind != "flip" or not touched,
            f"the frame of entry {touched} is damaged, and nobody noticed",
        )
        return "whole"
    require(len(log.states) > 1, f"a wrong state: {_difference(found, state)}")
    require(found in log.states, f"no prefix: {_difference(found, state)}")
    return "prefix"


def _judge_damaged_entries(log: Log, wal: Wal, error: CorruptionError) -> None:
    """Some entries are damaged: those are refused by name, the others are right."""
    candidates = [state for state in log.states if state.last == wal.last_index()]
    require(bool(candidates), f"the last index is {wal.last_index()}")
    state = candidates[-1]
    own = (wal.first_index(), wal.load_purge_boundary(), wal.load_hard_state())
    require(own == (state.first, state.boundary, state.hard_state), f"a wrong state: {own}")
    first, last = error.first_index, error.last_index
    named = first is not None and last is not None and state.first <= first <= last <= state.last
    require(named, f"no range, or a wrong one: {error}")
    damaged_indices = 0
    for entry in state.entries:
        try:
            found = wal.entry(entry.index)
        except CorruptionError as again:
            damaged_indices += 1
            named = range(again.first_index or 0, (again.last_index or 0) + 1)
            require(entry.index in named, f"entry {entry.index}, and the error is: {again}")
            continue
        require(found == entry, f"wrong bytes: {_shown(found)} for {_shown(entry)}")
    require(damaged_indices > 0, f"each can be read, and all cannot: {error}")


def _shown(entry: Entry | None) -> str:
    return repr(entry)[:80]


def _difference(found: State, state: State) -> str:
    entries = f"{len(found.entries)} entries" if found.entries != state.entries else ""
    return f"{found._replace(entries=[])} {entries} for {state._replace(entries=[])}"


def main(directory: Path, log_file: Path, case_file: Path, current: Path) -> int:
    with log_file.open("rb") as file:
        log: Log = pickle.load(file)
    with case_file.open("rb") as file:
        cases: list[Case] = pickle.load(file)
    logging.disable()
    counts: dict[str, int] = {}
    broken = 0
    marker = os.open(current, os.O_WRONLY | os.O_CREAT, 0o644)
    for case in cases:
        os.pwrite(marker, repr(case).encode().ljust(200), 0)
        try:
            outcome = judge(directory, log, case)
        except Exception as error:
            broken += 1
            if broken <= 20:
                print("BROKEN", case, "".join(traceback.format_exception(error)[-2:]))
            continue
        counts[outcome] = counts.get(outcome, 0) + 1
    print(len(cases), "cases:", counts, "broken:", broken)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:5])))
