"""kill -9: what was accepted is there again, byte for byte, in every mode."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from history import write_history
from processes import Child, run_python
from stores import State, state_of

from pylogwal import Entry, Wal

ALL = 2**64 - 1
MODES = ("batch", "interval", "manual")

APPEND = """
import random, sys
from pylogwal import Entry, HardState, Wal
wal = Wal(sys.argv[1], durability=sys.argv[2], segment_bytes=65536)
random_ = random.Random(int(sys.argv[3]))
print(wal.last_index())
while True:
    first = wal.last_index() + 1
    batch = [Entry(i, 1, b"%d " % i * random_.randrange(90)) for i in range(first, first + 5)]
    wal.persist_entries(batch, HardState(first))
    print(batch[-1].index)
"""


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_writer_loses_nothing_that_it_was_told_is_accepted(
    tmp_path: Path, mode: str
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    random_ = random.Random(seed)
    accepted = 0
    kept: list[Entry] = []
    for _ in range(6):
        with Child(APPEND, tmp_path / "log", mode, random_.randrange(2**32)) as child:
            assert int(child.line()) >= accepted
            for _ in range(random_.randrange(1, 150)):
                accepted = int(child.line())
            lines = child.kill()
            if lines and lines[-1].isdigit():
                accepted = max(accepted, *map(int, (line for line in lines[:-1] if line)), 0)
        with Wal(tmp_path / "log", read_only=True) as reader:
            seen = reader.get_entries(1, ALL)
        with Wal(tmp_path / "log") as wal:
            found = wal.get_entries(1, ALL)
            hard_state = wal.load_hard_state()
            assert wal.durable_index() == wal.last_index()
        assert found == seen
        assert len(found) >= accepted
        assert len(found) % 5 == 0
        assert hard_state is not None
        assert hard_state.term == len(found) - 4
        assert found[: len(kept)] == kept
        assert [entry.index for entry in found] == list(range(1, len(found) + 1))
        assert all(set(entry.payload.split()) <= {b"%d" % entry.index} for entry in found)
        kept = found


HISTORY = """
import sys
sys.path.insert(0, sys.argv[4])
from history import write_history
from pylogwal import Wal
wal = Wal(sys.argv[1], durability=sys.argv[2], segment_bytes=65536)
write_history(wal, int(sys.argv[3]), 10**9, lambda: print("written"))
"""


def replayed(log: Path, copy: Path, seed: int, steps: int) -> State:
    """The state after these writes, in a copy of the log."""
    shutil.copytree(log, copy)
    with Wal(copy, durability="manual", segment_bytes=65536) as wal:
        write_history(wal, seed, steps)
        state = state_of(wal)
    shutil.rmtree(copy)
    return state


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_history_is_as_it_was_told_or_one_write_further(tmp_path: Path, mode: str) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    random_ = random.Random(seed)
    log, before = tmp_path / "log", tmp_path / "before"
    Wal(log).close()
    for _ in range(5):
        shutil.copytree(log, before)
        history = random_.randrange(2**32)
        with Child(HISTORY, log, mode, history, Path(__file__).parent) as child:
            written = random_.randrange(1, 250)
            assert [child.line() for _ in range(written)] == ["written"] * written
            written += child.kill().count("written")
        with Wal(log) as wal:
            found = state_of(wal)
        further = (written, written + 1)
        assert found in [replayed(before, tmp_path / "copy", history, n) for n in further]
        shutil.rmtree(before)


EQUAL_SIZE = """
import os, signal, sys
from pylogwal import Entry, Wal
wal = Wal(sys.argv[1], durability=sys.argv[2], segment_bytes=65536)
turn = int(sys.argv[3])
if turn == 0:
    wal.persist_entries([Entry(i, 1, b"a%03d" % i) for i in range(1, 11)])
wal.truncate(6)
wal.persist_entries([Entry(i, turn + 2, b"b%03d" % i) for i in range(6, 9)])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("mode", MODES)
def test_a_cut_and_an_append_of_equal_size_bring_nothing_back(tmp_path: Path, mode: str) -> None:
    for turn in range(4):
        run_python(EQUAL_SIZE, tmp_path / "log", mode, turn, status=-9)
        with Wal(tmp_path / "log") as wal:
            expected = [Entry(i, 1, b"a%03d" % i) for i in range(1, 6)]
            expected += [Entry(i, turn + 2, b"b%03d" % i) for i in range(6, 9)]
            assert wal.get_entries(0, ALL) == expected


SAME_BYTES = """
import os, signal, sys
from pylogwal import Entry, Wal
wal = Wal(sys.argv[1], durability="manual", segment_bytes=1048576)
for i in range(int(sys.argv[2]), 9):
    wal.persist_entries([Entry(i, 1, b"same bytes")])
os.kill(os.getpid(), signal.SIGKILL)
"""


ONE_MORE = """
import os, signal, sys
from pylogwal import Entry, Wal
wal = Wal(sys.argv[1], durability="manual", segment_bytes=1048576)
wal.persist_entries([Entry(int(sys.argv[2]), 1, b"same bytes")])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_same_bytes_sent_again_behind_a_torn_tail_bring_nothing_back(tmp_path: Path) -> None:
    """Batches lie whole behind the tear; the one that was torn is sent again, byte for byte. In a
    segment that is not full enough for the next one to be made: that would sync, and a later batch
    would then know the torn one to have been durable.
    """
    log = tmp_path / "log"
    for torn in (2, 3, 4):
        run_python(SAME_BYTES, log, 1, status=-9)
        segment = log / f"{1:016x}.wal"
        data = bytearray(segment.read_bytes())
        position = -1
        for _ in range(torn):
            position = data.find(b"same bytes", position + 1)
        data[position] ^= 1
        segment.write_bytes(data)
        with Wal(log, durability="manual") as wal:
            assert wal.last_index() == torn - 1
            assert wal.stats().cut_batches == 9 - torn
        for last in range(torn, 7):  # each time killed right behind the first one
            run_python(ONE_MORE, log, last, status=-9)
            with Wal(log, durability="manual") as wal:
                assert wal.last_index() == last
        shutil.rmtree(log)
