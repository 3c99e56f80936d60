"""`term` and `wait_durable` read a frame's header, which has a check of its own, and no payload."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from decoder import ENTRY, FRAME_HEADER_SIZE, decode_segment, read_log_id
from processes import run_python
from stores import SEGMENT_BYTES, run

import pylogwal
from pylogwal import CorruptionError, Entry, LogId, PurgedError, Wal
from pylogwal.core import Core

SIZE = 9000
LAST = 10
"""Entries 1 to 6 fill the first segment, so that both kinds of segment hold some."""


def term_of(index: int) -> int:
    return 1 + index // 3


def entry_of(index: int) -> Entry:
    return Entry(index, term_of(index), b"%04d" % index * (SIZE // 4))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def wal(path: Path) -> Iterator[Wal]:
    """A sealed segment and a tail, durable."""
    with Wal(path, durability="manual", segment_bytes=SEGMENT_BYTES) as opened:
        for index in range(1, LAST + 1):
            opened.persist_entries([entry_of(index)])
        opened.flush()
        sealed, tail = opened.core.segments()
        assert sealed.sealed
        assert sealed.next_index > 5
        assert not tail.sealed
        assert tail.first_index < LAST - 1
        yield opened


def frame_of(path: Path, index: int) -> tuple[Path, int]:
    """The file and the offset where the frame of an entry begins."""
    log_id = read_log_id((path / "LOCK").read_bytes())
    assert log_id is not None
    for file in sorted(path.glob("*.wal")):
        data = file.read_bytes()
        if not any(data[:FRAME_HEADER_SIZE]):
            continue  # a successor
        for frame in decode_segment(data, log_id, int(file.stem, 16)).frames:
            if frame.type == ENTRY and frame.index == index:
                return file, frame.offset
    raise AssertionError(f"no entry {index}")


def flip(file: Path, offset: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(offset)
        byte = opened.read(1)[0]
        opened.seek(offset)
        opened.write(bytes([byte ^ 0x40]))


def in_each_way(wal: Wal, index: int) -> list[Callable[[], int | None]]:
    """The term, by way of csrc/python and by way of cffi."""
    return [lambda: wal.term(index), lambda: Core.term(wal.core, index)]


@pytest.mark.parametrize("index", [2, 9], ids=["sealed", "tail"])
def test_a_damaged_payload_fails_the_entry_and_not_its_term(
    path: Path, wal: Wal, index: int
) -> None:
    file, at = frame_of(path, index)
    flip(file, at + FRAME_HEADER_SIZE + SIZE - 1)
    with pytest.raises(CorruptionError):
        wal.entry(index)
    for term in in_each_way(wal, index):
        assert term() == term_of(index)
    wal.wait_durable(index)


def test_a_damaged_payload_does_not_fail_who_waits_for_its_entry(path: Path) -> None:
    async def wait() -> None:
        async with pylogwal.open(path, durability="manual") as store:
            await store.persist_entries([entry_of(index) for index in range(1, 4)])
            file, at = frame_of(path, 2)
            flip(file, at + FRAME_HEADER_SIZE)
            await store.wait_durable(2)  # syncs, and then looks whether it is still the same
            assert store.durable_index() == 3
            assert store.term(2) == term_of(2)

    asyncio.run(wait())


@pytest.mark.parametrize("index", [2, 9], ids=["sealed", "tail"])
def test_a_damaged_header_fails_the_term(path: Path, wal: Wal, index: int) -> None:
    file, at = frame_of(path, index)
    for byte in range(FRAME_HEADER_SIZE):
        flip(file, at + byte)
        for term in [*in_each_way(wal, index), lambda: wal.wait_durable(index)]:
            with pytest.raises(CorruptionError) as raised:
                term()
            assert (raised.value.file, raised.value.offset) == (file.name, at)
            assert (raised.value.first_index, raised.value.last_index) == (index, index)
        flip(file, at + byte)
    assert wal.term(index) == term_of(index)


def test_a_damaged_offset_index_fails_the_terms_of_its_segment_only(path: Path, wal: Wal) -> None:
    sealed = wal.core.segments()[0]
    file = path / sealed.file
    flip(file, sealed.size - 4096 - 1)
    # The writer has checked what it stored itself.
    with Wal(path, read_only=True) as reader:
        for index in range(1, sealed.next_index):
            for term in in_each_way(reader, index):
                with pytest.raises(CorruptionError, match="offset index") as raised:
                    term()
                assert (raised.value.file, raised.value.index) == (file.name, index)
        for index in range(sealed.next_index, LAST + 1):
            assert reader.term(index) == term_of(index)


START = """
import asyncio, os, sys
from pathlib import Path
import pylogwal
from pylogwal import CorruptionError, Entry, Wal, WalError
path = Path(sys.argv[1])
wal = Wal(path, durability="manual", segment_bytes=65536)
"""

CUT_PAYLOAD = """
sizes = (100, 40000, 1, 0)
wal.persist_entries([Entry(i, i, bytes(size)) for i, size in enumerate(sizes, 1)])
wal.flush()
os.truncate(path / "0000000000000001.wal", 12288)  # in the payload of entry 2
try:
    wal.entry(2)
except WalError:
    pass
else:
    raise SystemExit("the payload is still there")
