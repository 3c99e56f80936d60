"""A read-only handle goes on where it stopped, and shows what stands in the log now, whatever was
done to it meanwhile.
"""

from __future__ import annotations

import hashlib
import random
import resource
import shutil
import threading
from pathlib import Path

import pytest
from history import is_right, write_history
from processes import Child, memory
from stores import SEGMENT_BYTES, copy_beside_writer, run, state_of

from pylogwal import CorruptionError, HardState, LogId, PurgedError, Wal

FRAMES_OFFSET = 8192

# -- what it costs -------------------------------------------------------------------------------


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_a_refresh_costs_what_was_appended_since(tmp_path: Path) -> None:
    """In bytes read, and in pages touched; 32 MiB lie in the tail."""
    path = tmp_path / "log"
    with Wal(path, durability="manual") as wal:
        for index in range(1, 65):
            wal.persist_entries(run(index, index, payload=b"x" * (512 << 10)))
        before = page_faults()
        reader = Wal(path, read_only=True)
        of_open = page_faults() - before
        assert reader.core.stats().walked_bytes > 32 << 20
        for index in range(65, 75):
            end = wal.core.segments()[-1].end
            wal.persist_entries(run(index, index, payload=b"y" * 1000))
            appended = wal.core.segments()[-1].end - end
            before = page_faults()
            reader.refresh()
            of_refresh = page_faults() - before
            assert reader.core.stats().walked_bytes == appended
            assert of_refresh * 4 < of_open
            assert reader.entry(index) == run(index, index, payload=b"y" * 1000)[0]
        reader.refresh()
        assert reader.core.stats().walked_bytes == 0
        assert state_of(reader) == state_of(wal)
        reader.close()


def test_a_refresh_over_rotations_costs_what_was_appended_since(tmp_path: Path) -> None:
    path = tmp_path / "log"
    big = b"x" * 50_000
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        for index in range(1, 101):
            wal.persist_entries(run(index, index, payload=big))
        with Wal(path, read_only=True) as reader:
            for index in range(101, 111):
                wal.persist_entries(run(index, index, payload=big))
            reader.refresh()
            assert reader.core.stats().walked_bytes < 12 * len(big)
            wal.purge(LogId(90, 1))
            reader.refresh()
            assert reader.core.stats().walked_bytes < len(big)
            assert state_of(reader) == state_of(wal)
            assert len(reader.core.segments()) < 30, "it lets go of what was purged"


# -- what it shows -------------------------------------------------------------------------------


def test_what_was_cut_and_written_anew_at_the_same_place_is_seen(tmp_path: Path) -> None:
    """A killed writer's last batch is torn off by the next one, which writes another, of the same
    size, to the same place. The reader has seen the first.
    """
    path = tmp_path / "log"
    writer = "import os, sys; sys.path.insert(0, sys.argv[2]); from stores import run; "
    writer += "from pylogwal import Wal; wal = Wal(sys.argv[1], durability='manual'); "
    writer += "wal.persist_entries(run(1, 5)); wal.flush(); wal.persist_entries(run(6, 9)); "
    writer += "print('there'); sys.stdin.readline()"
    with Child(writer, path, Path(__file__).parent.parent) as child:
        assert child.line() == "there"
        with Wal(path, read_only=True) as reader:
            assert reader.get_entries(0, 99) == run(1, 9)
            end = reader.core.segments()[-1].end
            child.kill()
            with min(path.glob("*.wal")).open("r+b") as file:
                file.seek(end - 8)
                file.write(bytes(8))  # what a power cut may leave; the batch was never synced
            with Wal(path, durability="manual") as wal:
                assert wal.last_index() == 5
                wal.persist_entries(run(6, 9, term=2))
                assert wal.core.segments()[-1].end > end
                reader.refresh()
                assert state_of(reader) == state_of(wal)
                wal.persist_entries(run(10, 12, term=2))
                reader.refresh()
                assert state_of(reader) == state_of(wal)


def test_a_copy_that_is_put_in_the_place_of_the_log_is_seen(tmp_path: Path) -> None:
    path, older, newer = tmp_path / "log", tmp_path / "older", tmp_path / "newer"
    with Wal(path) as wal:
        wal.persist_entries(run(1, 5))
    shutil.copytree(path, older)
    with Wal(path) as wal:
        wal.persist_entries(run(6, 9))
    shutil.copytree(path, newer)
    with Wal(newer) as wal:
        wal.persist_entries(run(10, 12))
    name = f"{1:016x}.wal"
    with Wal(path, read_only=True) as reader:
        for copy, last in ((newer, 12), (older, 5)):
            (copy / name).rename(path / name)
            reader.refresh()
            assert reader.get_entries(0, 99) == run(1, last)
        (path / name).unlink()
        with pytest.raises(CorruptionError, match="removed"):
            reader.refresh()


