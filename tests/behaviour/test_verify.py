"""`Wal.verify`: the iterator, its progress, its end, and whom it disturbs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import processes
import pytest
from stores import flip, run

import pylogwal
from pylogwal import ClosedError, Finding, FindingKind, LogId, VerifyProgress, Wal, WalError
from pylogwal.verification import Verification

SEGMENT_BYTES = 65536
FRAMES = 8192


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Entries 101..1000 in five segments or so."""
    directory = tmp_path / "log"
    with Wal(directory, segment_bytes=SEGMENT_BYTES) as wal:
        write(wal, 1, 1000)
        wal.purge(LogId(100, 1))
    return directory


def write(wal: Wal, first: int, last: int) -> None:
    for index in range(first, last, 50):
        wal.persist_entries(run(index, index + 49, payload=b"p" * 200))


def segments_of(log: Path) -> list[Path]:
    with Wal(log, read_only=True) as wal:
        return [log / info.file for info in wal.core.segments()]


def flip_an_entry_of_each(log: Path) -> list[int]:
    """Damages the first entry of each segment; their numbers, oldest first."""
    paths = segments_of(log)
    for path in paths:
        flip(path, FRAMES + 100)
    return [int(path.stem, 16) for path in paths]


@pytest.mark.parametrize("read_only", [False, True], ids=["writable", "read_only"])
def test_a_whole_log_gives_nothing_on_every_handle(log: Path, read_only: bool) -> None:
    before = {path.name: path.read_bytes() for path in log.iterdir()}
    with Wal(log, segment_bytes=SEGMENT_BYTES, read_only=read_only) as wal:
        verification = wal.verify()
        assert isinstance(verification, pylogwal.Verification)
        assert list(verification) == []
        last = verification.progress
        assert (last.first_index, last.last_index, last.entries) == (101, 1000, 900)
        assert last.bytes == last.total_bytes > 900 * 200
        assert last.segments == len(wal.core.segments())
    if read_only:
        assert {path.name: path.read_bytes() for path in log.iterdir()} == before


def test_a_blank_log_gives_nothing(tmp_path: Path) -> None:
    with Wal(tmp_path / "log") as wal:
        verification = wal.verify()
        assert list(verification) == []
        last = verification.progress
        assert (last.first_index, last.last_index, last.entries) == (1, 0, 0)


def test_findings_come_oldest_first_and_go_on_behind_each(log: Path) -> None:
    numbers = flip_an_entry_of_each(log)
    assert len(numbers) > 3
    with Wal(log, read_only=True) as wal:
        found = list(wal.verify())
    assert [finding.segment for finding in found] == numbers
    assert {finding.kind for finding in found} == {FindingKind.FRAME}
    assert all(finding.offset == FRAMES for finding in found[1:])
    assert [finding.needed for finding in found] == [False] + [True] * (len(found) - 1)  # purged


