"""docs/format.md, its decoder and encoder, and the library: each is held against the others.

The hand-built logs (`SOUND`, `DAMAGED`) come from the encoder and need no library; the decoder
reads them first, then the library does. The written logs (`WRITTEN`) come from the library, with
MemoryLogStore saying what should be in them.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from crc32c import crc32c
from decoder import (
    ENTRY,
    EPOCH,
    FRAMES_OFFSET,
    HARD_STATE,
    PAGE_SIZE,
    PURGE,
    RESET,
    TRUNCATE,
    Batch,
    CorruptLogError,
    Entry,
    HardState,
    Log,
    LogId,
    NewerVersionError,
    Position,
    Replay,
    Segment,
    State,
    decode_segment,
    read_log,
    read_log_id,
)
from encoder import SegmentBuilder, build_commit, build_lock, file_name, rechecked

if TYPE_CHECKING:
    from pylogwal import Wal

LOG_ID = bytes(range(16))
OTHER_LOG_ID = bytes(range(16, 32))
SEGMENT_SIZE = 65536
NONCES = (0x1111, 2**64 - 1, 0x3333_0000_3333, 0)
TOP_TERM = 2**64 - 1
TOP_INDEX = 2**64 - 2

Files = dict[str, bytes]


class Content(NamedTuple):
    """All that a log holds."""

    state: State
    entries: list[Entry]


class Sound(NamedTuple):
    files: Files
    content: Content
    end: Position
    closed: bool = False


def files_of(*segments: SegmentBuilder, successor: bool = True) -> Files:
    files = {file_name(segment.number): segment.image() for segment in segments}
    if successor:
        files[file_name(segments[-1].number + 1)] = bytes(SEGMENT_SIZE)
    return {"LOCK": build_lock(LOG_ID), **files}


def sound(*segments: SegmentBuilder, closed: bool = False, successor: bool = True) -> Sound:
    """The log that ends with the last committed batch of the last segment."""
    last = segments[-1]
    end = Position(last.number, last.batch_start)
    return Sound(files_of(*segments, successor=successor), Content(*last.committed), end, closed)


def with_file(found: Sound, name: str, data: bytes) -> Sound:
    return found._replace(files={**found.files, name: data})


def with_image(found: Sound, segment: SegmentBuilder) -> Sound:
    return with_file(found, file_name(segment.number), segment.image())


def without(found: Sound, name: str) -> Sound:
    return found._replace(files={n: data for n, data in found.files.items() if n != name})


def damaged(found: Sound, name: str, offset: int) -> Sound:
    """One bit of that byte is not what it was."""
    data = bytearray(found.files[name])
    data[offset] ^= 4
    return with_file(found, name, bytes(data))


def put(directory: Path, files: Files) -> Path:
    directory.mkdir()
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


def run(first: int, last: int, term: int = 1, size: int = 0) -> list[Entry]:
    """Entries first..last of one term, each with a payload of its own, of at least that size."""
    return [
        Entry(index, term, (b"%d in term %d" % (index, term)).ljust(size, b"."), index % 256)
        for index in range(first, last + 1)
    ]


def blank() -> Sound:
    return sound(SegmentBuilder(LOG_ID))


def named_but_not_begun() -> Sound:
    files = {"LOCK": build_lock(LOG_ID), file_name(1): bytes(SEGMENT_SIZE)}
    return Sound(files, Content(State(), []), Position(0, 0))


def one_batch() -> SegmentBuilder:
    segment = SegmentBuilder(LOG_ID)
    segment.epoch(bytes(range(16)))
    segment.batch(*run(1, 3))
    return segment


def three_batches() -> SegmentBuilder:
    segment = one_batch()
    segment.batch(*run(4, 4, 2))
    segment.batch(*run(5, 6, 2))
    return segment


def commits_alone() -> Sound:
    """Batches without a record, as one that an idle log appends to store what is durable."""
    segment = one_batch()
    segment.commit()
    segment.commit()
    segment.batch(*run(4, 5, 2))
    segment.commit()
    segments = [segment, segment.successor(nonce=NONCES[1])]
    segments[1].epoch(bytes(16))
    segments[1].commit()
    segments[1].batch(*run(6, 6, 2))
    segments[1].commit()
    return sound(*segments)


def limits() -> Sound:
    segment = SegmentBuilder(LOG_ID, nonce=2**64 - 1)
    segment.batch(Entry(TOP_INDEX - 1, 0, b"", 255), Entry(TOP_INDEX, TOP_TERM, bytes(20_000), 0))
    segment.hard_state(HardState(TOP_TERM, "v" * 255, TOP_TERM, bytes(2048)))
    segment.commit()
    return sound(segment)


def every_record() -> SegmentBuilder:
    segment = one_batch()
    segment.hard_state(HardState(7, None, 2, b"extra"))
    segment.commit()
    segment.truncate(3)
    segment.entry(3, 2, b"replaces", 1)
    segment.entry(4, 2)
    segment.hard_state(HardState(3, "", 0, b""))
    segment.commit()
    segment.purge(2, 1)
    segment.commit()
    segment.truncate(4)
    segment.commit()
    return segment


def begins_anywhere() -> Sound:
    segment = SegmentBuilder(LOG_ID)
    segment.batch(*run(1000, 1003))
    segment.purge(999, 1)
    segment.commit()
    return sound(segment)


def all_truncated() -> Sound:
    segment = SegmentBuilder(LOG_ID)
    segment.batch(*run(10, 13, 5))
    segment.truncate(10)
    segment.commit()
    segment.batch(*run(3, 4, 1))
    return sound(segment)


def purged_beyond_the_end() -> Sound:
    segment = one_batch()
    segment.purge(100, 9, whole=True)
    segment.commit()
    segment.batch(*run(101, 102, 9))
    return sound(segment)


def reset_and_begun_again() -> Sound:
    segment = every_record()
    segment.reset()
    segment.commit()
    segment.batch(*run(50, 51))
    return sound(segment)


def closed() -> Sound:
    segment = every_record()
    segment.batch(*run(4, 9, 8))
    segment.close()
    return sound(segment, closed=True)


def rolled(count: int) -> list[SegmentBuilder]:
    """Segments of 20 entries each, in two batches, of the segment's number as their term."""
    segments = [SegmentBuilder(LOG_ID, nonce=NONCES[0])]
    while True:
        segment = segments[-1]
        first = segment.state.next
        segment.batch(*run(first, first + 9, segment.number))
        segment.batch(*run(first + 10, first + 19, segment.number))
        if len(segments) == count:
            return segments
        segments.append(segment.successor(nonce=NONCES[segment.number]))


