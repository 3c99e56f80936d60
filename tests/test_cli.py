"""The command line: what it says, its exit status, and that it changes nothing."""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from stores import flip, run

from pylogwal import Entry, HardState, LogId, Wal, WalError, cli, core, verify

SEGMENT_BYTES = 65536
FRAMES = 8192
"""Where the first frame of a segment stands."""

READERS = ("info", "dump", "verify")
every_reader = pytest.mark.parametrize("command", READERS)


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Pylogwal = Callable[..., Ran]


@pytest.fixture
def pylogwal(capsys: pytest.CaptureFixture[str]) -> Pylogwal:
    """Runs one command in this process."""

    def run_command(*arguments: object) -> Ran:
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        return Ran(status, *capsys.readouterr())

    return run_command


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Entries 101..1000 in several segments, purged up to 100, with a hard state."""
    directory = tmp_path / "log"
    with Wal(directory, segment_bytes=SEGMENT_BYTES) as wal:
        for first in range(1, 1001, 50):
            wal.persist_entries(run(first, first + 49, payload=b"p" * 200))
        wal.purge(LogId(100, 1))
        wal.save_hard_state(HardState(3, "n1", 7, b"\x00"))
    return directory


def snapshot(directory: Path) -> dict[str, bytes]:
    """Without spares, which the file thread may rename meanwhile."""
    files = [path for path in directory.iterdir() if path.suffix != ".spare"]
    return {path.name: path.read_bytes() for path in files}


# -- a log that is well ----------------------------------------------------------------------------


def test_info_tells_state_files_and_what_recovery_would_cut(pylogwal: Pylogwal, log: Path) -> None:
    ran = pylogwal("info", log)
    assert ran.status == 0
    assert ran.err == ""
    for text in (
        str(log),
        "101..1000 (900)",
        "up to 100, term 1",
        "vote 'n1'",
        "would cut nothing",
    ):
        assert text in ran.out
    assert "sealed" in ran.out


def test_info_as_json(pylogwal: Pylogwal, log: Path) -> None:
    facts = pylogwal("info", log, "--json").json
    assert facts["directory"] == str(log)
    assert (facts["first_index"], facts["last_index"], facts["entries"]) == (101, 1000, 900)
    assert (facts["durable_index"], facts["last_term"]) == (1000, 1)
    assert facts["boundary"] == {"index": 100, "term": 1}
    assert facts["hard_state"] == {"term": 3, "voted_for": "n1", "commit_index": 7, "extra": "AA=="}
    assert facts["recovery"]["cut_bytes"] == 0
    segments = facts["segments"]
    assert len(segments) > 2
    assert segments[0]["first_index"] == 101
    assert segments[-1]["last_index"] == 1000
    assert [segment["sealed"] for segment in segments] == [True] * (len(segments) - 1) + [False]
    for segment in segments:
        assert (log / segment["file"]).stat().st_size == segment["size"] == SEGMENT_BYTES
    sizes = [path.stat().st_size for path in log.iterdir()]
    assert facts["files"] == {"count": len(sizes), "bytes": sum(sizes)}


def test_info_of_a_blank_log(pylogwal: Pylogwal, tmp_path: Path) -> None:
    Wal(tmp_path / "log").close()
    ran = pylogwal("info", tmp_path / "log")
    assert ran.status == 0
    for text in ("none", "never", "never saved"):
        assert text in ran.out
    facts = pylogwal("info", "--json", tmp_path / "log").json
    assert (facts["entries"], facts["boundary"], facts["hard_state"]) == (0, None, None)


def test_info_tells_a_torn_tail(pylogwal: Pylogwal, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Wal(log, segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(run(1, 10))
        end = wal.core.segments()[-1].end
        wal.persist_entries(run(11, 12))
        torn = snapshot(log)
    for name, content in torn.items():
        (log / name).write_bytes(content)
    flip(log / "0000000000000001.wal", end + 4)
    facts = pylogwal("info", log, "--json").json
    assert facts["last_index"] == 10
    assert facts["recovery"]["cut_bytes"] > 0
    assert facts["recovery"]["cut_batches"] == 1
    told = pylogwal("info", log).out
    assert "nothing in the log says that any of it was durable" in told
    assert "acknowledged" not in told


def test_dump_is_one_line_an_entry(pylogwal: Pylogwal, tmp_path: Path) -> None:
    payloads = [b"set x 1", b"a\\b\n\t\r\x00\xff", b"", b"y" * 61]
    with Wal(tmp_path / "log") as wal:
        wal.persist_entries([Entry(i, 2, p, i) for i, p in enumerate(payloads, 1)])
    ran = pylogwal("dump", tmp_path / "log")
    assert ran.status == 0
    assert ran.out.splitlines() == [
        "1 2 1 7 set x 1",
        r"2 2 2 8 a\\b\n\t\r\x00\xff",
        "3 2 3 0 ",
        "4 2 4 61 " + "y" * 60 + "...",
    ]
    rows = [
        json.loads(line)
        for line in pylogwal("dump", "--json", tmp_path / "log").out.split("\n")[:-1]
    ]
    assert [base64.b64decode(row["payload"]) for row in rows] == payloads
    assert rows[1] == {"index": 2, "term": 2, "kind": 2, "size": 8, "payload": "YVxiCgkNAP8="}


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((), range(101, 1001)),
        (("--from", 990), range(990, 1001)),
        (("--to", 105), range(101, 106)),
        (("--from", 500, "--to", 500), range(500, 501)),
        (("--from", 1, "--to", 2), range(0)),
        (("--from", 1001), range(0)),
    ],
)
def test_dump_takes_a_range(
    pylogwal: Pylogwal, log: Path, limits: tuple[object, ...], expected: range
) -> None:
    ran = pylogwal("dump", log, *limits)
    assert ran.status == 0
    assert [int(line.split()[0]) for line in ran.out.splitlines()] == list(expected)


def test_verify_reads_all(pylogwal: Pylogwal, log: Path) -> None:
    ran = pylogwal("verify", log)
    assert ran.status == 0
    assert "verified 900 entries of 101..1000, segments: " in ran.out
    assert "no damage" in ran.out
    report = pylogwal("verify", log, "--json").json
    assert (report["entries"], report["damage"], report["complete"]) == (900, [], True)
    assert report["bytes"] == report["total_bytes"] > 900 * 200


def test_verify_shows_how_far_it_is_on_a_terminal(
    pylogwal: Pylogwal, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "PROGRESS_INTERVAL_S", 0)
    assert pylogwal("verify", log).err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    ran = pylogwal("verify", log)
    assert re.search(r"\r[\d,]+ of [\d,]+ bytes, \d+ %", ran.err)
    assert ran.err.endswith("\r\x1b[K")


def test_the_help_of_verify_says_what_is_read_and_what_is_not(pylogwal: Pylogwal) -> None:
    ran = pylogwal("verify", "--help")
    for text in ("close mark page", "offset index", "not part of the log", "130 interrupted"):
        assert text in ran.out


@every_reader
def test_no_byte_changes(pylogwal: Pylogwal, log: Path, command: str) -> None:
    before = snapshot(log)
    pylogwal(command, log)
    assert snapshot(log) == before


# -- damage ----------------------------------------------------------------------------------------


def test_verify_goes_on_behind_damage_and_names_each_place(pylogwal: Pylogwal, log: Path) -> None:
    first, second = pylogwal("info", "--json", log).json["segments"][1:3]
    frame = 40 + 200
    flip(log / first["file"], FRAMES + 3 * frame + 100)
    flip(log / second["file"], FRAMES + 5 * frame + 100, 2 * frame)
    ran = pylogwal("verify", log)
    assert ran.status == 1
    one, three = first["first_index"] + 3, second["first_index"] + 5
    lines = ran.out.splitlines()
    assert lines[0] == (
        f"damaged: {first['file']} at byte {FRAMES + 3 * frame}: entry {one}: the entry is damaged"
    )
    assert lines[1] == (
        f"damaged: {second['file']} at byte {FRAMES + 5 * frame}: entries {three}..{three + 2}: "
        "entries are damaged"
    )
    assert lines[2].startswith("verified 896 entries of 101..1000")
    assert lines[3] == "damage: 2 needed, 0 not needed"
    report = pylogwal("verify", "--json", log).json
    assert report["entries"] == 896
    damage = report["damage"]
    assert [(row["file"], row["first_index"], row["last_index"]) for row in damage] == [
        (first["file"], one, one),
        (second["file"], three, three + 2),
    ]
    assert [row["offset"] for row in damage] == [FRAMES + 3 * frame, FRAMES + 5 * frame]
    assert [(row["kind"], row["needed"]) for row in damage] == [("frame", True)] * 2
    assert [row["segment"] for row in damage] == [int(row["file"][:16], 16) for row in damage]


def test_verify_tells_damage_that_nothing_depends_on(pylogwal: Pylogwal, log: Path) -> None:
    segments = pylogwal("info", "--json", log).json["segments"]
    flip(log / segments[1]["file"], segments[1]["end"] - 20)  # the last COMMIT
    flip(log / segments[2]["file"], 4096 + 1000)  # the close mark page
    ran = pylogwal("verify", log)
    assert ran.status == 1
    lines = ran.out.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["damaged, not needed"] * 2
    assert "COMMIT" in lines[0]
    assert "close mark" in lines[1]
    assert lines[2].startswith("verified 900 entries of 101..1000")
    assert lines[3] == "damage: 0 needed, 2 not needed"
    assert 'docs/operations.md, "Findings of verify"' in lines[4]


def test_dump_leaves_out_what_is_damaged_and_says_so(pylogwal: Pylogwal, log: Path) -> None:
    segment = pylogwal("info", "--json", log).json["segments"][1]
    flip(log / segment["file"], FRAMES + 100)
    ran = pylogwal("dump", log)
    assert ran.status == 1
    lost = segment["first_index"]
    assert [int(line.split()[0]) for line in ran.out.splitlines()] == [
        index for index in range(101, 1001) if index != lost
    ]
    place = f"{segment['file']} at byte {FRAMES}: entry {lost}"
    assert ran.err == f"pylogwal: damaged: {place} (docs/operations.md, CorruptionError)\n"
    assert pylogwal("dump", log, "--from", lost + 1).status == 0


@every_reader
@pytest.mark.parametrize("harm", ["footer", "gone", "short"])
def test_what_makes_the_log_unopenable_is_damage_with_its_range(
    pylogwal: Pylogwal, log: Path, command: str, harm: str
) -> None:
    segment = pylogwal("info", "--json", log).json["segments"][1]
    path = log / segment["file"]
    if harm == "footer":
        flip(path, SEGMENT_BYTES - 4096 + 50)
    elif harm == "gone":
        path.unlink()
    else:
        os.truncate(path, 8192)
    ran = pylogwal(command, log)
    assert ran.status == 1
    text = ran.out + ran.err
    assert segment["file"] in text
    assert f"..{segment['last_index']}" in text
    found = pylogwal(command, "--json", log)
    assert found.status == 1
    error = found.json["damage"][0] if command == "verify" else found.json["error"]
    assert error["file"] == segment["file"]
    assert error["last_index"] == segment["last_index"]


@pytest.mark.parametrize("offset", range(FRAMES, FRAMES + 240, 7))
def test_each_flipped_bit_of_an_entry_is_found(pylogwal: Pylogwal, log: Path, offset: int) -> None:
    segment = pylogwal("info", "--json", log).json["segments"][1]
    flip(log / segment["file"], offset)
    report = pylogwal("verify", "--json", log).json
    assert [row["first_index"] for row in report["damage"]] == [segment["first_index"]]


def fail_after_first(monkeypatch: pytest.MonkeyPatch, what: Callable[[], None]) -> None:
    """Once the first thing is found, each further step of verification does `what` before it."""
    step = core.Verifier.step
    found: list[object] = []

    def stepping(verifier: core.Verifier) -> Any:
        if found:
            what()
        finding = step(verifier)
        found.extend([finding] if finding else [])
        return finding

    monkeypatch.setattr(core.Verifier, "step", stepping)


def damage_two(pylogwal: Pylogwal, log: Path) -> str:
    """Damages the first entry of two segments. The line that tells of the older one."""
    rows = pylogwal("info", "--json", log).json["segments"][1:3]
    for row in rows:
        flip(log / row["file"], FRAMES + 100)
    index = rows[0]["first_index"]
    return f"damaged: {rows[0]['file']} at byte {FRAMES}: entry {index}: the entry is damaged"


def test_what_was_found_before_a_read_failed_is_told(
    pylogwal: Pylogwal, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = damage_two(pylogwal, log)

    def fail() -> None:
        raise WalError("it cannot be read", errno=errno.EIO)

    with monkeypatch.context() as patched:
        fail_after_first(patched, fail)
        ran = pylogwal("verify", log)
    assert ran.status == 3
    assert ran.err == "pylogwal: it cannot be read\n"
    assert ran.out.splitlines()[0] == line
    assert "damage: 1 needed" in ran.out
    with monkeypatch.context() as patched:
        fail_after_first(patched, fail)
        ran = pylogwal("verify", "--json", log)
    assert ran.status == 3
    assert len(ran.json["damage"]) == 1
    assert (ran.json["complete"], ran.json["error"]["errno"]) == (False, errno.EIO)


def test_what_was_found_before_an_interrupt_is_told(
    pylogwal: Pylogwal, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = damage_two(pylogwal, log)
    handler = signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        fail_after_first(patched, interrupt)
        ran = pylogwal("verify", log)
    assert ran.status == 130
    assert "Traceback" not in ran.err
    lines = ran.out.splitlines()
    assert lines[0] == line
    assert "interrupted" in lines[1]
    assert lines[2] == "damage: 1 needed, 0 not needed"
    assert signal.getsignal(signal.SIGINT) == handler
    with monkeypatch.context() as patched:
        fail_after_first(patched, interrupt)
        ran = pylogwal("verify", "--json", log)
    assert ran.status == 130
    assert (len(ran.json["damage"]), ran.json["complete"]) == (1, False)


def test_ctrl_c_at_any_moment_of_verify_ends_with_what_was_found(tmp_path: Path) -> None:
    """A process of its own, and a signal at moments that nobody has chosen."""
    log = tmp_path / "log"
    with Wal(log, segment_bytes=1 << 20, durability="manual") as wal:
        for first in range(1, 40_001, 1000):
            wal.persist_entries(run(first, first + 999, payload=b"x" * 1000))
        oldest = wal.core.segments()[0].file
    flip(log / oldest, FRAMES + 500)
    command = [sys.executable, "-m", "pylogwal", "verify", str(log)]
    for round_ in range(8):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            first_line = child.stdout.readline()
            time.sleep(round_ * 0.002)
            child.send_signal(signal.SIGINT)
            out, err = child.communicate()
        assert first_line.startswith(f"damaged: {oldest} at byte ")
        assert "Traceback" not in err
        assert "Exception ignored" not in err
        if child.returncode == 1:  # it was done before the signal came
            assert "interrupted" not in out
        elif child.returncode == 130:
            assert out == "" or "damage: 1 needed" in out
        else:
            assert child.returncode == -signal.SIGINT  # the interpreter was ending


def test_it_tells_its_version(pylogwal: Pylogwal) -> None:
    assert pylogwal("--version") == (0, f"pylogwal {metadata.version('pylogwal')}\n", "")


# -- wrong use, and what cannot be read ------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("look", "log"),
        ("info",),
        ("info", ""),
        ("info", "a\0b"),
        ("info", "log", "more"),
        ("dump", "log", "--from", "0"),
        ("dump", "log", "--to", "-1"),
        ("dump", "log", "--to", "last"),
        ("dump", "log", "--to", str(2**64)),
        ("dump", "log", "--from", "5", "--to", "4"),
        ("verify", "log", "--from", "5"),
    ],
)
def test_wrong_use_is_2(pylogwal: Pylogwal, arguments: tuple[str, ...]) -> None:
    ran = pylogwal(*arguments)
    assert ran.status == 2
    assert ran.out == ""
    assert "usage: pylogwal" in ran.err


@every_reader
@pytest.mark.parametrize("what", ["nothing", "no log", "a file"])
def test_what_cannot_be_read_is_3(
    pylogwal: Pylogwal, tmp_path: Path, command: str, what: str
) -> None:
    path = tmp_path / "log"
    if what == "no log":
        path.mkdir()
    elif what == "a file":
        path.write_bytes(b"text")
    ran = pylogwal(command, path)
    assert ran.status == 3
    assert ran.out == ""
    assert str(path) in ran.err
    assert pylogwal(command, path, "--json").json["error"]["errno"] is not None
    assert path.exists() == (what != "nothing")


@every_reader
def test_a_newer_format_is_3(pylogwal: Pylogwal, log: Path, command: str) -> None:
    from pylogwal.core import crc32c

    page = bytearray((log / "LOCK").read_bytes())
    page[8:12] = (2).to_bytes(4, "little")
    page[12:16] = bytes(4)
    page[12:16] = crc32c(bytes(page)).to_bytes(4, "little")
    (log / "LOCK").write_bytes(page)
    ran = pylogwal(command, log)
    assert ran.status == 3
    assert "newer version" in ran.err


# -- beside others ---------------------------------------------------------------------------------


@every_reader
def test_beside_a_live_writer(pylogwal: Pylogwal, tmp_path: Path, command: str) -> None:
    with Wal(tmp_path / "log", segment_bytes=SEGMENT_BYTES, durability="manual") as wal:
        done = threading.Event()

        def write() -> None:
            index = 1
            while not done.is_set():
                wal.persist_entries(run(index, index + 19, payload=b"w" * 300))
                index += 20
                if index % 400 == 1:
                    wal.purge(LogId(index - 200, 1))

        wal.persist_entries(run(1, 20, payload=b"w" * 300))
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(10):
                ran = pylogwal(command, tmp_path / "log")
                assert (ran.status, ran.err) == (0, "")
        finally:
            done.set()
            writer.join()


def test_as_a_module_and_into_a_pipe_that_closes(log: Path) -> None:
    command = [sys.executable, "-m", "pylogwal", "dump", str(log)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        assert child.stdout.readline().startswith(b"101 1 0 200 ppp")
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 0


def test_a_directory_of_any_name(pylogwal: Pylogwal, tmp_path: Path) -> None:
    name = os.fsdecode(b"l\xffg")
    Wal(tmp_path / name).close()
    ran = pylogwal("info", tmp_path / name)
    assert ran.status == 0
    assert r"l\udcffg" in ran.out
