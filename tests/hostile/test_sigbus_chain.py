"""Other handlers of SIGBUS, before ours and after it: each gets its own, and ours stays.

Each test is a process that takes steps; STEPS says what they are. Most print a line.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from processes import PATIENCE_S, environment

HERE = Path(__file__).parent
KILLED = -signal.SIGBUS
NOT_MINE = 76
"""What the handlers of sigbus_handlers.c end with where they cannot recover."""

on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a touch and a signal that was sent look alike"
)

STEPS = '''
import ctypes, faulthandler, os, signal, subprocess, sys, threading, time
from pathlib import Path
import pylogwal
from pylogwal import Entry

scratch, library = Path(sys.argv[1]), ctypes.CDLL(sys.argv[2])
library.blocked_here.restype = ctypes.c_ulonglong
FLAGS = dict(zip(
    ("NODEFER", "ONSTACK", "RESTART", "RESETHAND", "SIGINFO"),
    (0x40000000, 0x08000000, 0x10000000, 0x80000000 - 2**32, 4) if sys.platform == "linux"
    else (0x10, 0x1, 0x2, 0x4, 0x40),
))

class Seen(ctypes.Structure):
    _fields_ = [
        ("calls", ctypes.c_int), ("code", ctypes.c_int), ("on_own_stack", ctypes.c_int),
        ("address_is_right", ctypes.c_int), ("blocked", ctypes.c_ulonglong),
    ]

seen = Seen.in_dll(library, "seen")
logs = []

def say(*words):
    print(*words, flush=True)

def open_log():
    path = scratch / f"log{len(logs)}"
    wal = pylogwal.Wal(path, durability="manual", segment_bytes=65536)
    wal.persist_entries([Entry(i, 1, b"x" * 3000) for i in range(1, 6)])
    logs.append((wal, path))

def own(wal, path, times=1):
    """Touches of the log itself that are errors."""
    os.truncate(path / "0000000000000001.wal", 0)
    found = []
    for _ in range(times):
        try:
            wal.get_entries(1, 5)
            found.append("read well")
        except pylogwal.WalError:
            found.append("WalError")
    return found

def install(name, *options):
    flags, blocked = 0, 0
    for option in options:
        if option == "all":
            blocked = -1
        elif option in FLAGS:
            flags |= FLAGS[option]
        else:
            blocked = getattr(signal, option)
    assert library.install(name.encode(), flags, blocked) == 0

def touch(times=1):
    return [
        {1: "recovered", 2: "mended"}[library.touch(os.fsencode(scratch / "foreign"))]
        for _ in range(times)
    ]

def in_thread(function, *arguments):
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*arguments)))
    thread.start()
    thread.join()
    return result[0]

def at_once(kinds, times):
    """Foreign touches and our own in a thread each, and reads that go well."""
    whole, _ = logs[0]
    outcomes = [None] * kinds * 3
    def run(place):
        if place % 3 == 0:
            name = os.fsencode(scratch / f"foreign{place}")
            found = [library.touch(name) == 1 for _ in range(times)]
        elif place % 3 == 1:
            found = [outcome == "WalError" for outcome in own(*logs[-1], times)]
        else:
            found = [len(whole.get_entries(1, 5)) == 5 for _ in range(times)]
        outcomes[place] = all(found)
    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(outcomes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return all(outcomes)

SENDER = """
import os, signal, sys
for _ in range(2000):
    os.kill(int(sys.argv[1]), signal.SIGBUS)
    os.read(0, 1)  # one at a time
