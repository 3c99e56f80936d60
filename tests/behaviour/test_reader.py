"""A read-only handle beside a live writer."""

from __future__ import annotations

import random
import select
from pathlib import Path

import pytest
from history import is_right
from processes import Child
from stores import SEGMENT_BYTES, run, state_of

import pylogwal
from pylogwal import LogId, PurgedError, ReadOnlyError, Wal

ALL = 2**64 - 1

WRITER = """
import random, sys
sys.path.insert(0, sys.argv[4])
from history import write_history
from pylogwal import Wal
path, seed, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
wal = Wal(path, durability=sys.argv[5], segment_bytes=int(sys.argv[6]))
print("open")
sys.stdin.readline()
write_history(wal, seed, steps)
print("done")
sys.stdin.readline()
wal.close()
"""


def hold_reader_beside_writer(path: Path, mode: str, steps: int) -> None:
    seed = random.randrange(2**32)
    print("seed", seed, "mode", mode)
    # Of the larger ones some are recycled.
    segment_bytes = random.Random(seed).choice([SEGMENT_BYTES, 4 * SEGMENT_BYTES])
    arguments = (path, seed, steps, Path(__file__).parent, mode, segment_bytes)
    refreshed = purged = 0
    with Child(WRITER, *arguments) as child:
        assert child.line() == "open"
        child.tell()
        reader = Wal(path, read_only=True)
        random_ = random.Random(seed)
        last_term = 0
        # Until the writer has said that it is done: it prints one line, so the pipe tells.
        while not select.select([child.stdout], [], [], 0)[0]:
            reader.refresh()
            refreshed += 1
            for _ in range(random_.randrange(4)):
                first, last = reader.first_index(), reader.last_index()
                boundary = reader.load_purge_boundary()
                assert boundary is None or boundary.index == first - 1
                low = random_.randrange(first, last + 2)
                try:
                    found = reader.get_entries(low, ALL)
                except PurgedError:
                    purged += 1
                    break
                assert [entry.index for entry in found] == list(range(low, last + 1))
                assert all(is_right(entry) for entry in found)
                assert sorted(entry.term for entry in found) == [entry.term for entry in found]
                hard = reader.load_hard_state()
                assert hard is None or hard.term >= last_term
                last_term = hard.term if hard else 0
                assert reader.durable_index() <= last
        assert child.line() == "done"
        reader.refresh()
        live = state_of(reader)
        child.tell()
        assert child.end() == ([], 0)
    reader.close()
    with Wal(path) as wal:
        assert state_of(wal) == live
    print("refreshed", refreshed, "purged", purged)
    assert refreshed > 3


@pytest.mark.parametrize("mode", ["manual", "interval"])
def test_a_reader_beside_a_busy_writer_sees_whole_and_right_states_only(
    tmp_path: Path, mode: str
) -> None:
    hold_reader_beside_writer(tmp_path / "log", mode, 1500)


@pytest.mark.prove
@pytest.mark.parametrize("mode", ["manual", "interval", "batch"])
@pytest.mark.parametrize("round_", range(4))
def test_a_reader_beside_a_busy_writer_for_long(tmp_path: Path, mode: str, round_: int) -> None:
    hold_reader_beside_writer(tmp_path / "log", mode, 12000)


APPENDER = """
import sys
from pylogwal import Entry, Wal
wal = Wal(sys.argv[1], durability="manual", segment_bytes=4 << 20)
print("open")
for index in range(1, 30001):
    wal.persist_entries([Entry(index, 1, b"%d " % index * 20)])
    if index % 7 == 0:
        wal.flush()
print("done")
wal.close()
"""


def test_a_reader_beside_a_fast_appender_never_takes_a_running_write_for_damage(
    tmp_path: Path,
) -> None:
    with Child(APPENDER, tmp_path / "log") as child:
        assert child.line() == "open"
        seen = 0
        with Wal(tmp_path / "log", read_only=True) as reader:
            while seen < 30000:
                reader.refresh()
                assert reader.last_index() >= seen
                seen = reader.last_index()
                for entry in reader.get_entries(max(1, seen - 5), seen):
                    assert entry.payload == b"%d " % entry.index * 20
                if seen < 30000 and child.process.poll() is not None:
                    reader.refresh()
                    assert reader.last_index() == 30000


