"""Writes segments by hand, from docs/format.md alone: valid ones, torn ones, damaged ones.

`build_page`, `build_frame`, `build_commit` and `build_lock` make one piece; `SegmentBuilder` puts
them in a row and knows the chain, the offset index and the state. Only the plain values come from
the decoder; the layout is written down here a second time, so that the two check each other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crc32c import crc32c
from decoder import Entry, HardState, LogId, State

_PAGE = struct.Struct("<8s I I 16s Q Q Q Q Q B7x Q Q Q Q Q Q Q H H4x Q I4x Q Q Q I4x")
_FRAME_AFTER_CHECK = struct.Struct("<I I I B B 6s Q Q")
_COMMIT = struct.Struct("<Q Q Q Q")
_PAGE_CHECK = slice(12, 16)

SEGMENT_SIZE = 65536
NOTHING_OVERRIDDEN = 2**64 - 1
BLANK = State()


@dataclass(frozen=True)
class Identity:
    """What makes a segment's bytes its own."""

    log_id: bytes
    number: int
    nonce: int

    @property
    def seed(self) -> int:
        return crc32c(self.log_id + struct.pack("<QQ", self.number, self.nonce))


@dataclass(frozen=True)
class OffsetIndex:
    first: int = 0
    offsets: tuple[int, ...] = ()
    lowest_overridden: int = NOTHING_OVERRIDDEN

    @property
    def data(self) -> bytes:
        return b"".join(struct.pack("<I", offset // 8) for offset in self.offsets)


def build_page(
    magic: bytes,
    identity: Identity,
    size: int,
    *,
    state: State = BLANK,
    watermark: tuple[int, int] = (0, 0),
    link: tuple[int, int] = (0, 0),
    index: OffsetIndex | None = None,
    version: int = 1,
) -> bytes:
    """A page of 4096 bytes. `link` is what stands at 144 and 152: in a header the predecessor's
    number and its footer's check, else the end of the frames and the last frame's check."""
    boundary, hard = state.boundary, state.hard_state
    flags = 0
    vote = extra = b""
    if boundary is not None:
        flags |= 1
    if hard is not None:
        flags |= 2
        extra = hard.extra
        if hard.voted_for is not None:
            flags |= 4
            vote = hard.voted_for.encode()
    page = _PAGE.pack(
        magic,
        version,
        0,
        identity.log_id,
        identity.number,
        size,
        identity.nonce,
        *watermark,
        flags,
        state.first,
        state.next,
        state.last_term,
        boundary.index if boundary else 0,
        boundary.term if boundary else 0,
        hard.term if hard else 0,
        hard.commit_index if hard else 0,
        len(vote),
        len(extra),
        *link,
        index.first if index else 0,
        len(index.offsets) if index else 0,
        index.lowest_overridden if index else 0,
        crc32c(index.data) if index else 0,
    )
    return rechecked((page + vote + extra).ljust(4096, b"\0"))


def rechecked(page: bytes) -> bytes:
    """The page with the check that its other bytes ask for."""
    cleared = bytearray(page)
    cleared[_PAGE_CHECK] = bytes(4)
    cleared[_PAGE_CHECK] = struct.pack("<I", crc32c(bytes(cleared)))
    return bytes(cleared)


def page_check(page: bytes) -> int:
    return int.from_bytes(page[_PAGE_CHECK], "little")


def build_lock(log_id: bytes, *, version: int = 1) -> bytes:
    return rechecked(struct.pack("<8sII16s", b"LWLOGID\n", version, 0, log_id))


def build_frame(
    seed: int,
    previous: int,
    frame_type: int,
    *,
    kind: int = 0,
    index: int = 0,
    term: int = 0,
    payload: bytes = b"",
    zero: bytes = bytes(6),
) -> bytes:
    padded = payload + bytes(-len(payload) % 8)
    rest = _FRAME_AFTER_CHECK.pack(
        previous, len(payload), crc32c(padded), frame_type, kind, zero, index, term
    )
    return struct.pack("<I", crc32c(rest, seed)) + rest + padded


def build_commit(
    identity: Identity,
    previous: int,
    *,
    offset: int,
    start: int,
    next_index: int,
    watermark: tuple[int, int] = (0, 0),
) -> bytes:
    """A COMMIT frame that stands at `offset` and ends the batch that began at `start`."""
    said = _COMMIT.pack(start, next_index, *watermark)
    place = struct.pack("<QQ", identity.number, offset)
    alone = crc32c(identity.log_id + place + said)
    payload = said + struct.pack("<I", alone) + b"LWCM"
    return build_frame(identity.seed, previous, 7, payload=payload)


def hard_state_payload(hard: HardState) -> bytes:
    vote = b"" if hard.voted_for is None else hard.voted_for.encode()
    return struct.pack("<H", len(vote)) + vote + hard.extra


@dataclass
class SegmentBuilder:
    """One segment in the making. Each record goes at the end; `commit` makes the batch count.

    `state` and `entries` are the log's, as a reader that had applied every record would see it;
    `committed` is what a reader may see. `frame` and `raw` put in what the others would not.
    """

    log_id: bytes
    number: int = 1
    nonce: int = 0x1122334455667788
    size: int = SEGMENT_SIZE
    state: State = field(default_factory=State)
    entries: dict[int, Entry] = field(default_factory=dict)
    predecessor: int = 0
    predecessor_check: int = 0
    watermark: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.identity = Identity(self.log_id, self.number, self.nonce)
        self.header = build_page(
            b"LWHEADER",
            self.identity,
            self.size,
            state=self.state,
            watermark=self.watermark,
            link=(self.predecessor, self.predecessor_check),
        )
        self.close_mark = bytes(4096)
        self.frames = bytearray()
        self.previous = self.identity.seed
        self.batch_start = self.offset
        self.committed = self.state, list(self.entries.values())
        self.held: dict[int, int] = {}
        self.lowest_overridden = NOTHING_OVERRIDDEN
        self.footer: bytes | None = None
        self.index_data = b""

    @property
    def offset(self) -> int:
        """Where the next frame goes."""
        return 8192 + len(self.frames)

    def raw(self, data: bytes) -> None:
        """Bytes that are no frame of this chain."""
        self.frames += data

    def frame(self, frame_type: int, **fields: Any) -> None:
        """A valid frame, as `build_frame` makes it, that the state is not told of."""
        self._chain(build_frame(self.identity.seed, self.previous, frame_type, **fields))

    def _chain(self, frame: bytes) -> None:
        self.frames += frame
        self.previous = int.from_bytes(frame[:4], "little")

    def entry(self, index: int, term: int, payload: bytes = b"", kind: int = 0) -> None:
        self.held[index] = self.offset
        self.frame(1, kind=kind, index=index, term=term, payload=payload)
        self.entries[index] = Entry(index, term, payload, kind)
        first = index if self.state.blank else self.state.first
        self.state = replace(self.state, first=first, next=index + 1, last_term=term)

    def truncate(self, from_index: int) -> None:
        if any(from_index <= index < self.state.next for index in self.entries.keys() - self.held):
            self.lowest_overridden = min(self.lowest_overridden, from_index)
        self.entries = {i: entry for i, entry in self.entries.items() if i < from_index}
        self.held = {i: offset for i, offset in self.held.items() if i < from_index}
        boundary = self.state.boundary
        if self.entries:
            last = max(self.entries)
            self.state = replace(self.state, next=last + 1, last_term=self.entries[last].term)
        elif boundary:
            self.state = replace(self.state, next=boundary.index + 1, last_term=boundary.term)
        else:
            self.state = State(hard_state=self.state.hard_state)
        self.frame(2, index=from_index, term=self.state.last_term)

    def purge(self, index: int, term: int, *, whole: bool = False) -> None:
        """`whole`: every entry goes, and the log continues at index + 1."""
        self.frame(3, kind=int(whole), index=index, term=term)
        boundary = LogId(index, term)
        if whole:
            state = State(index + 1, index + 1, term, boundary, self.state.hard_state)
            self._start_again(state)
        else:
            self.entries = {i: entry for i, entry in self.entries.items() if i > index}
            self.state = replace(self.state, first=index + 1, boundary=boundary)

    def reset(self) -> None:
        self.frame(4)
        self._start_again(State(hard_state=self.state.hard_state))

    def _start_again(self, state: State) -> None:
        self.entries, self.held, self.state, self.lowest_overridden = {}, {}, state, 0

    def hard_state(self, hard: HardState) -> None:
        self.frame(
            5,
            kind=int(hard.voted_for is not None),
            index=hard.commit_index,
            term=hard.term,
            payload=hard_state_payload(hard),
        )
        self.state = replace(self.state, hard_state=hard)

    def epoch(self, random: bytes) -> None:
        self.frame(6, payload=random)

    def commit(
        self,
        *,
        start: int | None = None,
        next_index: int | None = None,
        watermark: tuple[int, int] | None = None,
    ) -> None:
        """Ends the batch. By default it tells the truth, and knows that all before it is durable,
        as where each batch waits for its fdatasync. What was given here by hand is not counted."""
        as_it_is = start is None and next_index is None
        start = self.batch_start if start is None else start
        if watermark is None:
            watermark = self.watermark if start == 8192 else (self.number, start)
        next_index = self.state.next if next_index is None else next_index
        commit = build_commit(
            self.identity,
            self.previous,
            offset=self.offset,
            start=start,
            next_index=next_index,
            watermark=watermark,
        )
        self._chain(commit)
        self.batch_start = self.offset
        if as_it_is:
            self.committed = self.state, list(self.entries.values())

    def batch(self, *entries: Entry, watermark: tuple[int, int] | None = None) -> None:
        for entry in entries:
            self.entry(*entry)
        self.commit(watermark=watermark)

    def seal(self) -> None:
        self.footer = self._ending(b"LWFOOTER")

    def close(self) -> None:
        self.close_mark = self._ending(b"LWCLOSED")

    def _ending(self, magic: bytes) -> bytes:
        first = min(self.held, default=self.state.next)
        offsets = tuple(self.held[index] for index in sorted(self.held))
        index = OffsetIndex(first, offsets, self.lowest_overridden)
        self.index_data = index.data
        return build_page(
            magic,
            self.identity,
            self.size,
            state=self.state,
            watermark=(self.number, self.offset),
            link=(self.offset, self.previous),
            index=index,
        )

    def successor(self, *, nonce: int, size: int = SEGMENT_SIZE) -> SegmentBuilder:
        """The next segment of the log; this one is sealed."""
        self.seal()
        assert self.footer is not None
        return SegmentBuilder(
            self.log_id,
            self.number + 1,
            nonce,
            size,
            self.state,
            dict(self.entries),
            self.number,
            page_check(self.footer),
            (self.number, self.offset),
        )

    def image(self) -> bytes:
        """The file."""
        before = self.header + self.close_mark + bytes(self.frames)
        footer = self.footer or bytes(4096)
        room = self.size - len(before) - len(self.index_data) - len(footer)
        assert room >= 0, "the frames do not fit"
        return before + bytes(room) + self.index_data + footer


def file_name(number: int) -> str:
    return f"{number:016x}.wal"


def write_log(
    directory: Path,
    log_id: bytes,
    *segments: SegmentBuilder,
    successor: bytes | None = bytes(65536),
) -> None:
    """A log directory: LOCK, these segments, and the successor prepared for the last."""
    directory.mkdir()
    (directory / "LOCK").write_bytes(build_lock(log_id))
    for segment in segments:
        (directory / file_name(segment.number)).write_bytes(segment.image())
    if successor is not None:
        (directory / file_name(segments[-1].number + 1)).write_bytes(successor)
