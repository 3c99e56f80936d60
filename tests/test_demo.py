"""The demo: that it runs and counts right, and above all that it would notice a loss."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounts import command, mounts_needed

from pylogwal import Entry, HardState, Wal, cli, demo, scratch
from pylogwal.demo_model import Model, Source, default_text, lost_entries

TEXT = b"".join(b"line %d of the text\n" % number for number in range(50))
SEGMENT_BYTES = 65536


@pytest.fixture
def source() -> Source:
    return Source(TEXT)


@pytest.fixture
def model(source: Source) -> Model:
    """Entries 1..60 of term 1 and 61..100 of term 2."""
    model = Model(source)
    model.append(1, 60, 1)
    model.append(61, 100, 2)
    return model


@pytest.fixture
def wal(tmp_path: Path, source: Source) -> Iterator[Wal]:
    """A log that holds just that."""
    with Wal(tmp_path / "log", segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(source.entries(1, 60, 1))
        wal.persist_entries(source.entries(61, 100, 2))
        yield wal


def test_lines_are_payloads_and_together_the_text(source: Source) -> None:
    assert b"".join(source.payloads(1, 50)) == TEXT
    assert source.payloads(51, 52) == source.payloads(1, 2)
    long = Source(b"x" * 200_000)
    assert b"".join(long.pieces) == long.text
    assert max(map(len, long.pieces)) <= 65536


def test_the_default_text_is_surely_there() -> None:
    assert len(default_text()) > 1_000_000


def test_nothing_is_lost_from_a_log_that_is_well(wal: Wal, model: Model) -> None:
    assert lost_entries(wal, model, 100) == 0


def test_missing_acknowledged_entries_are_lost(wal: Wal, model: Model) -> None:
    wal.truncate(91)
    assert lost_entries(wal, model, 100) == 10
    assert lost_entries(wal, model, 95) == 5
    assert lost_entries(wal, model, 90) == 0


def test_a_log_that_is_gone_is_lost_whole(wal: Wal, model: Model) -> None:
    wal.reset()
    assert lost_entries(wal, model, 100) == 100


@pytest.mark.parametrize("change", [{"payload": b"else\n"}, {"term": 3}])
def test_entries_that_differ_are_lost(
    wal: Wal, model: Model, source: Source, change: dict[str, object]
) -> None:
    entry = source.entries(100, 100, 2)[0]
    wal.replace_range(100, [entry._replace(**change)])  # type: ignore[arg-type]
    assert lost_entries(wal, model, 100) == 1
    assert lost_entries(wal, model, 50) == 1


def test_entries_that_come_back_are_counted(wal: Wal, model: Model) -> None:
    model.truncate(91)
    assert model.last == 90
    assert lost_entries(wal, model, 90) == 10


def test_a_damaged_entry_is_lost(wal: Wal, model: Model, tmp_path: Path) -> None:
    wal.close()
    path = tmp_path / "log" / "0000000000000001.wal"
    content = bytearray(path.read_bytes())
    content[content.index(b"line 3 of the text")] ^= 1
    path.write_bytes(content)
    with Wal(tmp_path / "log", read_only=True) as damaged:
        assert lost_entries(damaged, model, 100) == 1


def test_a_short_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text"
    text.write_bytes(TEXT)
    work = tmp_path / "work"
    assert cli.main(["demo", str(text), "--kills", "3", "--seed", "7", "--dir", str(work)]) == 0
    out = capsys.readouterr().out
    assert "seed 7," in out
    assert out.count("kill ") == 3
    assert re.search(
        r"acknowledged [\d,]+, recovered [\d,]+, lost 0, cut [\d,]+ bytes in 3 kills", out
    )
    assert re.search(r"durable entries/s.* plain loop of write and fdatasync [\d,]+\n", out)
    assert out.endswith("nothing that was acknowledged is lost\n")
    for step in ("sent again", "another leader", "truncated from", "purged up to"):
        assert re.search(rf"{step}.*: reopened, .*, lost 0\n", out)
    assert cli.main(["verify", str(work / "log")]) == 0


def test_the_text_may_come_from_stdin() -> None:
    words = [sys.executable, "-m", "pylogwal", "demo", "-", "--kills", "1"]
    ran = subprocess.run(words, input=TEXT, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert b"text: %d bytes, 50 lines" % len(TEXT) in ran.stdout


class Forgetful(demo._Demo):
    """Between the kill and the look at the log, its last acknowledged entry goes."""

    def run_child(self, term: int, after_s: float) -> None:
        with Wal(self.log) as wal:
            wal.persist_entries(self.source.entries(1, 10, term), HardState(term, "demo"))
            self.acknowledged = 10
            self.forget(wal)

    def forget(self, wal: Wal) -> None:
        wal.truncate(10)


class ForgetsTheVote(Forgetful):
    def forget(self, wal: Wal) -> None:
        wal.save_hard_state(HardState(0))


@pytest.mark.parametrize(("forgetful", "recovered"), [(Forgetful, 9), (ForgetsTheVote, 10)])
def test_a_loss_is_told_and_is_exit_status_1(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    forgetful: type[demo._Demo],
    recovered: int,
) -> None:
    monkeypatch.setattr(demo, "_Demo", forgetful)
    monkeypatch.setattr(scratch.tempfile, "mkdtemp", lambda **_: str(tmp_path))
    assert cli.main(["demo"]) == 1
    told = capsys.readouterr()
    assert f"\nacknowledged 10, recovered {recovered}, lost 1, cut 0 bytes in 1 kill;" in told.out
    assert "nothing that was acknowledged is lost" not in told.out
    assert str(tmp_path) in told.err
    assert (tmp_path / "log").is_dir()


class EndsItself(demo._Demo):
    """Its child finds a log that another writer has open."""

    def run_child(self, term: int, after_s: float) -> None:
        with Wal(self.log):
            super().run_child(term, 30)


def test_a_child_that_ends_by_itself_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "_Demo", EndsItself)
    assert cli.main(["demo", "--dir", str(tmp_path)]) == 3
    told = capfd.readouterr().err
    assert "LockedError: " in told
    assert "ended by itself" in told
    assert "Traceback" not in told


class FillsTheDisk(demo._Demo):
    """Its child is killed later than the disk is full."""

    def run_child(self, term: int, after_s: float) -> None:
        super().run_child(term, 60)


def test_a_full_disk_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "_Demo", FillsTheDisk)
    disk = tmp_path / "disk"
    disk.mkdir()
    text = tmp_path / "text"
    text.write_bytes(TEXT)
    with mounts_needed():
        command("mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", disk)
    try:
        assert cli.main(["demo", str(text), "--dir", str(disk)]) == 3
    finally:
        command("umount", "-l", disk)
    first, second = capfd.readouterr().err.splitlines()
    assert first.startswith("pylogwal: DiskFullError: ")
    assert "ended by itself" in second


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--kills", "0"], 2), (["empty"], 2), (["missing"], 3), (["--dir", "full"], 2)],
)
def test_what_it_cannot_work_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    Path("full").mkdir()
    Path("full/file").touch()
    words = [sys.executable, "-m", "pylogwal", "demo", *arguments]
    assert subprocess.run(words, capture_output=True, check=False).returncode == status


def test_entries_follow_the_source(source: Source) -> None:
    assert source.entries(51, 51, 4) == [Entry(51, 4, b"line 0 of the text\n")]
    assert source.entries(1, 1, 4, shift=7) == [Entry(1, 4, b"line 7 of the text\n")]


def test_a_signal_before_the_child_starts_is_no_other_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Source
) -> None:
    @contextlib.contextmanager
    def too_late() -> Iterator[None]:
        signal.raise_signal(signal.SIGINT)
        yield

    monkeypatch.setattr(demo, "signals_held", too_late)
    with pytest.raises(KeyboardInterrupt):
        demo._Demo(tmp_path, source, seed=1).run_child(term=1, after_s=0)