"""

def outside():
    """Another process sends while we read. The number of those that a handler saw."""
    wal, _ = logs[-1]
    wal.persist_entries([Entry(i, 1, bytes(1000)) for i in range(6, 40)])
    command = [sys.executable, "-c", SENDER, str(os.getpid())]
    sender = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)
    sent = 0
    while sender.poll() is None:
        assert len(wal.get_entries(1, 39)) == 39
        if seen.calls > sent:
            sent = seen.calls
            try:
                sender.stdin.write(b".")
            except BrokenPipeError:
                pass
    return sender.returncode, sent

def on_python(number, frame):
    say("python")

for step in sys.argv[3:]:
    what, *words = step.split()
    if what == "open":
        open_log()
    elif what == "faulthandler":
        faulthandler.enable()
    elif what == "install":
        install(*words)
    elif what == "ignore":
        signal.signal(signal.SIGBUS, signal.SIG_IGN)
    elif what == "python":
        signal.signal(signal.SIGBUS, on_python)
    elif what == "foreign":
        say(*touch(*map(int, words)))
    elif what == "foreign-in-thread":
        say(*in_thread(touch, *map(int, words)))
    elif what == "foreign-deeper":
        say(library.touch_deeper(os.fsencode(scratch / "foreign"), int(words[0])))
    elif what == "foreign-own-stack":
        name = os.fsencode(scratch / "foreign")
        say(in_thread(library.touch_with_own_stack, name, int(words[0])))
    elif what == "own":
        say(*own(*logs[-1], *map(int, words)))
    elif what == "own-in-thread":
        say(*in_thread(own, *logs[-1], *map(int, words)))
    elif what == "send":
        os.kill(os.getpid(), signal.SIGBUS)
    elif what == "raise":
        signal.raise_signal(signal.SIGBUS)
    elif what == "flush":
        logs[-1][0].flush()
    elif what == "cut":
        os.truncate(logs[-1][1] / "0000000000000001.wal", 0)
    elif what == "idle":
        time.sleep(0.3)
    elif what == "nothing":
        pass
    elif what == "at-once":
        say(at_once(*map(int, words)))
    elif what == "outside":
        say(*outside())
    elif what == "seen":
        say(*(getattr(seen, word) for word in words))
    elif what == "blocked":
        for name in words:
            say(name, bool(seen.blocked >> getattr(signal, name) & 1))
    elif what == "blocked-here":
        say("blocked here:", library.blocked_here())
    elif what == "flags":
        flags = library.installed_flags()
        say(*(name for name in ("ONSTACK", "RESTART") if flags & FLAGS[name]))
    else:
        raise SystemExit(f"no such step: {step}")
say("alive")
os._exit(0)  # to close what was cut is an error, and no matter here
'''


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sigbus") / "handlers.so"
    compiler = os.environ.get("CC", "cc").split()
    flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*compiler, *flags, "-o", made, HERE / "sigbus_handlers.c"], check=True)
    return made


class Steps:
    """Takes steps in a process of its own."""

    def __init__(self, scratch: Path, library: Path) -> None:
        self.scratch, self.library = scratch, library
        self.errors = ""

    def __call__(self, *steps: str, status: int = 0) -> list[str]:
        """What they print, but for the last line, which says that the process has come so far."""
        scratch = tempfile.mkdtemp(dir=self.scratch)
        ran = subprocess.run(
            [sys.executable, "-c", STEPS, scratch, self.library, *steps],
            env=environment(),
            cwd=scratch,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        print(ran.stdout, ran.stderr)
        self.errors = ran.stderr
        assert ran.returncode == status
        lines = ran.stdout.splitlines()
        assert (lines[-1:] == ["alive"]) == (status == 0)
        return lines[:-1] if status == 0 else lines

    @property
    def dumps(self) -> int:
        """Of faulthandler."""
        return self.errors.count("Fatal Python error: Bus error")


@pytest.fixture
def steps(tmp_path: Path, library: Path) -> Steps:
    return Steps(tmp_path, library)


# -- faulthandler ----------------------------------------------------------------------------------


def test_faulthandler_before_us(steps: Steps) -> None:
    assert steps("faulthandler", "open", "own 3") == ["WalError WalError WalError"]
    assert steps.dumps == 0
    steps("faulthandler", "open", "foreign", status=KILLED)
    assert steps.dumps == 1
    assert steps("faulthandler", "open", "own", "foreign", status=KILLED) == ["WalError"]
    assert steps.dumps == 1


def test_faulthandler_after_us(steps: Steps) -> None:
    assert steps("open", "faulthandler", "own 3") == ["WalError WalError WalError"]
    assert steps.dumps == 1  # the first goes to it before it comes to us
    steps("open", "faulthandler", "foreign", status=KILLED)
    assert steps.dumps == 1


def test_faulthandler_between_two_opens(steps: Steps) -> None:
    both = ("open", "faulthandler", "open")
    assert steps(*both, "own 3") == ["WalError WalError WalError"]
    assert steps.dumps == 0
    for end in ("foreign", "foreign-in-thread", "send", "raise"):
        steps(*both, end, status=KILLED)
        assert steps.dumps == 1


def test_faulthandler_hands_on_to_who_recovers(steps: Steps) -> None:
    both = ("open", "faulthandler", "open")
    assert steps("install recover", *both, "foreign 3", "own 3", "foreign") == [
        "recovered recovered recovered",
        "WalError WalError WalError",
        "recovered",
    ]
    assert steps.dumps == 1  # it hands on once, and for good


# -- handlers that recover -------------------------------------------------------------------------

FLAGS = ["", "SIGINFO", "NODEFER", "SIGINFO NODEFER", "ONSTACK", "SIGINFO ONSTACK SIGUSR1", "all"]


@pytest.mark.parametrize("flags", FLAGS)
def test_a_handler_that_jumps_gets_its_own_again_and_again(steps: Steps, flags: str) -> None:
    recovered = "recovered " * 4 + "recovered"
    wal_error = "WalError " * 4 + "WalError"
    assert steps(
        f"install recover {flags}",
        "open",
        *("foreign 5", "own 5", "foreign-in-thread 5", "own-in-thread 5", "foreign 5", "own 5"),
        "blocked-here",
    ) == [*(recovered, wal_error) * 3, "blocked here: 0"]


def test_a_handler_that_jumps_from_deeper_and_deeper(steps: Steps) -> None:
    for flags in ("", "SIGINFO NODEFER"):
        for own_stack in ("foreign-own-stack 50", "foreign-own-stack 1"):
            assert steps(
                f"install recover {flags}",
                "open",
                "foreign-deeper 100",
                own_stack,
                "own",
                "foreign",
            ) == ["1", "1", "WalError", "recovered"]


def test_a_handler_that_has_a_touch_of_its_own_gets_that_as_well(steps: Steps) -> None:
    assert steps("install nest NODEFER", "open", "foreign 3", "own", "seen calls") == [
        "recovered recovered recovered",
        "WalError",
        "6",
    ]
    steps("install nest", "open", "foreign", status=KILLED)  # as the system would: it is blocked


def test_a_handler_that_mends_the_page_returns_to_the_touch(steps: Steps) -> None:
    assert steps("install mend", "open", "foreign 3", "own 3", "foreign", "seen calls") == [
        "mended mended mended",
        "WalError WalError WalError",
        "mended",
        "4",
    ]


def test_a_handler_that_installs_itself_again_does_not_lose_ours(steps: Steps) -> None:
    assert steps("install rearm", "open", "foreign", "own 2", *("foreign 3", "own 2") * 12) == [
        "recovered",
        "WalError WalError",
        *("recovered recovered recovered", "WalError WalError") * 12,
    ]
    assert steps("install rearm", "open", "foreign", "own-in-thread", "foreign", "own") == [
        *("recovered", "WalError") * 2
    ]


def test_two_libraries_and_two_opens(steps: Steps) -> None:
    """The younger takes what is not its own to be ours, or the older's."""
    assert steps(
        *("install recover", "open", "install call", "open", "foreign 3", "own 3", "seen calls")
    ) == ["recovered recovered recovered", "WalError WalError WalError", "6"]


