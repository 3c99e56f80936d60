"""One writer, whoever forks."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from processes import Child, run_python
from stores import run

from pylogwal import LockedError, Wal

HOLD = """
import sys
from pylogwal import Entry, Wal
wal = Wal(sys.argv[1])
wal.persist_entries([Entry(1, 1, b"x")])
print("open")
sys.stdin.readline()
wal.close()
print("closed")
sys.stdin.readline()
"""


READER = """
import os, sys
from pylogwal import ClosedError, Wal
reader = Wal(sys.argv[1], read_only=True)
child = os.fork()
if child == 0:
    for call in (
        reader.first_index,
        reader.last_index,
        reader.durable_index,
        lambda: reader.term(0),
        lambda: reader.term(1),
        lambda: reader.term(3),
        lambda: reader.get_entries(1, 3),
        lambda: reader.entry(1),
    ):
        try:
            call()
        except ClosedError:
            continue
        os._exit(1)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0, "the child was not told, or died"
assert len(reader.get_entries(1, 3)) == 3
reader.close()
"""


def test_a_reader_is_closed_in_a_child_also_where_there_was_never_a_writer(tmp_path: Path) -> None:
    with Wal(tmp_path) as wal:
        wal.persist_entries(run(1, 3))
    run_python(READER, tmp_path)


def test_a_second_writer_in_the_process_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "log")
    with Wal(tmp_path / "log") as wal:
        for path in (tmp_path / "log", link, tmp_path / "log" / "." / ""):
            with pytest.raises(LockedError, match="another writer") as raised:
                Wal(path)
            assert isinstance(raised.value, OSError)
            assert raised.value.file is None
            assert raised.value.path == str(path)
        wal.persist_entries(run(1, 3))
    with Wal(link) as wal:
        assert wal.last_index() == 3


def test_a_second_writer_in_another_process_is_refused(tmp_path: Path) -> None:
    with Child(HOLD, tmp_path / "log") as child:
        assert child.line() == "open"
        with pytest.raises(LockedError):
            Wal(tmp_path / "log")
        child.tell()
        assert child.line() == "closed"
        with Wal(tmp_path / "log") as wal:
            assert wal.last_index() == 1


def test_a_writer_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    with Child(HOLD, tmp_path / "log") as child:
        assert child.line() == "open"
        child.kill()
    with Wal(tmp_path / "log") as wal:
        assert wal.last_index() == 1


FORK = """
import asyncio, gc, inspect, os, sys, threading
import pylogwal
from pylogwal import ClosedError, Entry, HardState, LogId, Wal

path, mode = sys.argv[1:]
CALLS = [
    ("persist_entries", [Entry(9, 1)]), ("persist_entries", []), ("entry", 1),
    ("get_entries", 1, 9), ("purge", LogId(1, 1)), ("truncate", 2), ("replace_range", 2, []),
    ("reset",), ("is_write_durable",), ("flush",), ("first_index",), ("last_index",),
    ("durable_index",), ("term", 1), ("term", 0), ("wait_durable", 1), ("load_purge_boundary",),
    ("save_hard_state", HardState(1)), ("load_hard_state",), ("stats",), ("refresh",),
    ("__enter__",),
]
ASYNC = [
    ("flush_async",), ("save_hard_state_async", HardState(1)), ("submit", [Entry(9, 1)]),
    ("__aenter__",),
]

def check(store, calls, loop):
    for name, *arguments in calls:
        try:
            result = getattr(store, name)(*arguments)
            if inspect.isawaitable(result):
                loop.run_until_complete(result)
        except ClosedError:
            continue
        raise SystemExit(f"{name} went through in the child")

def check_in_child(store):
    '''In a forked child: every call is ClosedError.'''
    loop = asyncio.new_event_loop()
    check(store.wal, CALLS, loop)
    check(store, [call for call in CALLS if call[0] != "__enter__"], loop)
    async def submit():
        store.submit([Entry(9, 1)])
    check(store, ASYNC[:2] + ASYNC[3:], loop)
    try:
        loop.run_until_complete(submit())
    except ClosedError:
        pass
    else:
        raise SystemExit("submit went through in the child")
    store.wal.close()
    loop.run_until_complete(store.aclose())
    loop.close()

async def opened():
    return await pylogwal.open(path, durability=mode, segment_bytes=65536)
"""

FORK_ONCE = (
    FORK
    + """
store = asyncio.run(opened())
store.wal.persist_entries([Entry(i, 1, b"%d" % i) for i in range(1, 6)])
go_on, tell = os.pipe()
child = os.fork()
if child == 0:
    os.close(tell)
    check_in_child(store)
    os.read(go_on, 1)
    del store
    gc.collect()
    sys.exit(0)
os.close(go_on)
# The parent goes on, unharmed; closes; and another opens, all while the child lives.
for i in range(6, 200):
    asyncio.run(store.persist_entries([Entry(i, 1, b"%d" % i * 300)]))
