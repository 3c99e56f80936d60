"""A COMMIT alone follows 100 ms after the last sync: so the log proves what was durable."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from decoder import COMMIT, EPOCH, Batch, Position, read_tail
from processes import PATIENCE_S, Child, needs_proc, run_python
from stores import SEGMENT_BYTES, copy_beside_writer, run

from pylogwal import CorruptionError, HardState, LogId, Wal

MODES = ("batch", "interval", "manual")
IDLE_S = 0.1
COMMIT_SIZE, EPOCH_SIZE = 80, 56


def alone(path: Path) -> list[Batch]:
    return [batch for batch in read_tail(path).batches if batch.is_commit_alone]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def idle() -> None:
    """Long enough for one more, if one were to come."""
    time.sleep(3 * IDLE_S)


@pytest.mark.parametrize("mode", MODES)
def test_it_stores_what_is_durable_once_in_each_idle_period(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "log"
    with (
        Wal(path, durability=mode, segment_bytes=SEGMENT_BYTES) as wal,
        Wal(path, read_only=True) as reader,
    ):
        for period in range(1, 4):
            wal.persist_entries(run(period, period))
            wal.flush()
            end = read_tail(path).batches[-1].end
            until(lambda: len(alone(path)) == period)  # noqa: B023
            idle()
            found = alone(path)
            assert len(found) == period
            assert found[-1].start == end
            assert found[-1].commit.commit.watermark == Position(1, end)
            reader.refresh()
            assert reader.durable_index() == reader.last_index() == period


def test_it_comes_100_ms_after_the_last_sync_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        started = time.monotonic()
        for index in range(1, 40):
            before, started = started, time.monotonic()  # it may come before this turn's write
            wal.persist_entries(run(index, index))
            time.sleep(IDLE_S / 10)
            found = alone(path)
            # Nothing but a machine that stood still lets that much time pass.
            assert not found or time.monotonic() - before >= IDLE_S * 0.99
            if found:
                break


@pytest.mark.parametrize("mode", MODES)
def test_nothing_counts_it_and_nothing_waits_for_it(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "log"
    with Wal(path, durability=mode, segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(run(1, 3), HardState(4))
        wal.flush()
        before = wal.stats()
        until(lambda: len(alone(path)) == 1)
        idle()  # an INTERVAL deadline would be over by now
        wal.flush()
        wal.wait_durable(3)
        after = wal.stats()
        assert (after.syncs, after.batches, after.entries) == (
            before.syncs,
            before.batches,
            before.entries,
        )
        assert wal.durable_index() == wal.last_index() == 3
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        assert wal.get_entries(1, 3) == run(1, 3)
        assert wal.load_hard_state() == HardState(4)


def test_there_is_none_where_it_would_say_nothing_new(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Wal(path, segment_bytes=SEGMENT_BYTES):  # a new log
        idle()
        assert not alone(path)
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(run(1, 1))
    with Wal(path, segment_bytes=SEGMENT_BYTES):  # a clean close has said it
        idle()
        assert not alone(path)
    with Wal(path, durability="manual") as wal:  # nothing has become durable
        wal.persist_entries(run(2, 2))
        idle()
        assert not alone(path)


KILLED = """
import os, signal, sys, time
from pylogwal import Wal
from stores import run
wal = Wal(sys.argv[1], durability=sys.argv[2], segment_bytes=65536)
for index in range(1, 21):
    wal.persist_entries(run(index, index, payload=b"entry-%03d" % index * 4))
    wal.flush()