def replaced_across_segments() -> Sound:
    segments = rolled(3)
    segments[-1].truncate(25)
    segments[-1].batch(*run(25, 30, 9))
    segments.append(segments[-1].successor(nonce=4))
    segments[-1].truncate(7)
    segments[-1].batch(*run(7, 8, 10))
    segments.append(segments[-1].successor(nonce=5))
    segments[-1].batch(*run(9, 10, 10))
    return sound(*segments)


def truncated_into_an_older_segment() -> Sound:
    segments = rolled(2)
    segments[-1].truncate(11)
    segments[-1].commit()
    segments[-1].batch(*run(11, 12, 1))
    return sound(*segments)


def purged_with_files_gone() -> Sound:
    segments = rolled(3)
    segments[-1].purge(45, 3)
    segments[-1].commit()
    return sound(segments[-1])


def purged_with_one_file_gone() -> Sound:
    segments = rolled(3)
    segments[-1].purge(30, 2)
    segments[-1].commit()
    return without(sound(*segments), file_name(1))


def purged_with_leftovers() -> Sound:
    segments = rolled(3)
    segments[-1].purge(45, 3)
    segments[-1].commit()
    return damaged(sound(*segments), file_name(1), 9000)


def reset_in_a_younger_segment() -> Sound:
    segments = rolled(3)
    segments[-1].reset()
    segments[-1].batch(*run(5, 6))
    return sound(*segments)


def sealed_but_not_followed() -> Sound:
    segments = rolled(2)
    segments[-1].seal()
    return sound(*segments)


def closed_after_a_roll() -> Sound:
    segments = rolled(3)
    segments[-1].close()
    return sound(*segments, closed=True)


def torn_within_a_batch() -> Sound:
    segment = one_batch()
    segment.entry(*run(4, 4)[0])
    return sound(segment)


def torn_within_a_frame() -> Sound:
    found = torn_within_a_batch()
    return damaged(found, file_name(1), found.end.offset + 44)


def torn_with_its_commit_left() -> Sound:
    segment = one_batch()
    found = sound(segment)
    segment.batch(*run(4, 5))
    return damaged(with_image(found, segment), file_name(1), found.end.offset + 40)


def torn_over_several_batches() -> Sound:
    segment = one_batch()
    found = sound(segment)
    segment.batch(*run(4, 5))
    segment.batch(*run(6, 7), watermark=found.end)
    return damaged(with_image(found, segment), file_name(1), found.end.offset)


def torn_with_a_commit_in_a_payload() -> Sound:
    """A payload that holds a real COMMIT of this segment, which knew more than is left."""
    segment = three_batches()
    commit = bytes(segment.frames[-80:])
    segment = one_batch()
    segment.entry(4, 1, commit)
    return sound(segment)


def torn_with_a_commit_at_an_odd_offset() -> Sound:
    """It says where it is, and knows much; but no frame starts there."""
    segment = one_batch()
    offset = segment.offset + 44
    watermark = (1, SEGMENT_SIZE)
    commit = build_commit(
        segment.identity, 0, offset=offset, start=8192, next_index=9, watermark=watermark
    )
    segment.entry(4, 1, bytes(4) + commit)
    return sound(segment)


def torn_behind_a_close_mark() -> Sound:
    segment = one_batch()
    segment.close()
    segment.epoch(bytes(16))
    return damaged(sound(segment, closed=True), file_name(1), segment.offset - 1)


