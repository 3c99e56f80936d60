"""What a read-only handle calls damage, beside a writer that changes the log."""

from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path

import pytest
from processes import Child, memory, needs_proc
from stores import SEGMENT_BYTES, run

from pylogwal import CorruptionError, LogId, LogIOError, Wal, WalError

BIG = b"x" * 50_000  # one to a segment

PURGER = """
import sys
from pylogwal import Entry, LogId, Wal
path, keep, segment_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
wal = Wal(path, durability="manual", segment_bytes=segment_bytes)
payload, index, term = b"x" * 50_000, 1, 1
while index <= keep:
    wal.persist_entries([Entry(index, term, payload)])
    index += 1
print("open")
while True:
    wal.persist_entries([Entry(index, term, payload)])
    if index % 16 == 0:
        term += 1
        wal.replace_range(index - 2, [Entry(i, term, payload) for i in range(index - 2, index + 1)])
    cutoff = index - keep
    wal.purge(LogId(cutoff, wal.term(cutoff)))
    index += 1
"""


def test_a_log_that_is_purged_meanwhile_is_never_called_damaged() -> None:
    """On a fast file system the writer removes files faster than a reader opens them."""
    outcomes: Counter[str] = Counter()
    with memory() as directory, Child(PURGER, Path(directory, "log"), 600, SEGMENT_BYTES) as child:
        assert child.line() == "open"
        for _ in range(25):
            try:
                with Wal(Path(directory, "log"), read_only=True) as reader:
                    first = reader.first_index()
                    reader.refresh()
                    assert reader.first_index() >= first
                    assert reader.last_index() - reader.first_index() >= 599 - 3
                outcomes["well"] += 1
            except LogIOError as error:
                outcomes[errno.errorcode[error.errno or 0]] += 1
            except WalError as error:
                outcomes[type(error).__name__] += 1
        child.kill()
    print(outcomes)
    assert set(outcomes) <= {"well", "EAGAIN"}
    assert outcomes["well"] > 0


def read_calls() -> int:
    """The read system calls of this process so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["syscr"])


@needs_proc
def test_a_damaged_log_is_judged_twice(tmp_path: Path) -> None:
    """The footer of the oldest of 20 segments is damaged, which is looked at last."""
    path = tmp_path / "log"
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        for index in range(1, 21):
            wal.persist_entries(run(index, index, payload=BIG))
    before = read_calls()
    Wal(path, read_only=True).close()
    whole = read_calls() - before
    with min(path.glob("*.wal")).open("r+b") as file:
        file.seek(-4096 + 100, 2)
        file.write(b"\xff")
    before = read_calls()
    with pytest.raises(CorruptionError):
        Wal(path, read_only=True)
    calls = read_calls() - before
    assert whole > 40
    assert 2 * whole - 10 <= calls < 3 * whole


def test_damage_to_what_was_appended_is_found_by_a_refresh(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Wal(path, durability="manual") as wal:
        wal.persist_entries(run(1, 10))
        with Wal(path, read_only=True) as reader:
            end = wal.core.segments()[-1].end
            for index in range(11, 14):
                wal.persist_entries(run(index, index, payload=BIG))
                wal.flush()
            with min(path.glob("*.wal")).open("r+b") as file:
                file.seek(end + 1000)
                file.write(b"damaged")
            for _ in range(3):
                with pytest.raises(CorruptionError) as raised:
                    reader.refresh()
                assert raised.value.offset == end
                assert reader.get_entries(0, 99) == run(1, 10), "it shows what it had read"


APPENDER = """
import sys
from pylogwal import Entry, Wal
wal = Wal(sys.argv[1], durability="manual", segment_bytes=16 << 20)
for index in range(1, 10_000_000):
    wal.persist_entries([Entry(index, 1, b"x" * 100)])
    if index % 10 == 0:
        wal.flush()
    if index == 1001:
        print("open")
"""


def test_real_damage_is_found_beside_a_writer_that_appends(tmp_path: Path) -> None:
    """The end of the log, and what is known of it, moves between two judgements."""
    path = tmp_path / "log"
    with Child(APPENDER, path) as child:
        assert child.line() == "open"
        with min(path.glob("*.wal")).open("r+b") as file:
            file.seek(9000)
            file.write(b"\xff" * 16)
        for _ in range(5):
            with pytest.raises(CorruptionError) as raised:
                Wal(path, read_only=True)
            assert raised.value.file == f"{1:016x}.wal"
        child.kill()


def test_a_missing_segment_is_reported_as_before(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        for index in range(1, 11):
            wal.persist_entries(run(index, index, payload=BIG))
        wal.purge(LogId(2, 1))
        (path / f"{6:016x}.wal").unlink()
        with pytest.raises(CorruptionError, match="missing"):
            Wal(path, read_only=True)
