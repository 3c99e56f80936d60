"""One writer, whatever becomes of LOCK, whoever locks what, and however a child is made."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import Child, memory, run_python
from stores import run

from pylogwal import LockedError, Wal


def removed(lock: Path) -> None:
    lock.unlink()


def renamed(lock: Path) -> None:
    lock.rename(lock.with_suffix(".old"))


def replaced(lock: Path) -> None:
    other = lock.with_name("other")
    other.write_bytes(lock.read_bytes())
    other.replace(lock)


SECOND = """
import sys
from pylogwal import LockedError, Wal
try:
    Wal(sys.argv[1])
except LockedError as error:
    print(error)
else:
    raise SystemExit("a second writer opened")
"""


@pytest.mark.parametrize("lose", [removed, renamed, replaced])
def test_a_second_writer_is_refused_whatever_becomes_of_the_name_lock(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    log = tmp_path / "log"
    with Wal(log) as wal:
        wal.persist_entries(run(1, 3))
        lose(log / "LOCK")
        for _ in range(2):
            with pytest.raises(LockedError):
                Wal(log)
            assert "directory locked" in run_python(SECOND, log)
            wal.persist_entries(run(wal.last_index() + 1, wal.last_index() + 3))
    with Wal(log) as wal:
        assert wal.get_entries(1, 99) == run(1, 9)


HOLD = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("locked")
sys.stdin.readline()
"""


@contextmanager
def flocked_elsewhere(path: Path) -> Iterator[None]:
    """Another process has the file or directory locked, as flock(1) does."""
    with Child(HOLD, path) as child:
        assert child.line() == "locked"
        yield
        child.tell()
        child.end()


def is_locked(path: Path) -> bool:
    """Whether somebody else has it locked."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_the_error_says_that_the_directory_is_locked_and_what_a_supervisor_has_to_do(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    log.mkdir()
    with flocked_elsewhere(log):
        with pytest.raises(LockedError, match=r"directory locked.*supervisor's flock\(1\)") as told:
            Wal(log)
        assert told.value.file is None
        assert told.value.errno == errno.EWOULDBLOCK
    with Wal(log) as wal:
        wal.persist_entries(run(1, 3))
    with flocked_elsewhere(log), Wal(log, read_only=True) as reader:
        assert reader.last_index() == 3


def test_who_locks_lock_alone_as_earlier_versions_do_keeps_out_and_is_kept_out(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    with Wal(log):
        assert is_locked(log / "LOCK")
        assert is_locked(log)
    assert not is_locked(log / "LOCK")
    assert not is_locked(log)
    with flocked_elsewhere(log / "LOCK"):
        for _ in range(2):
            with pytest.raises(LockedError, match="has LOCK locked") as told:
                Wal(log)
            assert told.value.file == "LOCK"
            assert not is_locked(log), "the directory stayed locked"
    with Wal(log) as wal:
        assert wal.last_index() == 0


# -- children --------------------------------------------------------------------------------------

IN_CHILD = """
import ctypes, gc, os, signal, sys
from pylogwal import ClosedError, Entry, LockedError, Wal

CLONE = {"x86_64": 56, "aarch64": 220}

def clone():
    '''clone(2) by itself, which runs no handler of pthread_atfork: 0 in the child.'''
    libc = ctypes.PyDLL(None)
    child = libc.syscall(CLONE[os.uname().machine], int(signal.SIGCHLD), 0, 0, 0, 0)
    if child == 0:
        signal.alarm(60)
    return child

def unshare_pids():
    if ctypes.CDLL(None, use_errno=True).unshare(0x20000000) != 0:  # CLONE_NEWPID
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def closed_here(wal):
    for call in (
        wal.last_index, wal.flush, wal.stats, lambda: wal.entry(1),
        lambda: wal.persist_entries([Entry(4, 9, b"of the child")]),
    ):
        try:
            call()
        except ClosedError:
            continue
        raise SystemExit("a call went through in the child")
    wal.close()

def refused(path):
    try:
        Wal(path)
    except LockedError:
        return
    raise SystemExit("the parent's lock is gone")

def child(body):
    '''Ends the process with the body's outcome; for `if ... == 0: child(...)`.'''
    status = 1
    try:
        body()
        status = 0
    except BaseException as error:
        print(f"in the child: {error!r}", file=sys.stderr, flush=True)
    os._exit(status)

def ended_well(process):
    assert os.waitpid(process, 0)[1] == 0
"""

NEW_NAMESPACE = (
    IN_CHILD
    + """
def as_number_one():
    wal = Wal(sys.argv[1])
    wal.persist_entries([Entry(i, 1) for i in range(1, 4)])
    unshare_pids()
    here = os.getpid()
    process = os.fork()
    if process == 0:
        assert os.getpid() == here == 1
        child(lambda: (closed_here(wal), wal.__del__(), gc.collect()))
    ended_well(process)
    print("forked")
    sys.stdin.readline()
    wal.persist_entries([Entry(i, 1) for i in range(4, 7)])
    wal.close()

unshare_pids()
process = os.fork()
if process == 0:
    child(as_number_one)