def more_behind_a_close_mark() -> Sound:
    segment = one_batch()
    segment.close()
    segment.epoch(bytes(16))
    segment.batch(*run(4, 5))
    return sound(segment)


def without_a_log_id_in_lock() -> Sound:
    return with_file(sound(*rolled(2)), "LOCK", b"")


def longer_than_its_header_says() -> Sound:
    found = sound(*rolled(2))
    files = {name: data + bytes(8192) for name, data in found.files.items() if name != "LOCK"}
    return found._replace(files={**found.files, **files})


def with_files_that_are_not_the_logs() -> Sound:
    found = sound(one_batch())
    extra = {"0000000000000007.spare": b"\xff" * 9000, "notes.txt": b"mine", "1.wal": b"mine too"}
    return found._replace(files={**found.files, **extra})


def recycled_with_stale_frames() -> Sound:
    """A file that was another segment before: its old frames still stand behind the new ones."""
    old = SegmentBuilder(LOG_ID, number=1, nonce=77)
    old.batch(*run(1, 200, size=100))
    old.seal()
    segments = rolled(2)
    new = segments[-1].image()
    end = segments[-1].offset
    found = sound(*segments, successor=False)
    return with_file(found, file_name(2), new[:end] + old.image()[end:])


def not_counted(change: Callable[[SegmentBuilder], None]) -> Sound:
    """One batch that counts, and behind it one that does not, though every check verifies."""
    segment = one_batch()
    found = sound(segment)
    change(segment)
    segment.commit(next_index=segment.state.next)
    return with_image(found, segment)


def frame(segment: SegmentBuilder, leads_to: int = 4, **fields: Any) -> None:
    """A frame that nothing but its own rule keeps from counting."""
    segment.frame(**fields)
    segment.state = replace(segment.state, next=leads_to)


def index_0_in_a_blank_log() -> Sound:
    segment = SegmentBuilder(LOG_ID)
    found = sound(segment)
    segment.frame(ENTRY, index=0, term=1)
    segment.commit(next_index=1)
    return with_image(found, segment)


def wrong_next_index(segment: SegmentBuilder) -> None:
    segment.frame(ENTRY, index=4, term=1)


def wrong_start(segment: SegmentBuilder) -> None:
    segment.entry(4, 1)
    segment.batch_start -= 8


def names_a_batch_before(segment: SegmentBuilder) -> None:
    segment.entry(4, 1)
    segment.batch_start = FRAMES_OFFSET


def entry_before_truncate(segment: SegmentBuilder) -> None:
    segment.entry(4, 1)
    segment.truncate(4)


def hard_state_before_entry(segment: SegmentBuilder) -> None:
    segment.hard_state(HardState(1))
    segment.entry(4, 1)


def two_controls(segment: SegmentBuilder) -> None:
    segment.purge(1, 1)
    segment.truncate(3)


def epoch_not_first(segment: SegmentBuilder) -> None:
    segment.entry(4, 1)
    segment.epoch(bytes(16))


NOT_COUNTED: dict[str, Callable[[SegmentBuilder], None]] = {
    "wrong_next_index": wrong_next_index,
    "wrong_start": wrong_start,
    "names_a_batch_before": names_a_batch_before,
    "gap": lambda segment: segment.entry(5, 1),
    "repeated": lambda segment: segment.entry(3, 1),
    "lower_term": lambda segment: segment.entry(4, 0),
    "truncate_beyond_the_end": partial(frame, frame_type=TRUNCATE, index=4, term=1),
    "truncate_before_the_first": partial(frame, frame_type=TRUNCATE, index=0),
    "purge_beyond_the_end": partial(frame, frame_type=PURGE, index=4, term=1),
    "entry_before_truncate": entry_before_truncate,
    "hard_state_before_entry": hard_state_before_entry,
    "two_controls": two_controls,
    "epoch_not_first": epoch_not_first,
    "index_0": partial(frame, frame_type=ENTRY, index=0, term=1),
    "type_0": partial(frame, frame_type=0),
    "type_8": partial(frame, frame_type=8),
    "zeros_that_are_none": partial(
        frame, frame_type=EPOCH, payload=bytes(16), zero=b"\0\0\0\0\0\1"
    ),
    "truncate_with_payload": partial(
        frame, leads_to=3, frame_type=TRUNCATE, index=3, term=1, payload=b"12345678"
    ),
    "reset_with_index": partial(frame, leads_to=1, frame_type=RESET, index=1),
    "epoch_too_short": partial(frame, frame_type=EPOCH, payload=bytes(8)),
    "vote_without_kind": partial(frame, frame_type=HARD_STATE, payload=b"\1\0a"),
    "vote_beyond_payload": partial(frame, frame_type=HARD_STATE, kind=1, payload=b"\5\0abcd"),
    "vote_size_missing": partial(frame, frame_type=HARD_STATE, payload=b"\0"),
    "extra_too_long": partial(frame, frame_type=HARD_STATE, payload=bytes(2 + 2049)),
}