print("written")
time.sleep(1000)
"""


def killed_after_idling(path: Path, mode: str = "batch") -> None:
    with Child(KILLED, path, mode) as child:
        assert child.line() == "written"
        until(lambda: len(alone(path)) == 1)
        child.kill()


@needs_proc
@pytest.mark.parametrize("mode", MODES)
def test_damage_to_what_was_durable_before_a_kill_is_corruption(tmp_path: Path, mode: str) -> None:
    path, copy = tmp_path / "log", tmp_path / "copy"
    killed_after_idling(path, mode)
    batch = read_tail(path).batches[-2]
    assert batch.frames[0].index == 20
    for offset in range(batch.start, batch.end, 7):
        shutil.copytree(path, copy)
        segment = copy / f"{1:016x}.wal"
        data = bytearray(segment.read_bytes())
        data[offset] ^= 1
        segment.write_bytes(data)
        with pytest.raises(CorruptionError) as caught:
            Wal(copy)
        assert caught.value.first_index == 20
        assert segment.read_bytes() == data
        shutil.rmtree(copy)


def test_after_an_unclean_stop_an_epoch_comes_first_and_restarts_add_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(run(1, 3))
        copy_beside_writer(path, tmp_path / "killed")  # without the COMMIT alone
    path = tmp_path / "killed"
    ends = []
    for _ in range(3):
        wal = Wal(path, segment_bytes=SEGMENT_BYTES)
        until(lambda: len(alone(path)) == 1)  # noqa: B023
        idle()
        assert [frame.type for frame in alone(path)[0].frames] == [EPOCH, COMMIT]
        ends.append(read_tail(path).batches[-1].end)
        copied = tmp_path / f"killed-{len(ends)}"
        copy_beside_writer(path, copied)
        wal.close()
        path = copied
    assert len(set(ends)) == 1
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        assert wal.stats().cut_bytes == 0
        wal.persist_entries(run(4, 5))
        assert wal.get_entries(1, 5) == run(1, 5)


@pytest.mark.parametrize("first", ["whole log", "killed log"])
def test_a_torn_one_alone_cuts_nothing(
    tmp_path: Path, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, torn = tmp_path / "log", tmp_path / "torn"
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(run(1, 3))
        if first == "killed log":
            copy_beside_writer(path, tmp_path / "killed")
            path = tmp_path / "killed"
            wal.close()
            wal = Wal(path, segment_bytes=SEGMENT_BYTES)
        until(lambda: len(alone(path)) == 1)
        batch = alone(path)[0]
        copy_beside_writer(path, tmp_path / "whole")
        wal.close()
    assert batch.end - batch.start == COMMIT_SIZE + (EPOCH_SIZE if first == "killed log" else 0)
    for cut in range(batch.start, batch.end, 8):
        shutil.copytree(tmp_path / "whole", torn)
        segment = torn / f"{1:016x}.wal"
        data = bytearray(segment.read_bytes())
        data[cut : cut + 16] = bytes(16)
        segment.write_bytes(data)
        with caplog.at_level(logging.WARNING, "pylogwal"), Wal(torn) as wal:
            assert wal.stats().cut_bytes == 0
            assert wal.stats().cut_batches == 0
            assert wal.get_entries(1, 9) == run(1, 3)
        shutil.rmtree(torn)
    assert not caplog.records


def test_it_takes_nothing_from_what_a_purge_is_kept_and_starts_no_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Wal(path, durability="manual", segment_bytes=SEGMENT_BYTES, spare_segments=0) as wal:
        # One batch leaves less than 80 bytes behind it, but for the page and the 4 KiB kept.
        size = SEGMENT_BYTES - 8192 - 4096 - 4096 - 4 - (EPOCH_SIZE + 40 + COMMIT_SIZE) - 40
        wal.persist_entries(run(1, 1, payload=bytes(size)))
        wal.flush()
        end = read_tail(path).batches[-1].end
        idle()
        assert not alone(path)
        assert read_tail(path).number == 1
        wal.purge(LogId(1, 1))
        assert read_tail(path).batches[-1].start == end
        assert len(list(path.glob("*.wal"))) == 1


def test_a_writer_that_goes_on_covers_it_by_its_own_sync(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        for index in range(1, 4):
            wal.persist_entries(run(index, index))
            until(lambda: len(alone(path)) == index)  # noqa: B023
        last = read_tail(path).batches[-1]
        wal.persist_entries(run(4, 4))
        until(lambda: len(alone(path)) == 4)
        assert alone(path)[-1].commit.commit.watermark.offset > last.end


CUT_BENEATH = """
import os, sys, time
from pylogwal import Wal, WalError
from stores import run
wal = Wal(sys.argv[1], segment_bytes=65536)
wal.persist_entries(run(1, 1))
end = wal.core.segments()[0].end
os.truncate(os.path.join(sys.argv[1], f"{1:016x}.wal"), 0)
time.sleep(0.5)
assert wal.core.segments()[0].end == end
assert wal.last_index() == wal.durable_index() == 1
try:
    wal.close()
except WalError as error:
    print("close:", type(error).__name__)
"""


@needs_proc
def test_where_it_cannot_be_stored_the_log_is_as_before(tmp_path: Path) -> None:
    assert run_python(CUT_BENEATH, tmp_path / "log").startswith("close: ")
