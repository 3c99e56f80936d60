"""Files that are cut, or go bad, beneath a store that has them open: errors, and it lives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from processes import needs_proc, run_python
from stores import SEGMENT_BYTES, state_of

from pylogwal import CorruptionError, Entry, Wal

START = """
import errno, faulthandler, os, signal, sys
from pathlib import Path
import pylogwal
from pylogwal import CorruptionError, Entry, LogId, SyncFailedError, Wal, WalError

path, mode = Path(sys.argv[1]), sys.argv[2]

def entry_of(i):
    return Entry(i, 1, (b"%d " % i * 900)[:900])

def segment(number):
    return path / f"{number:016x}.wal"

def is_damage(error):
    return isinstance(error, CorruptionError) or error.errno == errno.EIO

def readable(wal, first, last):
    '''The indices that can be read; all others are refused.'''
    found = set()
    for i in range(first, last + 1):
        try:
            assert wal.entry(i) == entry_of(i)
            found.add(i)
        except WalError as error:
            assert is_damage(error), error
            assert error.first_index is None or error.first_index <= i <= error.last_index
    return found

def close(wal):
    try:
        wal.close()
    except WalError as error:
        print("close:", error)
    wal.close()
    assert not [f for f in os.listdir("/proc/self/fd")
                if str(path) in os.path.realpath(f"/proc/self/fd/{f}")]

wal = Wal(path, durability=mode, segment_bytes=65536)
for i in range(1, 201):
    wal.persist_entries([entry_of(i)])
wal.flush()
segments = wal.core.segments()
tail, sealed = segments[-1], segments[1]
"""

SEALED = """
os.truncate(segment(sealed.number), int(sys.argv[3]))
lost = set(range(1, 201)) - readable(wal, 1, 200)
assert lost and lost <= set(range(sealed.first_index, sealed.next_index)), lost
try:
    wal.get_entries(1, 200)
except WalError as error:
    assert is_damage(error)
else:
    raise SystemExit("all could be read")
assert wal.get_entries(tail.first_index, 200)
# Writing goes on: nothing of it needs what is lost.
for i in range(201, 300):
    wal.persist_entries([entry_of(i)])
first = sealed.next_index + 1
try:
    wal.purge(LogId(max(lost), 1))  # the term there is lost
except WalError as error:
    assert is_damage(error)
else:
    raise SystemExit("the term was known")
wal.purge(LogId(first - 1, 1))
assert readable(wal, first, 299) == set(range(first, 300))
wal.close()
with Wal(path) as wal:
    assert readable(wal, first, 299) == set(range(first, 300))
"""

TAIL = """
os.truncate(segment(tail.number), int(sys.argv[3]))
good = readable(wal, 1, 200)
assert good >= set(range(1, tail.first_index))
refused = 0
for i in range(201, 400):
    last = wal.last_index()
    try:
        wal.persist_entries([entry_of(last + 1)])
    except WalError as error:
        assert is_damage(error) or isinstance(error, SyncFailedError), error
        refused += 1
        assert wal.last_index() == last
assert readable(wal, 1, 200) == good
assert refused > 0
close(wal)
"""

ALL_OF_THEM = """
for s in segments:
    os.truncate(segment(s.number), 0)
assert readable(wal, 1, 200) == set()
for call in (
    lambda: wal.persist_entries([entry_of(201)]),
    lambda: wal.persist_entries([entry_of(150)]),
    lambda: wal.truncate(100),
    lambda: wal.replace_range(150, [entry_of(150)]),
    lambda: wal.purge(LogId(100, 1)),
    lambda: wal.reset(),
    lambda: wal.save_hard_state(pylogwal.HardState(1)),
    lambda: wal.term(100),
    lambda: wal.wait_durable(100),
    lambda: wal.flush(),
):
    try:
        call()
    except WalError as error:
        assert is_damage(error) or isinstance(error, SyncFailedError), error