SOUND: dict[str, Callable[[], Sound]] = {
    "blank": blank,
    "named_but_not_begun": named_but_not_begun,
    "one_batch": lambda: sound(one_batch()),
    "three_batches": lambda: sound(three_batches()),
    "no_successor_yet": lambda: sound(three_batches(), successor=False),
    "limits": limits,
    "every_record": lambda: sound(every_record()),
    "rolled": lambda: sound(*rolled(4)),
    **{
        build.__name__: build
        for build in (
            commits_alone,
            begins_anywhere,
            all_truncated,
            purged_beyond_the_end,
            reset_and_begun_again,
            closed,
            replaced_across_segments,
            truncated_into_an_older_segment,
            purged_with_files_gone,
            purged_with_one_file_gone,
            purged_with_leftovers,
            reset_in_a_younger_segment,
            sealed_but_not_followed,
            closed_after_a_roll,
            torn_within_a_batch,
            torn_within_a_frame,
            torn_with_its_commit_left,
            torn_over_several_batches,
            torn_with_a_commit_in_a_payload,
            torn_with_a_commit_at_an_odd_offset,
            torn_behind_a_close_mark,
            more_behind_a_close_mark,
            without_a_log_id_in_lock,
            longer_than_its_header_says,
            with_files_that_are_not_the_logs,
            recycled_with_stale_frames,
            index_0_in_a_blank_log,
        )
    },
    **{f"not_counted_{name}": partial(not_counted, how) for name, how in NOT_COUNTED.items()},
}


def damage_before_a_synced_batch() -> Sound:
    found = sound(three_batches())
    return damaged(found, file_name(1), sound(one_batch()).end.offset + 8)


def damage_before_a_close_mark() -> Sound:
    segment = three_batches()
    segment.close()
    return damaged(sound(segment), file_name(1), segment.held[6] + 41)


def sealed_and_its_successor_deleted() -> Sound:
    return without(sealed_but_not_followed(), file_name(3))


def older_segment_deleted() -> Sound:
    return without(sound(*rolled(3)), file_name(2))


def two_segments_swapped() -> Sound:
    found = sound(*rolled(3))
    one, two = found.files[file_name(1)], found.files[file_name(2)]
    return with_file(with_file(found, file_name(1), two), file_name(2), one)


def a_segment_of_another_log() -> Sound:
    other = SegmentBuilder(OTHER_LOG_ID, nonce=NONCES[0])
    other.batch(*run(1, 20))
    other.seal()
    return with_image(sound(*rolled(2)), other)


def older_segment_of_another_life() -> Sound:
    """The same number and log id, but not the one whose footer the next header names."""
    other = SegmentBuilder(LOG_ID, nonce=12345)
    other.batch(*run(1, 20))
    other.seal()
    return with_image(sound(*rolled(2)), other)


def older_segment_cut_short() -> Sound:
    found = sound(*rolled(2))
    return with_file(found, file_name(1), found.files[file_name(1)][:-PAGE_SIZE])


def tail_cut_short() -> Sound:
    found = sound(*rolled(2))
    return with_file(found, file_name(2), found.files[file_name(2)][:-PAGE_SIZE])


def tail_header_lost() -> Sound:
    return damaged(sound(*rolled(2), successor=False), file_name(2), 100)


def tail_header_lost_before_a_close_mark() -> Sound:
    first = rolled(1)[0]
    tail = first.successor(nonce=NONCES[1])
    tail.close()
    return damaged(sound(first, tail, successor=False), file_name(2), 100)


def a_number_is_skipped() -> Sound:
    return with_file(sound(*rolled(2)), file_name(4), bytes(SEGMENT_SIZE))


def log_id_without_segments() -> Sound:
    return blank()._replace(files={"LOCK": build_lock(LOG_ID)})


def no_log_id_and_headers_disagree() -> Sound:
    return with_file(a_segment_of_another_log(), "LOCK", b"")


DAMAGED: dict[str, Callable[[], Sound]] = {
    "footer_damaged": lambda: damaged(sound(*rolled(2)), file_name(1), SEGMENT_SIZE - 1),
    "offset_index_damaged": lambda: damaged(sound(*rolled(2)), file_name(1), SEGMENT_SIZE - 4100),
    "older_entry_damaged": lambda: damaged(sound(*rolled(2)), file_name(1), FRAMES_OFFSET + 41),
    **{
        build.__name__: build
        for build in (
            damage_before_a_synced_batch,
            damage_before_a_close_mark,
            sealed_and_its_successor_deleted,
            older_segment_deleted,
            two_segments_swapped,
            a_segment_of_another_log,
            older_segment_of_another_life,
            older_segment_cut_short,
            tail_cut_short,
            tail_header_lost,
            tail_header_lost_before_a_close_mark,
            a_number_is_skipped,
            log_id_without_segments,
            no_log_id_and_headers_disagree,
        )
    },
}