def replace_by_copies(path: Path) -> None:
    """Each file by one that holds the same, as rsync does."""
    for file in list(path.iterdir()):
        copy = file.with_suffix(".copy")
        shutil.copy2(file, copy)
        copy.rename(file)


def test_a_copy_whose_writer_rotates_with_its_first_batch_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(run(1, 10, payload=bytes(3000)))
    with Wal(path, read_only=True) as reader:
        replace_by_copies(path)
        with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
            wal.persist_entries(run(11, 24, payload=bytes(3000)))
            reader.refresh()
            assert reader.last_index() == 24
            wal.truncate(3)
            reader.refresh()
            assert state_of(reader) == state_of(wal)


def test_a_segment_that_was_mended_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Wal(path, segment_bytes=SEGMENT_BYTES) as wal:
        for index in range(1, 41):
            wal.persist_entries(run(index, index, payload=bytes(3000)))
    file, whole = path / f"{1:016x}.wal", tmp_path / "whole"
    shutil.copy2(file, whole)
    with file.open("r+b") as opened:
        opened.seek(FRAMES_OFFSET + 200)
        opened.write(b"?")
    with Wal(path, read_only=True) as reader:
        with pytest.raises(CorruptionError):
            reader.get_entries(1, 1)
        whole.rename(file)
        reader.refresh()
        assert reader.get_entries(1, 1) == run(1, 1, payload=bytes(3000))


@pytest.mark.parametrize("before_boundary", [88, 80, 72, 40, 8, 0])
def test_damage_is_seen_wherever_the_commit_lies_that_proves_it(
    tmp_path: Path, before_boundary: int
) -> None:
    """A refresh looks for such commits in steps of 64 KiB, and one is 80 bytes long."""
    path, killed = tmp_path / "log", tmp_path / "killed"
    with Wal(path) as wal:
        wal.persist_entries(run(1, 1))
        copy_beside_writer(path, killed)
        with Wal(killed, read_only=True) as reader:
            end = reader.core.segments()[-1].end
            wal.persist_entries(run(2, 2))
            commit = end + 65536 - before_boundary
            header_bytes = 40
            payload_bytes = commit - wal.core.segments()[-1].end - header_bytes
            wal.persist_entries(run(3, 3, payload=bytes(payload_bytes)))
            name = f"{1:016x}.wal"
            data = bytearray((path / name).read_bytes())
            data[end + 20] ^= 1  # in the header of entry 2's frame
            with (killed / name).open("r+b") as opened:
                opened.write(data)
            steps = (64 << 20) // (64 << 10)
            with pytest.raises(CorruptionError):  # noqa: PT012
                for _ in range(steps):
                    reader.refresh()


def test_a_durable_index_goes_on_and_back_as_the_log_proves(tmp_path: Path) -> None:
    """Each step: what is done, and what the reader may call durable then."""
    path = tmp_path / "log"
    with Wal(path, durability="manual") as wal, Wal(path, read_only=True) as reader:

        def proven() -> int:
            reader.refresh()
            return reader.durable_index()

        def flush_and_tell() -> None:
            """The next COMMIT says what the sync made durable."""
            wal.flush()
            wal.save_hard_state(HardState(1), sync=False)

        wal.persist_entries(run(1, 10))
        assert proven() == 0
        flush_and_tell()
        assert proven() == 10
        wal.persist_entries(run(11, 20))
        assert proven() == 10
        wal.truncate(16)
        assert proven() == 10
        wal.truncate(6)
        assert proven() == 5
        wal.persist_entries(run(6, 30, term=2))
        assert proven() == 5
        flush_and_tell()
        assert proven() == 30
        wal.purge(LogId(20, 2))
        assert proven() == 30
        wal.reset()
        wal.persist_entries(run(1, 8, term=3))
        assert proven() == 0
        flush_and_tell()
        assert proven() == 8
        wal.purge(LogId(50, 4))
        flush_and_tell()
        assert proven() == 50 == reader.last_index()