# Not one that installs itself again: there is always a moment in which ours is not there.
@pytest.mark.parametrize("handler", ["recover", "recover SIGINFO NODEFER"])
def test_each_thread_gets_its_own_where_many_touch_at_once(steps: Steps, handler: str) -> None:
    said = steps(f"install {handler}", "open", "open", "own", "at-once 3 300", "own 2", "foreign 2")
    assert said == ["WalError", "True", "WalError WalError", "recovered recovered"]


# -- flags and masks -------------------------------------------------------------------------------


def test_a_handler_sees_what_the_system_would_show_it(steps: Steps) -> None:
    look = ("foreign", "blocked SIGBUS SIGUSR1 SIGUSR2", "seen address_is_right", "blocked-here")

    def shown(bus: bool, usr1: bool, usr2: bool, address: int = 1) -> list[str]:
        blocked = [f"SIGBUS {bus}", f"SIGUSR1 {usr1}", f"SIGUSR2 {usr2}"]
        return ["recovered", *blocked, str(address), "blocked here: 0"]

    for flags, wanted in (
        ("SIGINFO", shown(True, False, False)),
        ("SIGINFO NODEFER", shown(False, False, False)),
        ("SIGINFO NODEFER SIGUSR1", shown(False, True, False)),
        ("SIGINFO SIGUSR2", shown(True, False, True)),
        ("SIGINFO NODEFER all", shown(True, True, True)),
        ("", shown(True, False, False, 0)),
    ):
        for before in ("open", "nothing"):  # with our handler, and without
            assert steps(f"install recover {flags}", before, *look) == wanted


def test_a_handler_runs_on_the_stack_that_it_asked_for(steps: Steps) -> None:
    for flags, on_own in (("SIGINFO", 0), ("SIGINFO ONSTACK", 1), ("ONSTACK", 1), ("", 0)):
        for before in ("open", "nothing"):
            assert steps(
                f"install recover {flags}", before, "foreign-own-stack 3", "seen on_own_stack"
            ) == ["1", str(on_own)]


def test_ours_has_the_flags_that_the_system_needs_to_know(steps: Steps) -> None:
    for flags in ("", "ONSTACK", "RESTART", "ONSTACK RESTART"):
        assert steps(f"install recover {flags}", "open", "flags") == [flags]
    assert steps("open", "flags") == ["ONSTACK RESTART"]


