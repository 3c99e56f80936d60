"""How a command ends that cannot write its output, or that a signal ends: no traceback, no file
left behind, and the exit status that is documented.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import run

from pylogwal import Wal, cli, interrupts

NOISE = ("Traceback", "Exception ignored")
QUIET_DEATHS = (130, -signal.SIGINT)
needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    with Wal(tmp_path / "log", segment_bytes=65536) as wal:
        wal.persist_entries(run(1, 500, payload=b"p" * 100))
    return tmp_path / "log"


def environment(**more: str) -> dict[str, str]:
    """Without what would hide that output is buffered."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"} | more


def pylogwal(*arguments: object, env: dict[str, str] | None = None, **options: object) -> tuple:
    command = [sys.executable, "-m", "pylogwal", *map(str, arguments)]
    defaults = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    done = subprocess.run(command, env=env or environment(), **{**defaults, **options})  # type: ignore[call-overload]
    return done.returncode, done.stdout, done.stderr


# -- output that cannot be written -----------------------------------------------------------------


@needs_dev_full
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", ["info", "dump", "verify", "--help", "--version"])
def test_output_to_a_full_disk_is_3_and_one_line(log: Path, command: str, unbuffered: str) -> None:
    arguments = [command] if command.startswith("-") else [command, log]
    env = environment(PYTHONUNBUFFERED=unbuffered) if unbuffered else environment()
    with Path("/dev/full").open("w") as full:
        status, _, told = pylogwal(*arguments, stdout=full, env=env)
    if command == "--help" and unbuffered:
        return  # argparse itself swallows the error
    assert status == 3
    assert os.strerror(errno.ENOSPC) in told
    assert told.count("\n") == 1
    assert not any(noise in told for noise in NOISE)


@needs_dev_full
def test_a_complaint_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        assert pylogwal("info", tmp_path / "none", stderr=full)[0] == 3


@pytest.mark.parametrize("descriptor", ["1", "2"])
def test_a_standard_stream_that_is_closed(log: Path, descriptor: str) -> None:
    command = f'"$0" -m pylogwal info "$1" {descriptor}>&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, str(log)], capture_output=True, text=True
    )
    assert not any(noise in done.stdout + done.stderr for noise in NOISE)
    if descriptor == "1":
        assert (done.returncode, done.stderr) == (3, "pylogwal: standard output is closed\n")
    else:
        assert (done.returncode, done.stdout.split()[0]) == (0, "directory")


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    log = tmp_path / "damaged"
    with Wal(log, segment_bytes=65536) as wal:
        for first in range(1, 1001, 100):
            wal.persist_entries(run(first, first + 99, payload=b"p" * 100))
        sealed = log / wal.core.segments()[0].file
    content = bytearray(sealed.read_bytes())
    content[20_000] ^= 1
    sealed.write_bytes(content)
    return log


def told_without_times(out: str) -> str:
    return re.sub(r'[\d.]+ s\b|"seconds": [\d.]+', "", out)


@pytest.mark.parametrize("command", ["dump", "dump --json", "verify", "verify --json"])
@pytest.mark.parametrize("stderr", ["2>&-", pytest.param("2>/dev/full", marks=needs_dev_full)])
def test_without_standard_error_the_results_are_the_same(
    damaged: Path, command: str, stderr: str
) -> None:
    status, out, _ = pylogwal(*command.split(), damaged)
    assert status == 1
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m pylogwal {command} "$1" {stderr}', sys.executable, str(damaged)],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 1
    assert told_without_times(done.stdout) == told_without_times(out)


def test_a_reader_of_complaints_that_has_gone_ends_nothing(damaged: Path) -> None:
    status, out, _ = pylogwal("dump", damaged)
    assert status == 1
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as nobody_reads:
        assert pylogwal("dump", damaged, stderr=nobody_reads)[:2] == (status, out)


def test_a_file_that_cannot_be_read_is_not_called_output(tmp_path: Path) -> None:
    status, out, told = pylogwal("demo", tmp_path / "none")
    assert (status, out) == (3, "")
    assert str(tmp_path / "none") in told
    assert "output" not in told


# -- Ctrl-C ----------------------------------------------------------------------------------------

# Sends SIGINT to itself as the so-many-th module is imported after the first of the package, or
# as the interpreter ends.
SITE = """
import atexit, os, signal, sys

def hear(event, arguments):
    global left, begun
    begun = begun or event == "import" and arguments[0] == "pylogwal.errors"
    if event != "import" or not begun:
        return
    left -= 1
    if left == 0:
        signal.raise_signal(signal.SIGINT)

begun = False
moment = os.environ["INTERRUPT"]
if moment == "exit":
    atexit.register(os.kill, os.getpid(), signal.SIGINT)
else:
    left = int(moment)
    sys.addaudithook(hear)
"""


@pytest.mark.parametrize("moment", [2, 3, 5, 9, 20, 40, 80, 160, "exit"])
def test_an_interrupt_while_the_program_starts_or_ends_is_quiet(
    tmp_path: Path, log: Path, moment: int | str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE)
    env = environment(INTERRUPT=str(moment), PYTHONPATH=str(tmp_path))
    status, out, told = pylogwal("info", log, env=env)
    assert not any(noise in told for noise in NOISE), told
    if moment == "exit":
        assert (status, told) == (0, "")
        assert "1..500 (500)" in out
    else:
        assert status in (*QUIET_DEATHS, 0)  # 0: there were not so many imports
        assert moment not in (2, 3, 5, 9) or status in QUIET_DEATHS


