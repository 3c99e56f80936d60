"""`pylogwal bench`: what it measures is what it says, and nothing stays behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from decoder import read_tail
from mounts import command, mounts_needed

from pylogwal import bench, cli


def test_json_has_a_row_for_each_payload_and_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "--dir", str(tmp_path), "--payload", "0,100", "--batch", "1,7"]
    assert cli.main([*arguments, "--seconds", "0.01", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert [(row["payload_bytes"], row["batch_entries"]) for row in rows] == [
        (0, 1),
        (0, 7),
        (100, 1),
        (100, 7),
    ]
    for row in rows:
        assert row["entries_per_sync"] == row["batch_entries"]
        for latencies in (row["log"], row["floor"]):
            assert 0 < latencies["p50_us"] <= latencies["p99_us"] <= latencies["p999_us"]
            assert latencies["p999_us"] <= latencies["max_us"]
    assert list(tmp_path.iterdir()) == []


def test_the_table_has_a_line_for_each_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "--dir", str(tmp_path), "--batch", "3", "--seconds", "0.01"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    "wrong",
    [("--batch", "0"), ("--batch", "x"), ("--payload", "-1"), ("--seconds", "0")],
    ids=" ".join,
)
def test_wrong_use_is_told(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", *wrong])
    assert caught.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_the_floor_writes_as_many_bytes_as_the_log(tmp_path: Path) -> None:
    result = bench.measure(tmp_path, payload_bytes=5, batch_entries=2, seconds=0.01)
    tail = read_tail(tmp_path / "log-5-2")
    batches = [batch for batch in tail.batches if not batch.is_commit_alone]
    assert len(batches) == result.log.calls + 3
    epoch_bytes = 56
    written = sum(batch.end - batch.start for batch in batches)
    assert written - epoch_bytes == len(batches) * (2 * (40 + 8) + 80)


def test_where_there_is_no_directory_there_is_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "--dir", str(tmp_path / "missing")]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert "missing" in told.err


def test_a_disk_without_room_for_the_floor_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounts_needed():
        command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path)
    try:
        assert cli.main(["bench", "--dir", str(tmp_path)]) == 3
        assert list(tmp_path.iterdir()) == []
    finally:
        command("umount", "-l", tmp_path)
    assert str(tmp_path) in capsys.readouterr().err