store.wal.close()
with Wal(path) as wal:
    assert [e.index for e in wal.get_entries(1, 999)] == list(range(1, 200))
    os.close(tell)
    assert os.waitpid(child, 0)[1] == 0
    # The child has ended: it did not take the lock with it.
    wal.persist_entries([Entry(200, 1)])
    try:
        Wal(path)
    except pylogwal.LockedError:
        pass
    else:
        raise SystemExit("the lock is gone")
"""
)


@pytest.mark.parametrize("mode", ["batch", "interval", "manual"])
def test_a_forked_child_gets_an_error_from_every_call_and_keeps_nothing(
    tmp_path: Path, mode: str
) -> None:
    run_python(FORK_ONCE, tmp_path / "log", mode)


FORK_OFTEN = (
    FORK
    + """
store = asyncio.run(opened())
stop = False
def write():
    while not stop:
        last = store.last_index()
        store.wal.persist_entries([Entry(last + 1, 1, b"x" * 700)])
def read():
    while not stop:
        last = store.last_index()
        assert last == 0 or store.get_entries(last, last)[0].index == last
threads = [threading.Thread(target=write), threading.Thread(target=read)]
for thread in threads:
    thread.start()
for _ in range(25):
    child = os.fork()
    if child == 0:
        check_in_child(store)
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop = True
for thread in threads:
    thread.join()
last = store.last_index()
store.wal.close()
with Wal(path) as wal:
    assert [e.index for e in wal.get_entries(1, 2**63)] == list(range(1, last + 1))
"""
)


def test_a_fork_at_any_moment_of_a_writer_is_harmless(tmp_path: Path) -> None:
    run_python(FORK_OFTEN, tmp_path / "log", "manual")


FORK_IN_LOOP = (
    FORK
    + """
async def main():
    store = await opened()
    futures = [store.submit([Entry(i, 1, b"x" * 700)]) for i in range(1, 300)]
    child = os.fork()
    if child == 0:
        # In the parent's loop, which this process has a copy of: it must end without a word.
        del store, futures
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    await asyncio.gather(*futures)
    await store.persist_entries([Entry(300, 1)])
    await store.aclose()
asyncio.run(main())
with Wal(path) as wal:
    assert wal.last_index() == 300
"""
)


def test_a_fork_inside_the_loop_leaves_the_waiting_writes_alone(tmp_path: Path) -> None:
    run_python(FORK_IN_LOOP, tmp_path / "log", "batch")


FORK_IN_A_FIRST_CALL = (
    FORK
    + """
import signal
store = asyncio.run(opened())
held, let_go = threading.Event(), threading.Event()
def hold():  # as a thread does that calls from a loop of its own for the first time
    with store._wakers_lock:
        held.set()
        let_go.wait()
thread = threading.Thread(target=hold, daemon=True)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)  # for a hang
    check_in_child(store)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
let_go.set()
thread.join()
asyncio.run(store.aclose())
"""
)


def test_a_fork_amid_another_threads_first_call_does_not_hang_the_child(tmp_path: Path) -> None:
    run_python(FORK_IN_A_FIRST_CALL, tmp_path / "log", "batch")


FORK_AND_DIE = """
import os, sys
from pylogwal import Entry, Wal
wal = Wal(sys.argv[1], durability="manual")
wal.persist_entries([Entry(i, 1) for i in range(1, 6)])
if os.fork() == 0:
    print(os.getpid(), flush=True)  # by now it has given back what it inherited
sys.stdin.readline()
os._exit(0)
"""


def test_the_log_is_free_when_the_parent_is_killed_and_its_child_lives(tmp_path: Path) -> None:
    child = Child(FORK_AND_DIE, tmp_path / "log")
    grandchild = int(child.line())
    try:
        child.process.send_signal(signal.SIGKILL)
        child.process.wait()
        os.kill(grandchild, 0)
        with Wal(tmp_path / "log") as wal:
            assert wal.get_entries(1, 9) == [entry._replace(payload=b"") for entry in run(1, 5)]
    finally:
        os.kill(grandchild, signal.SIGKILL)
        child.end()


def test_a_forked_child_may_open_the_log_anew(tmp_path: Path) -> None:
    run_python(
        """
import os, sys
from pylogwal import Entry, Wal
wal = Wal(sys.argv[1])
wal.persist_entries([Entry(1, 1)])
child = os.fork()
if child == 0:
    with Wal(sys.argv[1], read_only=True) as reader:
        assert reader.last_index() == 1
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
wal.close()
child = os.fork()
if child == 0:
    with Wal(sys.argv[1]) as mine:
        mine.persist_entries([Entry(2, 1)])
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
with Wal(sys.argv[1]) as wal:
    assert wal.last_index() == 2
""",
        tmp_path / "log",
    )