ended_well(process)
"""
)


@pytest.mark.skipif(sys.platform != "linux", reason="PID namespaces are Linux's")
@pytest.mark.skipif(os.geteuid() != 0, reason="unshare(CLONE_NEWPID) needs root")
def test_a_child_with_its_parents_number_leaves_the_lock_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Child(NEW_NAMESPACE, log) as writer:
        assert writer.line() == "forked"
        locked = is_locked(log / "LOCK"), is_locked(log)
        writer.tell()
        assert writer.end() == ([], 0)
        assert locked == (True, True)
    with Wal(log) as wal:
        assert [entry.index for entry in wal.get_entries(1, 99)] == list(range(1, 7))


needs_clone = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="the number of the system call is not known here",
)


@needs_clone
def test_a_child_that_no_handler_was_run_in_is_told_apart_and_may_open_logs(tmp_path: Path) -> None:
    run_python(
        IN_CHILD
        + """
path, other = sys.argv[1:]
wal = Wal(path)
reader = Wal(path, read_only=True)
wal.persist_entries([Entry(1, 1)])

def in_clone():
    closed_here(wal)
    with Wal(other) as mine:
        mine.persist_entries([Entry(1, 1)])
        closed_here(wal)  # which is no other than before
        try:
            reader.last_index()
        except ClosedError:
            pass
        else:
            raise SystemExit("a reader is open in the child")
        refused(path)
        refused(other)
        grandchild = os.fork()
        if grandchild == 0:
            child(lambda: (closed_here(mine), closed_here(wal)))
        ended_well(grandchild)
        mine.persist_entries([Entry(2, 1)])

for _ in range(3):
    process = clone()
    if process == 0:
        child(in_clone)
    ended_well(process)
    refused(path)
    wal.persist_entries([Entry(wal.last_index() + 1, 1)])
wal.close()
with Wal(path) as wal:
    assert wal.last_index() == 4
""",
        tmp_path / "log",
        tmp_path / "other",
    )


@needs_clone
def test_a_child_that_no_handler_was_run_in_may_fork_first(tmp_path: Path) -> None:
    run_python(
        IN_CHILD
        + """
path = sys.argv[1]
wal = Wal(path)

def in_clone():
    grandchild = os.fork()
    if grandchild == 0:
        child(lambda: closed_here(wal))
    ended_well(grandchild)
    closed_here(wal)
    refused(path)

process = clone()
if process == 0:
    child(in_clone)
ended_well(process)
refused(path)
wal.persist_entries([Entry(1, 1)])
wal.close()
""",
        tmp_path / "log",
    )


@pytest.mark.parametrize("how", ["os.fork", pytest.param("clone", marks=needs_clone)])
def test_a_child_that_runs_on_does_not_keep_a_log_that_its_parent_has_closed(
    tmp_path: Path, how: str
) -> None:
    run_python(
        IN_CHILD
        + f"""
path = sys.argv[1]
wal = Wal(path)
wait, tell = os.pipe()
process = {how}()
if process == 0:
    os.close(tell)
    child(lambda: os.read(wait, 1))
wal.close()
with Wal(path) as wal:
    wal.persist_entries([Entry(1, 1)])
    os.close(tell)
    ended_well(process)
    refused(path)
""",
        tmp_path / "log",
    )


OPEN_AND_FORK = """
import os, signal, sys, threading
from pathlib import Path
from pylogwal import Wal

logs = []
def open_one_after_the_other():
    for number in range(40):
        logs.append(Wal(Path(sys.argv[1], str(number)), segment_bytes=65536, spare_segments=0))
opens = threading.Thread(target=open_one_after_the_other)
opens.start()
wait, tell = os.pipe()
children = []
while opens.is_alive() and len(children) < 200:
    process = os.fork()
    if process == 0:
        os.close(tell)
        signal.alarm(100)
        sys.stdin.read()
        os._exit(0)
    children.append(process)
opens.join()
print("open")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_no_child_keeps_a_log_that_was_just_being_opened_when_it_was_forked(tmp_path: Path) -> None:
    """Its parent is killed, so that nobody unlocks anything."""
    parent = Child(OPEN_AND_FORK, tmp_path)
    assert parent.line() == "open"
    assert parent.process.wait() == -signal.SIGKILL
    for number in range(40):
        with Wal(tmp_path / str(number), create=False):
            pass
    parent.stdin.close()  # the children end
    parent.stdout.close()


MANY = """
import errno, resource, sys
from pathlib import Path
from pylogwal import Entry, LockedError, Wal, WalError

LOGS = 4200
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
top, logs = Path(sys.argv[1]), []
try:
    for number in range(LOGS):
        logs.append(Wal(top / str(number), segment_bytes=65536, spare_segments=0))
        if number % 100 == 0:
            logs[-1].persist_entries([Entry(1, 1, b"x")], wait=False)
except WalError as error:
    if error.errno not in (errno.EMFILE, errno.EAGAIN, errno.ENOMEM) or len(logs) == 4096:
        raise
    print(error)
    LOGS = 0
except MemoryError as error:
    print(repr(error))
    LOGS = 0
for number in range(0, LOGS, 140):
    try:
        Wal(top / str(number))
    except LockedError:
        continue
    raise SystemExit(f"log {number} can be opened twice")
for wal in logs[::2] + logs[1::2]:
    wal.close()
for number in range(0, LOGS, 140):
    Wal(top / str(number)).close()
"""


@pytest.mark.skipif(
    "LD_PRELOAD" in os.environ, reason="a sanitizer has mappings of its own for each thread"
)
def test_as_many_logs_in_a_process_as_one_likes() -> None:
    with memory() as top:
        too_few = run_python(MANY, top)
    if too_few:
        pytest.skip(f"so many need more than is allowed here: {too_few}")