def test_a_reset_takes_back_the_boundary_that_a_header_proved(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Wal(path, durability="manual", segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(run(1, 100))
        wal.purge(LogId(100, 1))
        for index in range(101, 104):
            wal.persist_entries(run(index, index, payload=b"x" * 20_000))
        assert wal.core.segments()[-1].number == 2
        with Wal(path, read_only=True) as reader:
            assert reader.durable_index() >= 100
            wal.reset()
            wal.persist_entries(run(1, 60))
            wal.purge(LogId(50, 1))
            reader.refresh()
            # Nothing stored says yet that the purge is durable; 100 ms later something does.
            assert reader.durable_index() in (0, 60)
            wal.persist_entries(run(61, 200))
            wal.purge(LogId(150, 1))
            reader.refresh()
            assert reader.durable_index() in (60, 200)
            assert wal.core.segments()[-1].number == 2


def test_reads_of_other_threads_see_whole_states_while_one_refreshes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    wrong: list[object] = []
    done = threading.Event()

    def read(reader: Wal) -> None:
        while not done.is_set():
            try:
                first, last = reader.first_index(), reader.last_index()
                found = reader.get_entries(first, last)
                reader.term(last)
            except PurgedError:
                continue
            if not all(is_right(entry) for entry in found):
                wrong.append(found)

    wal = Wal(path, durability="manual", segment_bytes=SEGMENT_BYTES)
    with wal, Wal(path, read_only=True) as reader:
        threads = [threading.Thread(target=read, args=(reader,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        write_history(wal, random.randrange(2**32), 400, reader.refresh)
        done.set()
        for thread in threads:
            thread.join()
        assert not wrong
        assert state_of(reader) == state_of(wal)


# -- a writer that does everything ---------------------------------------------------------------

WRITER = """
import hashlib, random, sys
sys.path[:0] = sys.argv[1:3]
from history import entries_of, step
from stores import state_of
from pylogwal import HardState, Wal
size, spares, term = map(int, sys.argv[4:7])
wal = Wal(sys.argv[3], durability="manual", segment_bytes=size, spare_segments=spares)
random_ = random.Random(term)
print("open")
for line in sys.stdin:
    for _ in range(int(line)):
        term += 1
        choice = random_.randrange(60)
        if choice == 0:
            wal.reset()
        elif choice == 1 and wal.load_purge_boundary() is None:
            wal.truncate(wal.first_index())  # a blank log may begin anywhere
            wal.persist_entries(entries_of(random_.randrange(1, 99), 3, term))
        else:
            step(wal, random_, term)
    told = random_.random() < 0.5
    if told:
        wal.flush()
        wal.save_hard_state(HardState(term), sync=False)
    state = repr(state_of(wal)).encode()
    print(hashlib.sha256(state).hexdigest(), wal.durable_index() if told else -1)
wal.close()
print("closed")
"""


def digest(log: Wal) -> str:
    return hashlib.sha256(repr(state_of(log)).encode()).hexdigest()


class Readers:
    """One that refreshes after each round, one that does now and then."""

    def __init__(self, path: Path, random_: random.Random) -> None:
        self.path = path
        self.random = random_
        self.often = Wal(path, read_only=True)
        self.seldom = Wal(path, read_only=True)

    def check(self, expected: str, durable: int) -> None:
        readers = [self.often, *([self.seldom] if self.random.random() < 0.2 else [])]
        for reader in readers:
            reader.refresh()
            assert digest(reader) == expected
            assert durable < 0 or reader.durable_index() == durable
        with Wal(self.path, read_only=True) as fresh:
            assert digest(fresh) == expected
            assert fresh.durable_index() == self.often.durable_index()

    def tear(self) -> None:
        """Tears the last batch of a writer that was killed, if nothing knows it to be durable."""
        segment = self.often.core.segments()[-1]
        with (self.path / f"{segment.number:016x}.wal").open("r+b", buffering=0) as file:
            file.seek(segment.end - 8)
            before = file.read(8)
            file.seek(segment.end - 8)
            file.write(bytes(8))
            try:
                Wal(self.path, read_only=True).close()
            except CorruptionError:
                file.seek(segment.end - 8)
                file.write(before)
        with Wal(self.path, read_only=True) as fresh:
            self.check(digest(fresh), -1)

    def close(self) -> None:
        self.often.close()
        self.seldom.close()


def hold_refresh_beside_everything(path: Path, seed: int, lives: int) -> None:
    print("seed", seed)
    random_ = random.Random(seed)
    readers: Readers | None = None
    here = Path(__file__).parent
    for life in range(lives):
        size = random_.choice([SEGMENT_BYTES, 2 * SEGMENT_BYTES, 8 * SEGMENT_BYTES])
        arguments = (here, here.parent, path, size, random_.randrange(3), 100_000 * (life + 1))
        with Child(WRITER, *arguments) as child:
            assert child.line() == "open"
            readers = readers or Readers(path, random_)
            for _ in range(random_.randrange(1, 25)):
                child.tell(str(random_.choice([0, 1, 1, 2, 5, 40])))
                expected, durable = child.line().split()
                readers.check(expected, int(durable))
            if random_.random() < 0.3:
                child.stdin.close()
                assert child.line() == "closed"
                child.process.wait()
                readers.check(expected, -1)
            else:
                child.kill()
                if random_.random() < 0.5:
                    readers.tear()
    assert readers is not None
    readers.close()


def test_a_refresh_shows_what_a_fresh_open_shows_beside_a_writer_that_does_everything() -> None:
    with memory() as directory:
        hold_refresh_beside_everything(Path(directory, "log"), random.randrange(2**32), 8)


@pytest.mark.prove
@pytest.mark.parametrize("round_", range(8))
def test_a_refresh_beside_a_writer_that_does_everything_for_long(round_: int) -> None:
    with memory() as directory:
        hold_refresh_beside_everything(Path(directory, "log"), random.randrange(2**32), 40)