def test_a_handler_for_one_time_is_called_one_time(steps: Steps) -> None:
    for flags in ("RESETHAND", "SIGINFO RESETHAND NODEFER"):
        once = (f"install recover {flags}", "open", "own", "foreign", "own 2")
        assert steps(*once) == ["WalError", "recovered", "WalError WalError"]
        said = steps(*once, "foreign", status=KILLED)
        assert said == ["WalError", "recovered", "WalError WalError"]
        again = (*once, f"install recover {flags}", "open", "foreign", "own")
        assert steps(*again)[3:] == ["recovered", "WalError"]


def test_a_handler_in_front_of_ours_that_blocks_signals_leaves_none_blocked(steps: Steps) -> None:
    for name in ("call", "raise"):
        for flags in ("", "all", "NODEFER", "NODEFER SIGUSR1", "SIGINFO all"):
            said = steps("open", f"install {name} {flags}", "own 2", "own-in-thread", "own")
            assert said == ["WalError WalError", "WalError", "WalError"]
    for flags in ("", "all", "NODEFER", "NODEFER SIGUSR1"):
        said = steps("open", f"install call {flags}", "own 3", "blocked-here")
        assert said[-1] == "blocked here: 0"


# -- where nobody recovers -------------------------------------------------------------------------


def test_without_another_handler_the_process_ends(steps: Steps) -> None:
    for end in ("foreign", "foreign-in-thread", "foreign-own-stack 1", "send", "raise"):
        steps("open", end, status=KILLED)
        assert steps("open", "own 2", end, status=KILLED) == ["WalError WalError"]


@on_linux
def test_a_signal_that_is_ignored_stays_ignored_and_a_touch_is_not(steps: Steps) -> None:
    assert steps("ignore", "open", "send", "raise", "own", "send") == ["WalError"]
    for before in ("open", "nothing"):
        steps("ignore", before, "foreign", status=KILLED)


def test_a_signal_that_is_sent_reaches_a_handler_in_python(steps: Steps) -> None:
    assert steps("python", "open", *("send", "raise", "own") * 3) == [
        *("python", "python", "WalError") * 3
    ]


def test_a_signal_that_is_sent_reaches_a_handler_each_time(steps: Steps) -> None:
    many = ("send", "raise") * 40
    assert steps("install count", "open", *many, "own", "seen calls") == ["WalError", "80"]


@on_linux
def test_a_signal_from_outside_is_no_touch_of_the_log(steps: Steps) -> None:
    """It meets us within a read more often than not."""
    assert steps("install count", "open", "outside") == ["0 2000"]


def test_a_handler_that_sets_the_default_ends_the_process_by_it(steps: Steps) -> None:
    for before in ("open", "nothing"):
        steps("install default", before, "foreign", status=KILLED)
    # Nothing is repeated where the signal was sent; the next one ends the process.
    assert steps("install default", "open", "raise", "own", "raise", status=KILLED) == ["WalError"]


def test_an_idle_log_does_not_touch_a_file_that_was_cut(steps: Steps) -> None:
    """Else the handler on top, which cannot recover, would end the process while it sleeps."""
    steps("open", "flush", "install recover", "cut", "idle")


def test_a_handler_that_ends_the_process_itself_does(steps: Steps) -> None:
    steps("install recover", "open", "raise", status=NOT_MINE)


@pytest.mark.parametrize("flags", ["", "all", "NODEFER ONSTACK"])
@pytest.mark.parametrize("name", ["call", "raise"])
def test_what_comes_back_to_us_goes_to_who_was_before(steps: Steps, name: str, flags: str) -> None:
    between = ("open", f"install {name} {flags}", "open")
    for end in ("foreign", "foreign-own-stack 1", "send"):
        steps(*between, end, status=KILLED)
    assert steps(*between, "own 3") == ["WalError WalError WalError"]
    assert steps("install mend", *between, "foreign 2", "own 2", "foreign") == [
        "mended mended",
        "WalError WalError",
        "mended",
    ]


@pytest.mark.parametrize("flags", ["", "all", "NODEFER ONSTACK"])
@pytest.mark.parametrize("name", ["call", "raise"])
def test_a_handler_that_is_before_and_after_us_goes_in_no_circle(
    steps: Steps, name: str, flags: str
) -> None:
    """It replaces ours a second time, and forgets whom it had replaced the first time."""
    twice = ("open", *(f"install {name} {flags}", "open") * 2)
    for end in ("foreign", "send"):
        steps(*twice, f"install {name} {flags}", end, status=KILLED)
        steps(*twice, end, status=KILLED)
    assert steps(*twice, "own 3") == ["WalError WalError WalError"]


def test_more_handlers_than_we_remember_cost_nobody_the_guard(steps: Steps) -> None:
    signals = [s.name for s in sorted(signal.Signals)][:25]
    many = [step for s in signals for step in (f"install recover NODEFER {s}", "open", "own")]
    assert steps(*many, "foreign", "own") == ["WalError"] * 25 + ["recovered", "WalError"]