SEEN_WHEN_READ = {"older_entry_damaged", "offset_index_damaged", "damage_before_a_close_mark"}
"""What an open need not look at, since a page proves that it was stored."""


def newer_version(name: str, offset: int, size: int = PAGE_SIZE) -> Sound:
    """Three segments, the last closed; one page says 2, and verifies."""
    found = closed_after_a_roll()
    data = found.files[name]
    page = bytearray(data[offset : offset + size])
    page[8] = 2
    newer = data[:offset] + rechecked(bytes(page)) + data[offset + size :]
    return with_file(found, name, newer)


NEWER: dict[str, Callable[[], Sound]] = {
    "lock": partial(newer_version, "LOCK", 0, 32),
    "header": partial(newer_version, file_name(3), 0),
    "close_mark": partial(newer_version, file_name(3), PAGE_SIZE),
    "footer": partial(newer_version, file_name(2), SEGMENT_SIZE - PAGE_SIZE),
}


def content_of(log: Log) -> Content:
    return Content(log.state, log.entries)


# The encoder and the decoder, without the library.


@pytest.mark.parametrize("name", SOUND)
def test_the_decoder_reads_what_the_encoder_wrote(name: str, tmp_path: Path) -> None:
    built = SOUND[name]()
    log = read_log(put(tmp_path / "log", built.files))
    assert content_of(log) == built.content
    assert (log.end, log.closed) == (built.end, built.closed)


@pytest.mark.parametrize("name", DAMAGED)
def test_the_decoder_tells_damage_from_a_torn_tail(name: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptLogError):
        read_log(put(tmp_path / "log", DAMAGED[name]().files))


def test_the_decoder_names_the_indices_that_are_lost(tmp_path: Path) -> None:
    with pytest.raises(CorruptLogError) as raised:
        read_log(put(tmp_path / "log", damage_before_a_synced_batch().files))
    assert (raised.value.first_index, raised.value.last_index) == (4, 6)


@pytest.mark.parametrize("name", NEWER)
def test_the_decoder_refuses_a_newer_version(name: str, tmp_path: Path) -> None:
    with pytest.raises(NewerVersionError):
        read_log(put(tmp_path / "log", NEWER[name]().files))


def test_a_flipped_bit_in_any_byte_of_any_frame_is_noticed(tmp_path: Path) -> None:
    """In the last batch it is torn; in one that a later COMMIT knows to be durable, damage."""
    segment = every_record()
    last = segment.batch_start
    segment.batch(*run(4, 6, 8, size=33))
    found = sound(segment)
    before_last = Content(*every_record().committed)
    directory = put(tmp_path / "log", found.files)
    for offset in range(FRAMES_OFFSET, segment.offset):
        image = damaged(found, file_name(1), offset).files[file_name(1)]
        (directory / file_name(1)).write_bytes(image)
        if offset < last:
            with pytest.raises(CorruptLogError):
                read_log(directory)
        else:
            assert content_of(read_log(directory)) == before_last


@pytest.mark.parametrize("name", ["closed", "closed_after_a_roll", "rolled"])
def test_a_flipped_bit_anywhere_in_a_page_makes_it_no_page(name: str) -> None:
    built = SOUND[name]()
    number = built.end.segment
    image = bytearray(built.files[file_name(number)])
    whole = decode_segment(bytes(image), LOG_ID, number)
    assert (whole.close_mark is not None) == built.closed
    for offset in range(0, FRAMES_OFFSET if built.closed else PAGE_SIZE, 7):
        image[offset] ^= 32
        if offset < PAGE_SIZE:
            with pytest.raises(CorruptLogError):
                decode_segment(bytes(image), LOG_ID, number)
        else:
            assert decode_segment(bytes(image), LOG_ID, number).close_mark is None
        image[offset] ^= 32


def test_frames_left_behind_a_cut_tail_do_not_join_the_chain_again(tmp_path: Path) -> None:
    """The leader sends the same bytes again; behind them the old run's next batch still stands."""
    synced = sound(one_batch()).end
    old, new = one_batch(), one_batch()
    for segment, random in ((old, b"before the crash"), (new, b"after  the crash")):
        segment.epoch(random)
        segment.batch(*run(4, 4), watermark=synced)
    end = new.offset
    old.batch(*run(5, 5), watermark=synced)
    found = sound(new)
    image = new.image()[:end] + old.image()[end:]
    log = read_log(put(tmp_path / "log", with_file(found, file_name(1), image).files))
    assert content_of(log) == found.content
    assert log.end == (1, end)


# The library. Its files are read by the decoder, and it reads the encoder's.


def open_wal(path: Path, **options: Any) -> Wal:
    import pylogwal

    return pylogwal.Wal(path, **{"segment_bytes": SEGMENT_SIZE, "durability": "batch", **options})


def theirs(value: Any) -> Any:
    """The library's own values, which alone it takes; here they are the decoder's."""
    import pylogwal

    if isinstance(value, list):
        return [theirs(one) for one in value]
    types = {Entry: pylogwal.Entry, LogId: pylogwal.LogId, HardState: pylogwal.HardState}
    return types[type(value)](*value) if type(value) in types else value