assert [wal.term(i) for i in (1, 2, 4)] == [1, 2, 4]
wal.wait_durable(2)
for _ in range(3):
    try:
        wal.term(3)
    except WalError as error:
        assert error.file == "0000000000000001.wal", error
        assert error.index == 3, error
        assert error.errno, error
    else:
        raise SystemExit("the header is still there")
assert wal.term(2) == 2
os._exit(0)  # to close it is an error, and no matter here
"""

CUT_SEALED = """
for i in range(1, 11):
    wal.persist_entries([Entry(i, i, b"a" * 9000)])
wal.flush()
sealed = wal.core.segments()[0]
assert sealed.sealed and sealed.next_index > 3
assert wal.term(1) == 1
os.truncate(path / sealed.file, 12288)
for index in range(1, sealed.next_index):  # where its header is, stands at the end of the file
    try:
        wal.term(index)
    except WalError as error:
        assert (error.file, error.index) == (sealed.file, index), error
        assert error.errno, error
    else:
        raise SystemExit("the offset index is still there")
assert wal.term(sealed.next_index) == sealed.next_index
wal.close()
"""


def test_no_page_of_a_payload_is_touched(tmp_path: Path) -> None:
    run_python(START + CUT_PAYLOAD, tmp_path / "log")


def test_a_file_cut_beneath_is_an_error_of_its_terms_that_names_it(tmp_path: Path) -> None:
    run_python(START + CUT_SEALED, tmp_path / "log")


def test_a_reader_of_recycled_segments_is_told_so_when_it_asks_for_a_term(tmp_path: Path) -> None:
    big = b"x" * 90_000
    with Wal(tmp_path / "log", segment_bytes=1 << 20) as wal:
        wal.persist_entries(run(1, 2, payload=big))
        reader = Wal(tmp_path / "log", read_only=True)
        told: list[PurgedError] = []
        for index in range(3, 60):
            wal.persist_entries(run(index, index, payload=big))
            if wal.stats().segments > 1:
                wal.purge(LogId(index - 1, 1))
            for term in in_each_way(reader, 1):
                try:
                    assert term() == 1
                except PurgedError as error:
                    told.append(error)
        assert len(told) > 1
        assert "refresh" in str(told[-1])
        assert told[-1].index == 1
        assert reader.term(2) == 1  # its last one, which it knows
        reader.refresh()
        assert reader.term(1) is None
        reader.close()


class Index(int):
    """No log needs to know such a type."""


def test_an_index_of_any_int_type_has_the_same_term(wal: Wal) -> None:
    outside = (-1, -(2**64), LAST + 1, 2**64 - 2, 2**64 - 1, 2**64, 2**200)
    for index, term in [(0, 0), (2, 1), (9, 4), (LAST, 4), *((index, None) for index in outside)]:
        for kind in (int, Index):
            assert wal.term(kind(index)) == term
            assert Core.term(wal.core, kind(index)) == term
    wal.close()
    for index in (0, 2, LAST, *outside):
        with pytest.raises(pylogwal.ClosedError):
            wal.term(index)
        with pytest.raises(pylogwal.ClosedError):
            wal.term(Index(index))


def test_the_positions_are_the_same_by_way_of_cffi(wal: Wal) -> None:
    wal.persist_entries([entry_of(LAST + 1)])
    wal.purge(LogId(3, term_of(3)))
    wal.persist_entries([entry_of(LAST + 2)])
    for core in (wal.core, Core):
        handle = () if core is wal.core else (wal.core,)
        positions = [
            core.first_index(*handle),
            core.durable_index(*handle),
            core.last_index(*handle),
        ]  # type: ignore[arg-type]
        assert positions == [4, LAST + 1, LAST + 2]


@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="a sanitizer makes some calls slower")
def test_positions_and_terms_cost_about_what_the_last_index_costs(wal: Wal) -> None:
    """Three times at most; six here, as others use the machine, where cffi took nine or more."""

    def best(call: Callable[..., object], *arguments: int) -> float:
        start = time.perf_counter()
        for _ in range(200):
            call(*arguments)
        return time.perf_counter() - start

    store = pylogwal.WalLogStore(wal)
    calls = [
        (call, arguments)
        for log in (wal, store)
        for call, *arguments in (
            (log.last_index,),
            (log.first_index,),
            (log.durable_index,),
            (log.term, 2),
            (log.term, 9),
        )
    ]
    times = [float("inf")] * len(calls)
    for _ in range(200):
        for place, (call, arguments) in enumerate(calls):
            times[place] = min(times[place], best(call, *arguments))
    print([f"{time_ / times[0]:.2f}" for time_ in times])
    assert max(times) <= 6 * times[0]


def test_the_term_of_a_large_entry_costs_what_that_of_a_small_one_costs(tmp_path: Path) -> None:
    with Wal(tmp_path / "log", durability="manual") as wal:
        for index in range(1, 5):
            wal.persist_entries([Entry(index, index, bytes((0, 16 << 20)[index % 2]))])
        wal.flush()
        for call in (wal.term, wal.wait_durable):
            small = large = float("inf")
            for _ in range(50):
                start = time.perf_counter()
                call(2)
                middle = time.perf_counter()
                call(3)
                small = min(small, middle - start)
                large = min(large, time.perf_counter() - middle)
            assert large <= 20 * small  # where the payload is read, 500 times