close(wal)
"""

TASKS = """
import asyncio
wal.close()
async def main():
    store = await pylogwal.open(path, segment_bytes=65536)
    futures = [store.submit([entry_of(i)]) for i in range(201, 220)]
    os.truncate(segment(store.wal.core.segments()[-1].number), 4096)
    outcomes = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 60)
    for outcome in outcomes:
        assert outcome is None or isinstance(outcome, WalError), outcome
    try:
        await store.aclose()
    except WalError as error:
        print("close:", error)
    assert readable_is_closed(store)
def readable_is_closed(store):
    try:
        store.last_index()
    except pylogwal.ClosedError:
        return True
asyncio.run(main())
"""

READER = """
reader = Wal(path, read_only=True)
os.truncate(segment(sealed.number), 8192)
for i in range(1, 201):
    try:
        assert reader.entry(i) == entry_of(i)
    except WalError as error:
        assert is_damage(error) or isinstance(error, pylogwal.PurgedError), error
try:
    reader.refresh()
except CorruptionError as error:
    assert error.first_index <= sealed.first_index and error.last_index >= sealed.next_index - 1
else:
    raise SystemExit("the file is short, and nobody said so")
assert reader.entry(200) == entry_of(200)
reader.close()
close(wal)
"""

FAULTHANDLER = """
faulthandler.enable()
with Wal(path.parent / "other"):
    pass
os.truncate(segment(sealed.number), 8192)
assert len(readable(wal, 1, 200)) < 200
close(wal)
"""

GUARD_ENDS = """
import mmap
other = path.parent / "foreign"
other.write_bytes(b"x" * 8192)
with other.open("r+b") as file:
    mapping = mmap.mmap(file.fileno(), 8192)
    os.truncate(other, 0)
    mapping[5000]  # no business of the log's: the process dies of it, as without the log
raise SystemExit(3)
"""


def test_a_sealed_segment_that_is_cut_costs_its_own_entries_only(tmp_path: Path) -> None:
    for size in (0, 4096, 8192, 20480, 53248):
        run_python(START + SEALED, tmp_path / str(size), "manual", size)


@needs_proc
def test_a_tail_that_is_cut_refuses_writes_and_lets_go(tmp_path: Path) -> None:
    for mode in ("batch", "interval", "manual"):
        for size in (0, 4096, 8192):
            run_python(START + TAIL, tmp_path / f"{mode}{size}", mode, size)


@needs_proc
def test_every_call_survives_files_that_are_all_cut(tmp_path: Path) -> None:
    for mode in ("batch", "manual"):
        run_python(START + ALL_OF_THEM, tmp_path / mode, mode)


def test_tasks_that_write_to_a_tail_that_is_cut_get_answers(tmp_path: Path) -> None:
    run_python(START + TASKS, tmp_path / "log", "batch")


@needs_proc
def test_a_reader_of_a_file_that_is_cut_lives(tmp_path: Path) -> None:
    run_python(START + READER, tmp_path / "log", "manual")


@needs_proc
def test_a_handler_that_is_put_in_between_is_put_back_at_the_next_open(tmp_path: Path) -> None:
    run_python(START + FAULTHANDLER, tmp_path / "log", "manual")


def test_a_bad_touch_elsewhere_is_not_swallowed(tmp_path: Path) -> None:
    run_python(START + GUARD_ENDS, tmp_path / "log", "manual", status=-7)


def test_bytes_that_change_beneath_an_open_store_are_noticed_when_read(tmp_path: Path) -> None:
    with Wal(tmp_path / "log", durability="manual", segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries([Entry(i, 1, b"payload %d" % i) for i in range(1, 11)])
        state = state_of(wal)
        file = tmp_path / "log" / f"{1:016x}.wal"
        at = file.read_bytes().index(b"payload 7")
        descriptor = os.open(file, os.O_WRONLY)
        os.pwrite(descriptor, b"P", at)
        for entry in state.entries:
            if entry.index != 7:
                assert wal.entry(entry.index) == entry
        for first in (1, 7):
            with pytest.raises(CorruptionError) as raised:
                wal.get_entries(first, 10)
            assert raised.value.index == 7
        with pytest.raises(CorruptionError):
            wal.entry(7)
        os.pwrite(descriptor, b"p", at)
        os.close(descriptor)
        assert state_of(wal) == state