class Driven:
    """A library's log, sync or async, called without await and with the decoder's values."""

    def __init__(self, log: object) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return partial(self._call, getattr(self._log, name))

    @staticmethod
    def _call(method: Callable[..., Any], *arguments: Any) -> Any:
        result = method(*map(theirs, arguments))
        return asyncio.run(result) if inspect.iscoroutine(result) else result


def model() -> Driven:
    import pylogwal

    return Driven(pylogwal.MemoryLogStore())


def held_by(log: Any) -> tuple[object, ...]:
    """All that can be read of a library's log, or of the model."""
    return (
        log.first_index(),
        log.last_index(),
        log.get_entries(1, 2**64 - 1),
        log.load_purge_boundary(),
        log.load_hard_state(),
    )


def read_back(content: Content) -> tuple[object, ...]:
    state = content.state
    return state.first, state.next - 1, content.entries, state.boundary, state.hard_state


def nothing(log: Any) -> None:
    pass


def every_kind_of_record(log: Any) -> None:
    log.persist_entries(run(1, 5), HardState(1, "node é", 3, b"\0extra"))
    log.save_hard_state(HardState(9, None, 0, b""))
    log.persist_entries([Entry(4, 2, b"", 255), *run(5, 8, 2)])
    log.truncate(8)
    log.purge(LogId(2, 1))
    log.replace_range(6, run(6, 6, 3))
    log.save_hard_state(HardState(2, "", TOP_TERM, bytes(2048)))


def the_limits(log: Any) -> None:
    log.persist_entries([Entry(TOP_INDEX - 1, 0), Entry(TOP_INDEX, TOP_TERM, bytes(9), 255)])
    log.save_hard_state(HardState(TOP_TERM, "v" * 255, TOP_TERM))


def rolls(log: Any) -> None:
    for first in range(1, 2000, 50):
        log.persist_entries(run(first, first + 49, first // 500, size=first % 97))


def many_small_batches(log: Any) -> None:
    for index in range(1, 1200):
        log.persist_entries(run(index, index))


def batches_larger_than_a_segment(log: Any) -> None:
    log.persist_entries(run(1, 2))
    log.persist_entries([Entry(3, 1, bytes(range(256)) * 1000)])
    log.persist_entries(run(4, 403, size=1000))
    log.persist_entries(run(404, 405))


def replaces_within_a_segment(log: Any) -> None:
    log.persist_entries(run(1, 50))
    log.replace_range(21, run(21, 25, 2))
    log.persist_entries(run(10, 12, 3))
    log.truncate(12)


def replaces_across_segments(log: Any) -> None:
    rolls(log)
    log.replace_range(1500, run(1500, 1600, 9))
    log.persist_entries(run(100, 1400, 10, size=60))
    log.truncate(50)
    log.persist_entries(run(50, 60, 11))


def purges(log: Any) -> None:
    rolls(log)
    log.purge(LogId(30, 0))
    log.persist_entries(run(2001, 2010, 4))
    log.purge(LogId(1985, 3))
    log.persist_entries(run(2011, 2800, 4, size=50))


def purges_all(log: Any) -> None:
    log.persist_entries(run(1, 50))
    log.purge(LogId(50, 1))
    log.persist_entries(run(51, 60))


def purges_beyond_the_end(log: Any) -> None:
    rolls(log)
    log.purge(LogId(5000, 7))
    log.persist_entries(run(5001, 5002, 7))


def purges_at_another_term(log: Any) -> None:
    rolls(log)
    log.purge(LogId(1000, 9))
    log.persist_entries(run(1001, 1010, 9))


def purges_before_the_first(log: Any) -> None:
    log.persist_entries(run(100, 110))
    log.purge(LogId(99, 1))


def resets(log: Any) -> None:
    log.save_hard_state(HardState(4, "kept"))
    rolls(log)
    log.purge(LogId(5, 0))
    log.reset()
    log.persist_entries(run(70, 75))


def truncates_all(log: Any) -> None:
    rolls(log)
    log.truncate(1)
    log.persist_entries(run(7, 9))


WRITTEN: dict[str, Callable[[Any], None]] = {
    write.__name__: write
    for write in (
        nothing,
        every_kind_of_record,
        the_limits,
        rolls,
        many_small_batches,
        batches_larger_than_a_segment,
        replaces_within_a_segment,
        replaces_across_segments,
        purges,
        purges_all,
        purges_beyond_the_end,
        purges_at_another_term,
        purges_before_the_first,
        resets,
        truncates_all,
    )
}


def write_and_die(name: str, path: str, durability: str) -> None:
    """What the child process of a test does: all was accepted, nothing is closed."""
    WRITTEN[name](Driven(open_wal(Path(path), durability=durability)))
    os._exit(0)


def let_a_child_write_and_die(name: str, path: Path, durability: str) -> None:
    call = f"import test_decoder as t; t.write_and_die({name!r}, {str(path)!r}, {durability!r})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", call], env=environment, check=True, timeout=120)