def test_a_reader_is_the_state_at_open_until_it_refreshes(tmp_path: Path) -> None:
    with Wal(tmp_path / "log", durability="manual", segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(run(1, 10))
        with Wal(tmp_path / "log", read_only=True) as reader:
            before = state_of(reader)
            assert before == state_of(wal)
            wal.truncate(6)
            wal.persist_entries(run(6, 8, term=2))
            assert state_of(reader) == before
            reader.refresh()
            assert state_of(reader) == state_of(wal)
            wal.purge(LogId(7, 2))
            assert reader.get_entries(6, 6) == run(6, 6, term=2)
            reader.refresh()
            assert state_of(reader) == state_of(wal)
            wal.reset()
            reader.refresh()
            assert state_of(reader) == state_of(wal)


def test_a_reader_of_recycled_segments_is_told_that_they_are_purged(tmp_path: Path) -> None:
    """A segment is recycled when the one after it has hardly begun."""
    big = b"x" * 90_000
    with Wal(tmp_path / "log", segment_bytes=1 << 20) as wal:
        wal.persist_entries(run(1, 1, payload=big))
        first_file = (tmp_path / "log" / f"{1:016x}.wal").stat().st_ino
        reader = Wal(tmp_path / "log", read_only=True)
        told: PurgedError | None = None
        for index in range(2, 60):
            wal.persist_entries(run(index, index, payload=big))
            if wal.stats().segments > 1:
                wal.purge(LogId(index - 1, 1))
            try:
                assert reader.entry(1) == run(1, 1, payload=big)[0]
            except PurgedError as error:
                told = error
        assert first_file in [path.stat().st_ino for path in (tmp_path / "log").iterdir()]
        assert told is not None
        assert "refresh" in str(told)
        assert told.index == 1
        with pytest.raises(PurgedError):
            reader.get_entries(1, 1)
        reader.refresh()
        assert state_of(reader) == state_of(wal)
        reader.close()


def test_a_reader_keeps_what_it_sees_where_files_are_removed_and_not_recycled(
    tmp_path: Path,
) -> None:
    big = b"x" * 5000
    with Wal(tmp_path / "log", segment_bytes=SEGMENT_BYTES, spare_segments=0) as wal:
        wal.persist_entries(run(1, 10, payload=big))
        with Wal(tmp_path / "log", read_only=True) as reader:
            for first in range(11, 100, 10):
                wal.persist_entries(run(first, first + 9, payload=big))
                wal.purge(LogId(first - 1, 1))
            assert reader.get_entries(1, 10) == run(1, 10, payload=big)


def test_a_reader_refuses_to_write_and_takes_no_lock(tmp_path: Path) -> None:
    with Wal(tmp_path / "log") as wal:
        wal.persist_entries(run(1, 3))
        readers = [Wal(tmp_path / "log", read_only=True) for _ in range(3)]
        for reader in readers:
            with pytest.raises(ReadOnlyError):
                reader.persist_entries(run(4, 4))
            with pytest.raises(ReadOnlyError):
                reader.purge(LogId(1, 1))
            reader.flush()
            assert not reader.is_write_durable()
        wal.close()
        with Wal(tmp_path / "log") as again:
            again.persist_entries(run(4, 4))
        for reader in readers:
            reader.refresh()
            assert reader.last_index() == 4
            reader.close()


async def test_a_reader_for_asyncio(tmp_path: Path) -> None:
    async with pylogwal.open(tmp_path / "log") as store:
        await store.persist_entries(run(1, 3))
        async with pylogwal.open(tmp_path / "log", read_only=True) as reader:
            await store.persist_entries(run(4, 4))
            assert reader.last_index() == 3
            await reader.refresh()
            assert await reader.entry(4) == run(4, 4)[0]
            assert reader.durable_index() >= 3


def test_a_reader_leaves_no_trace(tmp_path: Path) -> None:
    with Wal(tmp_path / "log", durability="manual", segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(run(1, 10))
    before = {path.name: path.read_bytes() for path in (tmp_path / "log").iterdir()}
    with Wal(tmp_path / "log", read_only=True) as reader:
        reader.get_entries(1, 10)
        reader.refresh()
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "log").iterdir()}
    with pytest.raises(pylogwal.WalError, match="no such directory"):
        Wal(tmp_path / "other", read_only=True)
    assert not (tmp_path / "other").exists()
