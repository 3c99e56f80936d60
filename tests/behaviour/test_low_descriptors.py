"""A program that was started without standard input, output or error, as daemons are. Descriptors
0 to 2 are then the next that the system gives out, and whatever any library prints goes there.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from processes import run_python
from stores import SEGMENT_BYTES

from pylogwal import Entry, Wal

CLOSED = [closed for count in (1, 2, 3) for closed in itertools.combinations(range(3), count)]

PROGRAM = """
import asyncio, ctypes, os, stat, sys, threading, traceback
from pathlib import Path
import pylogwal
from pylogwal import Entry, LogId, Wal

log, closed, wakes_by = Path(sys.argv[1]), eval(sys.argv[2]), sys.argv[3]
report = os.fdopen(os.dup(1), "w")  # not a low one
loop = asyncio.new_event_loop()  # whose own descriptors are not the log's
libc = ctypes.CDLL(None)
if wakes_by == "pipe" and hasattr(os, "eventfd"):
    del os.eventfd

def print_something():
    '''As any library may at any time: to descriptors 1 and 2, whatever they are.'''
    os.write(1, b"x" * 300) if is_open(1) else None
    libc.perror(b"some library has something to say")

def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True

def inode(path):
    try:
        return path.stat().st_dev, path.stat().st_ino
    except FileNotFoundError:  # a file that has been renamed meanwhile
        return None

def check():
    '''None of the low descriptors is a file of the log, nor what the core wakes a loop by.'''
    ours = {inode(path) for path in (log, *log.iterdir())}
    for number in closed:
        if is_open(number):
            status = os.fstat(number)
            assert (status.st_dev, status.st_ino) not in ours, f"{number} is a file of the log"
            assert not stat.S_ISFIFO(status.st_mode), f"{number} is a pipe"
            link = Path(f"/proc/self/fd/{number}")
            assert not link.is_symlink() or "eventfd" not in str(link.readlink()), number
    print_something()

def entry(index):
    return Entry(index, 1, b"acknowledged %4d " % index * 200)

def in_turn():
    wal = Wal(log, segment_bytes=65536, spare_segments=2)
    check()
    for index in range(1, 41):  # rotations
        wal.persist_entries([entry(index)])
        check()
    wal.purge(LogId(30, 1))  # and files that are used again
    for index in range(41, 61):
        wal.persist_entries([entry(index)])
        check()
    reader = Wal(log, read_only=True)
    check()
    for _ in range(3):
        reader.refresh()
        check()
    assert reader.entry(60) == entry(60)
    reader.close()
    wal.close()
    check()

async def in_a_loop():
    async with pylogwal.open(log, segment_bytes=65536) as store:
        for index in range(61, 81):
            await store.persist_entries([entry(index)])
            check()
        await asyncio.gather(*(store.submit([entry(index)]) for index in range(81, 101)))
        check()
    check()

try:
    for number in closed:
        os.close(number)
    in_turn()
    loop.run_until_complete(in_a_loop())
except BaseException:
    traceback.print_exc(file=report)
print("done", file=report, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("wakes_by", ["eventfd", "pipe"])
@pytest.mark.parametrize("closed", CLOSED, ids=str)
def test_what_is_printed_where_0_to_2_are_closed_never_meets_the_log(
    tmp_path: Path, closed: tuple[int, ...], wakes_by: str
) -> None:
    log = tmp_path / "log"
    lines = run_python(PROGRAM, log, closed, wakes_by).splitlines()
    assert [line.lstrip("x") for line in lines] == ["done"]
    with Wal(log, segment_bytes=SEGMENT_BYTES) as wal:
        assert wal.get_entries(31, 999) == [
            Entry(index, 1, b"acknowledged %4d " % index * 200) for index in range(31, 101)
        ]


LOOP = """
import asyncio, os, sys
import pylogwal
from pylogwal import Entry

if sys.argv[2] == "pipe" and hasattr(os, "eventfd"):
    del os.eventfd

async def main():
    async with pylogwal.open(sys.argv[1], spare_segments=0) as store:
        for number in range(3):
            os.close(number)
        await store.persist_entries([Entry(1, 1)])
        await asyncio.gather(*(store.submit([Entry(index, 1)]) for index in range(2, 9)))
        for number in range(3):
            try:
                os.fstat(number)
            except OSError:
                continue
            os._exit(number + 1)

asyncio.run(main())
os._exit(0)
"""


@pytest.mark.parametrize("wakes_by", ["eventfd", "pipe"])
def test_what_wakes_a_loop_has_no_descriptor_below_3(tmp_path: Path, wakes_by: str) -> None:
    run_python(LOOP, tmp_path / "log", wakes_by)


def test_a_pipe_that_cannot_be_moved_away_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pylogwal import waker

    def fails(*arguments: object) -> int:
        raise OSError(24, "Too many open files")

    read, write = os.pipe()
    monkeypatch.setattr(waker.fcntl, "fcntl", fails)
    assert waker._above_standard(read, write) == [read, write]
    closed: list[int] = []
    monkeypatch.setattr(waker.os, "close", closed.append)
    with pytest.raises(OSError, match="Too many"):
        waker._above_standard(1, write)
    monkeypatch.undo()
    assert closed == [1, write]
    os.close(read)
    os.close(write)