def segments_in(directory: Path) -> list[Segment]:
    """Those that have begun, oldest first."""
    log_id = read_log_id((directory / "LOCK").read_bytes())
    assert log_id is not None
    segments = []
    for path in sorted(directory.glob("*.wal")):
        data = path.read_bytes()
        if any(data[:PAGE_SIZE]):
            segments.append(decode_segment(data, log_id, int(path.name[:16], 16)))
    return segments


def hold_terms_to_the_document(batch: Batch, before: State, terms: dict[int, int]) -> None:
    """What a TRUNCATE and a PURGE say of the entry before the cut. An entry whose file is gone is
    not in `terms`."""
    for frame in batch.frames:
        if frame.type == ENTRY:
            terms[frame.index] = frame.term
        elif frame.type == TRUNCATE:
            if frame.index > before.first:
                assert frame.term == terms.get(frame.index - 1, frame.term)
            else:
                assert frame.term == (before.boundary.term if before.boundary else 0)
        elif frame.type == PURGE and frame.kind == 0 and frame.index >= before.first:
            assert frame.term == terms.get(frame.index, frame.term)


def hold_to_the_document(directory: Path) -> None:
    """What no reader needs and the document says all the same."""
    segments = segments_in(directory)
    assert len({segment.header.nonce for segment in segments}) == len(segments)
    terms: dict[int, int] = {}
    for segment, successor in zip(segments, [*segments[1:], None], strict=True):
        header = segment.header
        assert header.watermark < (segment.number, FRAMES_OFFSET)
        watermark = header.watermark
        replay = Replay(header.state)
        for batch in segment.batches:
            commit = batch.commit.commit
            assert watermark <= commit.watermark <= (segment.number, batch.start)
            watermark = commit.watermark
            hold_terms_to_the_document(batch, replay.state, terms)
            assert replay.apply(batch)
        held_before = range(header.state.first, header.state.next)
        for page in filter(None, (segment.footer, segment.close_mark)):
            assert page.state == replay.state
            assert watermark <= page.watermark <= (segment.number, page.end)
            assert page.end == segment.frames[-1].end if segment.frames else FRAMES_OFFSET
            assert page.last_check == segment.frames[-1].check if segment.frames else segment.seed
            assert page.end <= page.size - PAGE_SIZE - 4 * page.index_count
            indexed = segment.indexed_entries(page)
            assert indexed is not None
            assert indexed.items() <= replay.held.items()
            assert {i for i in replay.held if i >= replay.state.first} <= indexed.keys()
            assert [i for i in held_before if page.state.first <= i < page.lowest_overridden] == [
                i for i in held_before if page.state.first <= i < replay.lowest_overridden
            ]
        assert (successor is None) == (segment.footer is None)
        if successor is not None and segment.footer is not None:
            named = successor.header.predecessor, successor.header.predecessor_check
            assert named == (segment.number, segment.footer.check)
            assert successor.header.state == segment.footer.state
            assert successor.header.watermark == (segment.number, segment.footer.end)


@pytest.mark.parametrize("name", WRITTEN)
def test_the_decoder_reads_what_the_library_wrote_and_closed(name: str, tmp_path: Path) -> None:
    expected = model()
    WRITTEN[name](expected)
    with open_wal(tmp_path / "log") as wal:
        WRITTEN[name](Driven(wal))
        assert held_by(wal) == held_by(expected)
    log = read_log(tmp_path / "log")
    assert read_back(content_of(log)) == held_by(expected)
    assert log.closed
    hold_to_the_document(tmp_path / "log")


@pytest.mark.parametrize("durability", ["batch", "manual"])
@pytest.mark.parametrize("name", WRITTEN)
def test_the_decoder_reads_what_a_killed_library_wrote(
    name: str, durability: str, tmp_path: Path
) -> None:
    expected = model()
    WRITTEN[name](expected)
    let_a_child_write_and_die(name, tmp_path / "log", durability)
    log = read_log(tmp_path / "log")
    assert read_back(content_of(log)) == held_by(expected)
    assert not log.closed
    hold_to_the_document(tmp_path / "log")
    with open_wal(tmp_path / "log") as wal:
        assert held_by(wal) == held_by(expected)
    assert content_of(read_log(tmp_path / "log")) == content_of(log)


def test_the_first_batch_after_every_writable_open_begins_with_a_new_epoch(tmp_path: Path) -> None:
    runs = 4
    for first in range(1, 3 * runs, 3):
        with open_wal(tmp_path / "log") as wal:
            Driven(wal).persist_entries(run(first, first + 1))
            Driven(wal).persist_entries(run(first + 2, first + 2))
    (segment,) = segments_in(tmp_path / "log")
    first_types = [batch.frames[0].type for batch in segment.batches]
    assert first_types == [EPOCH, ENTRY] * runs
    epochs = {frame.payload for frame in segment.frames if frame.type == EPOCH}
    assert len(epochs) == runs