IMPORTED_FIRST = """
import sys
sys.argv[0], sys.path[:0] = "pylogwal", {paths!r}
names = []
sys.addaudithook(lambda event, arguments: event == "import" and names.append(arguments[0]))
import pylogwal
first = names[names.index("pylogwal.startup") + 1 : names.index("pylogwal.errors")]
print([name for name in first if name not in sys.builtin_module_names])
"""


def test_an_interrupt_meets_no_module_that_is_looked_for_before_it_is_made_quiet() -> None:
    script = IMPORTED_FIRST.format(paths=[path for path in sys.path if path])
    done = subprocess.run(
        [sys.executable, "-IS", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def interrupted(command: str, log: Path) -> tuple[int, str, str]:
    tool = subprocess.Popen(
        [sys.executable, "-m", "pylogwal", command, "--json", str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with tool:
        assert tool.stdout is not None
        first = tool.stdout.readline()
        tool.send_signal(signal.SIGINT)
        rest, told = tool.communicate()
    return tool.returncode, first + rest, told


def test_an_interrupt_at_work_is_130_and_what_was_found_is_told(tmp_path: Path) -> None:
    with Wal(tmp_path / "log", durability="manual") as wal:
        for first in range(1, 40_001, 1000):  # more than a pipe takes
            wal.persist_entries(run(first, first + 999, payload=b"p" * 100))
    status, out, told = interrupted("dump", tmp_path / "log")
    assert status == 130
    assert told == "pylogwal: interrupted\n"
    assert out.startswith('{"index": 1, ')


class Finalized:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)
        for _ in range(10):
            pass  # the handler runs here, and what it raises goes nowhere


def test_an_interrupt_that_a_finalizer_swallows_comes_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], log: Path
) -> None:
    def waits(*_: object) -> Iterator[object]:
        Finalized()
        time.sleep(60)
        yield

    monkeypatch.setattr(cli, "read_through", waits)
    assert cli.main(["dump", str(log)]) == 130
    assert capsys.readouterr().err == "pylogwal: interrupted\n"


def test_only_the_first_signal_counts_and_all_is_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in interrupts.ENDING]
    with pytest.raises(KeyboardInterrupt), interrupts.ended_by_signals():  # noqa: PT012
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            for number in interrupts.ENDING:
                signal.raise_signal(number)  # while it tidies up
    assert [signal.getsignal(number) for number in interrupts.ENDING] == before


def test_a_signal_that_is_held_comes_afterwards() -> None:
    done = False
    with pytest.raises(SystemExit) as end, interrupts.ended_by_signals():  # noqa: PT012
        with interrupts.signals_held():
            signal.raise_signal(signal.SIGTERM)
            done = True
        done = False
    assert done
    assert end.value.code == 143


def test_importing_the_package_leaves_signals_alone() -> None:
    script = (
        "import signal; before = signal.getsignal(2); import pylogwal; "
        "assert signal.getsignal(2) is before is signal.default_int_handler"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# -- SIGTERM ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize(
    ("arguments", "line"),
    [(["bench", "--dir", ".", "--seconds", "60"], 1), (["demo", "--kills", "1000"], 4)],
    ids=["bench", "demo"],
)
def test_a_command_that_is_ended_leaves_no_files(
    tmp_path: Path, arguments: list[str], line: int, number: signal.Signals
) -> None:
    tool = subprocess.Popen(
        [sys.executable, "-m", "pylogwal", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1"),
        start_new_session=True,
    )
    with tool:
        assert tool.stdout is not None
        for _ in range(line):
            tool.stdout.readline()
        assert list(tmp_path.iterdir()) != []
        os.killpg(tool.pid, number)  # as a terminal does it: to its child, too
        told = tool.communicate()[1]
    assert tool.returncode == 128 + number
    assert not any(noise in told for noise in NOISE), told
    assert list(tmp_path.iterdir()) == []


# -- words -----------------------------------------------------------------------------------------


def test_help_says_for_each_command_what_json_is(capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for command in ("info", "dump", "verify", "bench"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        option = re.search(r"^ +--json +(.*(?:\n {6,}.*)*)", capsys.readouterr().out, re.MULTILINE)
        assert option is not None, command
        said[command] = " ".join(option[1].split())
    assert len(set(said.values())) == len(said), said
    assert "per entry" in said["dump"]
    assert "base64" in said["dump"]
    for command in ("info", "verify", "bench"):
        assert "one JSON object" in said[command]
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "exit status: 0 success, 1 corruption found, 2 usage error, 3 I/O error" in shown
    readme = Path(__file__).parent.parent / "README.md"
    assert f"[docs/operations.md]: {cli.OPERATIONS}\n" in readme.read_text("utf-8")
    assert cli.OPERATIONS in shown


def test_one_of_a_kind_is_not_told_as_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli._counted(1, "whole batch", "whole batches") == "1 whole batch"
    assert cli._counted(0, "whole batch", "whole batches") == "0 whole batches"
    assert cli._counted(2, "whole batch", "whole batches") == "2 whole batches"