def test_findings_come_in_log_order_also_in_a_log_that_is_open(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Wal(log, segment_bytes=SEGMENT_BYTES) as wal:
        write(wal, 1, 1000)
        paths = segments_of(log)
        damaged = [paths[0], paths[len(paths) // 2], paths[-2]]
        for path in damaged:
            flip(path, FRAMES + 500)
        found = list(wal.verify())
    assert [finding.file for finding in found] == [path.name for path in damaged]
    indices = [finding.first_index or 0 for finding in found]
    assert indices == sorted(indices)


def test_a_segment_without_a_footer_is_told_in_its_turn(log: Path) -> None:
    """Which entries it holds only its frames say."""
    paths = segments_of(log)
    with paths[2].open("r+b") as file:
        file.seek(SEGMENT_BYTES - 4096)
        file.write(bytes(4096))
    for path in paths[1:4]:
        flip(path, FRAMES + 100)
    verification = Verification(str(log))
    found = list(verification)
    assert [(finding.file, finding.kind) for finding in found] == [
        (paths[1].name, FindingKind.FRAME),
        (paths[2].name, FindingKind.FRAME),
        (paths[2].name, FindingKind.FOOTER),
        (paths[3].name, FindingKind.FRAME),
    ]
    footer = found[2]
    assert footer.last_index is not None
    assert (found[2].first_index, found[3].first_index) == (
        found[1].first_index,
        footer.last_index + 1,
    )


def test_it_may_end_after_the_oldest_segment(log: Path) -> None:
    numbers = flip_an_entry_of_each(log)

    def stop(now: VerifyProgress) -> None:
        if now.bytes > 0:
            verification.stop()

    verification = Verification(str(log), progress=stop)
    assert [finding.segment for finding in verification] == numbers[:1]
    assert 0 < verification.progress.bytes <= SEGMENT_BYTES
    assert verification.progress.total_bytes > 900 * 200


def test_progress_only_grows_and_is_told_before_each_finding(log: Path) -> None:
    numbers = flip_an_entry_of_each(log)
    told: list[VerifyProgress] = []
    at_finding = []
    with Wal(log, read_only=True) as wal:
        verification = wal.verify(progress=told.append)
        for _ in verification:
            at_finding.append(len(told))
            assert verification.progress == told[-1]
    assert len(at_finding) == len(numbers)
    assert at_finding == sorted(set(at_finding))
    assert [now.bytes for now in told] == sorted(now.bytes for now in told)
    assert all(now.bytes <= now.total_bytes for now in told if now.total_bytes)
    assert told[-1].entries == 900 - len(numbers) + 1  # one was purged
    assert told[-1].bytes == told[-1].total_bytes


def test_it_may_be_closed_at_any_time_also_by_the_callback(log: Path) -> None:
    numbers = flip_an_entry_of_each(log)
    with Wal(log, read_only=True) as wal:
        with wal.verify() as verification:
            next(verification)
        assert list(verification) == []
        verification.close()

        found: list[Finding] = []
        closing = wal.verify(progress=lambda _: closing.close() if found else None)
        found.extend([next(closing)])
        found.extend(closing)
        assert 1 <= len(found) <= 2 < len(numbers)


def test_a_verification_that_is_stopped_gives_what_it_has_found(tmp_path: Path) -> None:
    """The damage stands at the beginning of a segment that takes several steps."""
    log = tmp_path / "log"
    with Wal(log, segment_bytes=32 << 20, durability="manual") as wal:
        for index in range(1, 120):
            wal.persist_entries(run(index, index, payload=bytes(1 << 18)))
            wal.flush()
    flip(log / "0000000000000001.wal", FRAMES + 500)
    told = []

    def stop(now: VerifyProgress) -> None:
        told.append(now)
        if now.bytes > 6 << 20:
            stopped.stop()

    stopped = Verification(str(log), progress=stop)
    found = list(stopped)
    assert [(finding.offset, finding.first_index, finding.needed) for finding in found] == [
        (FRAMES + 56, 1, True)  # behind the EPOCH
    ]
    assert told[-1].bytes < told[-1].total_bytes
    assert told[-1].entries == 0


def test_a_callback_that_raises_loses_no_finding(log: Path) -> None:
    numbers = flip_an_entry_of_each(log)

    def fail(_: VerifyProgress) -> None:
        raise ValueError

    with Wal(log, read_only=True) as wal:
        verification = wal.verify(progress=fail)
        found: list[Finding] = []
        for _ in range(1000):
            try:
                found.append(next(verification))
            except ValueError:
                continue
            except StopIteration:
                break
    assert [finding.segment for finding in found] == numbers


def test_closing_the_handle_ends_it(log: Path) -> None:
    flip_an_entry_of_each(log)
    wal = Wal(log, read_only=True)
    verification = wal.verify()
    next(verification)
    wal.close()
    with pytest.raises(ClosedError):
        list(verification)
    with pytest.raises(ClosedError):
        wal.verify()
    assert list(verification) == []


def test_it_holds_nothing_when_it_is_dropped_or_done(log: Path) -> None:
    flip_an_entry_of_each(log)
    before = processes.descriptors()
    with Wal(log, read_only=True) as wal:
        mapped = len(processes.mapped_files(log))
        for _ in range(3):
            next(wal.verify())
            list(wal.verify())
        assert len(processes.mapped_files(log)) == mapped
    assert processes.descriptors() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_is_refused(log: Path) -> None:
    flip_an_entry_of_each(log)
    with Wal(log, read_only=True) as wal:
        verification = wal.verify()
        next(verification)
        child = os.fork()
        if child == 0:
            try:
                next(verification)
                os._exit(1)
            except WalError:
                os._exit(0)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(list(verification)) > 1


def test_a_file_that_is_cut_while_it_is_read_ends_nothing(tmp_path: Path) -> None:
    """A touch behind the end of a mapped file is a SIGBUS."""
    log = tmp_path / "log"
    with Wal(log, segment_bytes=32 << 20, durability="manual") as wal:
        for first in range(1, 60):
            wal.persist_entries(run(first, first, payload=bytes(1 << 18)))
    (tail,) = [path for path in log.iterdir() if path.name == "0000000000000001.wal"]

    def cut(now: VerifyProgress) -> None:
        if now.bytes > 4 << 20:
            os.truncate(tail, 1 << 20)

    found = list(Verification(str(log), progress=cut))
    assert [(finding.file, finding.kind) for finding in found] == [
        (tail.name, FindingKind.SHORT_FILE)
    ]


@pytest.mark.parametrize("segment_bytes", [SEGMENT_BYTES, 16 << 20])
@pytest.mark.parametrize("durability", ["manual", "batch"])
def test_beside_a_writer_that_rotates_and_purges_it_finds_nothing(
    durability: str, segment_bytes: int
) -> None:
    with (
        processes.memory() as memory,  # where syncs are quick, the log changes most
        Wal(Path(memory, "log"), segment_bytes=segment_bytes, durability=durability) as wal,
    ):
        done = threading.Event()

        def write() -> None:
            index = 1
            while not done.is_set():
                wal.persist_entries(run(index, index + 19, payload=b"w" * 300))
                if index % 100 == 1:
                    wal.truncate(index + 15)
                    wal.persist_entries(run(index + 15, index + 19, 1, payload=b"r" * 250))
                index += 20
                if index % 400 == 1:
                    wal.purge(LogId(index - 200, 1))

        wal.persist_entries(run(1, 20, payload=b"w" * 300))
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(100):
                assert list(wal.verify()) == []
        finally:
            done.set()
            writer.join()


def purge_ahead(wal: Wal, log: Path, purged: list[int]) -> None:
    """Purges so that the oldest file, and perhaps more, goes; the writer goes on writing."""
    before = {path.name for path in log.glob("*.wal")}
    last = wal.last_index()
    wal.persist_entries(run(last + 1, last + 20, payload=b"w" * 200))
    wal.purge(LogId(wal.first_index() + 300, 1))
    wal.flush()
    assert min(before) not in {path.name for path in log.glob("*.wal")}
    purged.append(wal.first_index())


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_purge_that_goes_on_does_not_hold_it_up(tmp_path: Path, every: int) -> None:
    """Each purge takes away the segment that is next: verification goes on behind it."""
    log = tmp_path / "log"
    with Wal(log, segment_bytes=SEGMENT_BYTES, durability="manual") as wal:
        write(wal, 1, 40_000)
        segments = len(wal.core.segments())
        purged: list[int] = []
        steps: list[VerifyProgress] = []

        def progress(now: VerifyProgress) -> None:
            steps.append(now)
            if now.segments > 3 and len(steps) % every == 0 and wal.first_index() < 39_000:
                purge_ahead(wal, log, purged)

        assert list(wal.verify(progress=progress)) == []
        assert len(purged) > 20
        assert 0 < steps[-1].segments < segments
        assert steps[-1].bytes == steps[-1].total_bytes
        assert steps[-1].entries < steps[-1].last_index - steps[-1].first_index + 1 <= 40_000
        # A survey takes a step a segment, as the reading of one does.
        assert len(steps) < 8 * segments


def test_a_segment_that_is_removed_meanwhile_is_missing(log: Path) -> None:
    """It is gone like a purged one, but the log still counts its entries."""
    paths = segments_of(log)

    def remove(now: VerifyProgress) -> None:
        if now.bytes > 0:
            paths[2].unlink(missing_ok=True)

    flip(paths[1], FRAMES + 100)
    flip(paths[3], FRAMES + 100)
    verification = Verification(str(log), progress=remove)
    found = list(verification)
    assert [(finding.file, finding.kind) for finding in found] == [
        (paths[1].name, FindingKind.FRAME),
        (paths[3].name, FindingKind.FRAME),
        (paths[2].name, FindingKind.MISSING_SEGMENT),
    ]
    missing = found[-1]
    assert missing.first_index is not None
    assert missing.last_index is not None
    lost = missing.last_index - missing.first_index + 1
    assert verification.progress.entries == 900 - 2 - lost


def test_beside_a_writer_that_purges_all_the_time_it_comes_to_an_end() -> None:
    with (
        processes.memory() as memory,
        Wal(Path(memory, "log"), segment_bytes=SEGMENT_BYTES, durability="manual") as wal,
    ):
        write(wal, 1, 20_000)
        done = threading.Event()

        def purge() -> None:
            while not done.is_set():
                last = wal.last_index()
                wal.persist_entries(run(last + 1, last + 200, payload=b"w" * 300))
                wal.purge(LogId(wal.first_index() + 199, 1))

        writer = threading.Thread(target=purge)
        writer.start()
        try:
            for _ in range(20):
                assert list(wal.verify()) == []
        finally:
            done.set()
            writer.join()