def test_the_first_batch_after_a_reopen_takes_the_close_mark_away(tmp_path: Path) -> None:
    open_wal(tmp_path / "log").close()
    (segment,) = segments_in(tmp_path / "log")
    assert segment.close_mark is not None
    with open_wal(tmp_path / "log") as wal:
        Driven(wal).persist_entries(run(1, 1))
        (segment,) = segments_in(tmp_path / "log")
        assert not any(segment.data[PAGE_SIZE:FRAMES_OFFSET])


def test_every_checksum_the_library_writes_is_crc32c_of_what_the_document_says(
    tmp_path: Path,
) -> None:
    """By literal offsets from the document, without the decoder."""
    with open_wal(tmp_path / "log") as wal:
        every_kind_of_record(Driven(wal))
    lock = (tmp_path / "log" / "LOCK").read_bytes()
    data = (tmp_path / "log" / file_name(1)).read_bytes()
    size = len(data)

    def at(offset: int, width: int) -> int:
        return int.from_bytes(data[offset : offset + width], "little")

    assert crc32c(lock[:12] + bytes(4) + lock[16:]) == int.from_bytes(lock[12:16], "little")
    for page in (0, 4096):
        whole = data[page : page + 4096]
        assert crc32c(whole[:12] + bytes(4) + whole[16:]) == at(page + 12, 4)
    seed = previous = crc32c(data[16:32] + data[32:40] + data[48:56])
    offset, end = 8192, at(4096 + 144, 8)
    types = set()
    while offset < end:
        assert at(offset, 4) == crc32c(data[offset + 4 : offset + 40], seed)
        assert at(offset + 4, 4) == previous
        padded = -(-at(offset + 8, 4) // 8) * 8
        payload = data[offset + 40 : offset + 40 + padded]
        assert at(offset + 12, 4) == crc32c(payload)
        types.add(data[offset + 16])
        if data[offset + 16] == 7:
            place = (1).to_bytes(8, "little") + offset.to_bytes(8, "little")
            assert at(offset + 72, 4) == crc32c(data[16:32] + place + payload[:32])
        previous = at(offset, 4)
        offset += 40 + padded
    assert offset == end
    assert at(4096 + 152, 4) == previous
    assert types == {1, 2, 3, 5, 6, 7}
    count = at(4096 + 168, 8)
    assert at(4096 + 184, 4) == crc32c(data[size - 4096 - 4 * count : size - 4096])


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("read_only", [True, False], ids=["read_only", "writable"])
def test_the_library_reads_what_the_encoder_wrote(
    name: str, read_only: bool, tmp_path: Path
) -> None:
    built = SOUND[name]()
    directory = put(tmp_path / "log", built.files)
    with open_wal(directory, read_only=read_only) as wal:
        assert held_by(wal) == read_back(built.content)
    if read_only:
        assert contents(directory) == built.files
    else:
        assert content_of(read_log(directory)) == built.content


@pytest.mark.parametrize("name", SOUND)
def test_the_library_goes_on_where_the_encoder_stopped(name: str, tmp_path: Path) -> None:
    built = SOUND[name]()
    directory = put(tmp_path / "log", built.files)
    state = built.content.state
    room = min(800, TOP_INDEX + 1 - state.next)
    more = run(state.next, state.next + room - 1, TOP_TERM, size=100)
    with open_wal(directory) as wal:
        Driven(wal).persist_entries(more)
        Driven(wal).save_hard_state(HardState(6, "after"))
    log = read_log(directory)
    assert log.entries == built.content.entries + more
    assert log.boundary == state.boundary
    assert log.hard_state == HardState(6, "after")


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("read_only", [True, False], ids=["read_only", "writable"])
def test_the_library_serves_nothing_that_is_damaged(
    name: str, read_only: bool, tmp_path: Path
) -> None:
    import pylogwal

    built = DAMAGED[name]()
    directory = put(tmp_path / "log", built.files)

    def open_and_read() -> None:
        with open_wal(directory, read_only=read_only) as wal:
            assert name in SEEN_WHEN_READ
            wal.get_entries(1, 2**64 - 1)

    with pytest.raises(pylogwal.CorruptionError):
        open_and_read()
    if read_only or name not in SEEN_WHEN_READ:
        assert contents(directory) == built.files


@pytest.mark.parametrize("name", NEWER)
@pytest.mark.parametrize("read_only", [True, False], ids=["read_only", "writable"])
def test_the_library_refuses_a_newer_version_and_changes_nothing(
    name: str, read_only: bool, tmp_path: Path
) -> None:
    import pylogwal

    built = NEWER[name]()
    directory = put(tmp_path / "log", built.files)
    with pytest.raises(pylogwal.UnsupportedFormatError):
        open_wal(directory, read_only=read_only)
    assert contents(directory) == built.files


def contents(directory: Path) -> Files:
    return {path.name: path.read_bytes() for path in directory.iterdir()}
