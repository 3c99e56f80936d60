"""The example: a PySyncObj node on a pylogwal journal, started again and again."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pysyncobj")

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

from pysyncobj_journal import WalJournal, open_counter  # noqa: E402

from pylogwal import ClosedError, Entry, HardState, LogId, SyncFailedError, Wal  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pysyncobj")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[WalJournal]:
    journal = WalJournal(str(tmp_path / "log"))
    yield journal
    journal._destroy()


@pytest.fixture
def address() -> str:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return f"localhost:{probe.getsockname()[1]}"


def fill(journal: WalJournal, last: int) -> list[tuple[bytes, int, int]]:
    entries = [(b"command %d" % index, index, 1) for index in range(1, last + 1)]
    for entry in entries:
        journal.add(*entry)
    return entries


# -- the Journal interface, as PySyncObj's own FileJournal keeps it --------------------------------


def test_it_reads_like_a_list(journal: WalJournal) -> None:
    assert len(journal) == 0
    entries = fill(journal, 10)
    assert len(journal) == 10
    assert journal[0] == entries[0]
    assert journal[-1] == entries[-1]
    for part in (slice(2, 5), slice(7, None), slice(8, 20), slice(5, 5), slice(20, 30)):
        assert journal[part] == entries[part]
    with pytest.raises(IndexError):
        journal[10]


def test_positions_count_from_the_first_entry(journal: WalJournal) -> None:
    entries = fill(journal, 10)
    journal.deleteEntriesTo(4)
    assert journal[:] == entries[4:]
    journal.deleteEntriesFrom(3)
    assert journal[:] == entries[4:7]
    journal.deleteEntriesTo(0)
    assert journal[:] == entries[4:7]
    assert journal.wal.load_purge_boundary() == LogId(4, 1)


def test_cleared_it_starts_anywhere(journal: WalJournal) -> None:
    fill(journal, 3)
    journal.clear()
    assert len(journal) == 0
    journal.add(b"from a snapshot", 70, 4)
    assert journal[:] == [(b"from a snapshot", 70, 4)]


def test_term_vote_and_commit_index_are_kept(journal: WalJournal) -> None:
    assert journal.getCurrentTerm() == 0
    assert journal.getVotedForNodeId() is None
    assert journal.getRaftCommitIndex() == 1
    fill(journal, 9)
    journal.setRaftCommitIndex(7)
    journal.setCurrentTerm(5, "localhost:1")
    journal.setRaftCommitIndex(8)
    journal.onOneSecondTimer()
    journal._destroy()
    again = WalJournal(journal.wal.path)
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (5, "localhost:1")
    assert again.getRaftCommitIndex() == 8
    again.deleteEntriesFrom(4)
    assert again.getRaftCommitIndex() == 4
    again._destroy()


def test_after_a_failed_sync_nothing_can_be_read_as_if_it_were_durable(
    journal: WalJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(journal, 3)

    def failing(*_: object, **__: object) -> None:
        raise SyncFailedError("the disk has gone")

    monkeypatch.setattr(journal.wal, "persist_entries", failing)
    with pytest.raises(SyncFailedError):
        journal.add(b"command 4", 4, 1)
    with pytest.raises(ClosedError):
        len(journal)


# -- a node ----------------------------------------------------------------------------------------


def test_a_node_finds_its_log_again(tmp_path: Path, address: str) -> None:
    directory = str(tmp_path / "log")
    for start in range(1, 4):
        node = open_counter(address, directory)
        try:
            assert node.value() == (start - 1) * 15
            for amount in range(1, 6):
                node.add(amount, sync=True, timeout=60)
            assert node.value() == start * 15
        finally:
            node.destroy_synchronous()
    with Wal(directory, read_only=True) as wal:
        state = wal.load_hard_state()
        assert isinstance(state, HardState)
        assert state.voted_for == address
        assert all(isinstance(entry, Entry) for entry in wal.get_entries(1, 99))
        assert wal.last_index() == 1 + 3 * 6


NODE = """
import sys
from pysyncobj_journal import open_counter
node = open_counter(sys.argv[1], sys.argv[2])
print("found", node.value(), flush=True)
while True:
    print(node.add(1, sync=True, timeout=60), flush=True)
"""


def killed_after(lines: int, address: str, directory: str) -> list[str]:
    command = [sys.executable, "-c", NODE, address, directory]
    options: dict[str, Any] = {"cwd": EXAMPLES, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **options) as child:
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        told += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    return [line.strip() for line in told if line.endswith("\n")]


def test_a_node_that_is_killed_finds_what_it_had_answered(tmp_path: Path, address: str) -> None:
    directory = str(tmp_path / "log")
    first = killed_after(5, address, directory)
    assert first[0] == "found 0"
    answered = int(first[-1])
    second = killed_after(2, address, directory)
    assert int(second[0].removeprefix("found ")) >= answered
