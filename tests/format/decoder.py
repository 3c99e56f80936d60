"""Reads a log directory from docs/format.md alone: what pylogwal's files are held against.

It shares no code with pylogwal, takes its checksums from the crc32c package, and is strict: what
the document says is zero must be zero. Speed is no aim; a segment is one `bytes`.

`read_page`, `read_frame` and `stand_alone` read one piece, `decode_segment` one file, `read_log` a
directory as recovery does. A piece that does not verify is None; a log that cannot be what a
writer left behind is a CorruptLogError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from crc32c import crc32c

PAGE_SIZE = 4096
CLOSE_MARK_OFFSET = PAGE_SIZE
FRAMES_OFFSET = 2 * PAGE_SIZE
MIN_SEGMENT_SIZE = 65536
FRAME_HEADER_SIZE = 40
MAX_ENTRY_INDEX = 2**64 - 2
NOTHING_OVERRIDDEN = 2**64 - 1
MAX_VOTE = 255
MAX_EXTRA = 2048

HEADER = b"LWHEADER"
FOOTER = b"LWFOOTER"
CLOSED = b"LWCLOSED"
LOCK = b"LWLOGID\n"
COMMIT_MAGIC = b"LWCM"

ENTRY, TRUNCATE, PURGE, RESET, HARD_STATE, EPOCH, COMMIT = range(1, 8)

BATCH_ORDER = re.compile(
    b"%c?[%c%c%c]?%c*%c?%c" % (EPOCH, TRUNCATE, PURGE, RESET, ENTRY, HARD_STATE, COMMIT)
)
"""In which the types of a batch's frames come."""

HAS_BOUNDARY, HAS_HARD_STATE, HAS_VOTE = 1, 2, 4


class FormatError(Exception):
    """The bytes are not what the document allows."""


class CorruptLogError(FormatError):
    """The log is damaged; the indices that are lost, where they are known."""

    def __init__(self, message: str, first_index: int = 0, last_index: int = 0) -> None:
        super().__init__(message)
        self.first_index = first_index
        self.last_index = last_index


class NewerVersionError(FormatError):
    """A page verifies, and is of another version."""


class Entry(NamedTuple):
    index: int  # type: ignore[assignment]
    term: int
    payload: bytes = b""
    kind: int = 0


class LogId(NamedTuple):
    index: int  # type: ignore[assignment]
    term: int


class HardState(NamedTuple):
    term: int
    voted_for: str | None = None
    commit_index: int = 0
    extra: bytes = b""


class Position(NamedTuple):
    """A place in the log: a byte offset in a segment. They compare as the log goes."""

    segment: int
    offset: int


@dataclass(frozen=True)
class State:
    """What a page says of the log: everything except the entries themselves."""

    first: int = 1
    next: int = 1
    last_term: int = 0
    boundary: LogId | None = None
    hard_state: HardState | None = None

    @property
    def blank(self) -> bool:
        return self.first == self.next and self.boundary is None


@dataclass(frozen=True)
class Page:
    """A header, footer or close mark page that verifies."""

    magic: bytes
    check: int
    log_id: bytes
    number: int
    size: int
    nonce: int
    watermark: Position
    state: State
    predecessor: int = 0
    """Header: number of the segment before, 0: none."""
    predecessor_check: int = 0
    """Header: `check` of that segment's footer."""
    end: int = 0
    """Footer and close mark, as all below: where the frames end."""
    last_check: int = 0
    """`check` of the last frame, or the seed."""
    index_first: int = 0
    """Index of the first entry in the offset index."""
    index_count: int = 0
    lowest_overridden: int = 0
    index_check: int = 0


class Commit(NamedTuple):
    start: int
    """Offset of the first frame of the batch."""
    next_index: int
    watermark: Position


@dataclass(frozen=True)
class Frame:
    """A valid frame, but for its place in the chain where that was not asked for."""

    offset: int
    check: int
    previous: int
    type: int
    kind: int
    index: int
    term: int
    payload: bytes

    @property
    def end(self) -> int:
        return self.offset + FRAME_HEADER_SIZE + _padded(len(self.payload))

    @property
    def entry(self) -> Entry:
        return Entry(self.index, self.term, self.payload, self.kind)

    @property
    def commit(self) -> Commit:
        """What a COMMIT frame says."""
        return _commit_of(self.payload)

    @property
    def hard_state(self) -> HardState:
        """What a HARD_STATE frame says."""
        vote_size = int.from_bytes(self.payload[:2], "little")
        vote = self.payload[2 : 2 + vote_size].decode() if self.kind else None
        return HardState(self.term, vote, self.index, self.payload[2 + vote_size :])


@dataclass(frozen=True)
class Batch:
    """Valid frames up to and including a COMMIT; whether it counts depends on the state before."""

    frames: tuple[Frame, ...]

    @property
    def start(self) -> int:
        return self.frames[0].offset

    @property
    def commit(self) -> Frame:
        return self.frames[-1]

    @property
    def end(self) -> int:
        return self.commit.end

    @property
    def is_commit_alone(self) -> bool:
        """What an idle log appends; after an open for writing behind an EPOCH."""
        return tuple(frame.type for frame in self.frames) in ((COMMIT,), (EPOCH, COMMIT))


@dataclass(frozen=True)
class Segment:
    """One file, each part judged for itself."""

    data: bytes = field(repr=False)
    header: Page
    close_mark: Page | None
    footer: Page | None
    frames: tuple[Frame, ...]
    """The valid frames from the start of the frames' area."""

    @property
    def number(self) -> int:
        return self.header.number

    @property
    def seed(self) -> int:
        return seed_of(self.header.log_id, self.header.number, self.header.nonce)

    @property
    def batches(self) -> list[Batch]:
        batches: list[Batch] = []
        open_frames: list[Frame] = []
        for frame in self.frames:
            open_frames.append(frame)
            if frame.type == COMMIT:
                batches.append(Batch(tuple(open_frames)))
                open_frames = []
        return batches

    def offset_index(self, page: Page) -> list[int] | None:
        """The offsets of the entries that a footer or close mark tells of; None: it is damaged."""
        stop = self.header.size - PAGE_SIZE
        start = stop - 4 * page.index_count
        if start < FRAMES_OFFSET:
            return None
        data = self.data[start:stop]
        if crc32c(data) != page.index_check:
            return None
        return [_integer(data, at, 4) * 8 for at in range(0, len(data), 4)]

    def frame_at(self, offset: int, previous: int | None = None) -> Frame | None:
        header = self.header
        limit = header.size - PAGE_SIZE
        return read_frame(
            self.data, offset, limit, header.log_id, header.number, self.seed, previous
        )

    def indexed_entries(self, page: Page) -> dict[int, Frame] | None:
        """The entries that a footer or close mark tells of, by index; None: not all are there."""
        offsets = self.offset_index(page)
        if offsets is None:
            return None
        entries: dict[int, Frame] = {}
        for index, offset in enumerate(offsets, page.index_first):
            frame = self.frame_at(offset)
            if frame is None or frame.type != ENTRY or frame.index != index:
                return None
            entries[index] = frame
        return entries


@dataclass(frozen=True)
class Log:
    """What recovery finds in a directory."""

    log_id: bytes | None
    state: State
    entries: list[Entry]
    end: Position
    """Where the next batch goes, after what was torn is cut; (0, 0): no segment has a header."""
    closed: bool
    """The end was taken from a close mark."""
    segments: list[Segment]
    """Those that recovery had to look at, oldest first; the last is the tail."""

    @property
    def boundary(self) -> LogId | None:
        return self.state.boundary

    @property
    def hard_state(self) -> HardState | None:
        return self.state.hard_state


def seed_of(log_id: bytes, number: int, nonce: int) -> int:
    return crc32c(log_id + number.to_bytes(8, "little") + nonce.to_bytes(8, "little"))


def read_page(data: bytes, offset: int, magic: bytes) -> Page | None:
    """The page of that kind at `offset`, or None if no such page verifies there."""
    page = data[offset : offset + PAGE_SIZE]
    if len(page) < PAGE_SIZE or page[:8] != magic:
        return None
    check = _integer(page, 12, 4)
    if crc32c(page[:12] + bytes(4) + page[16:]) != check:
        return None
    if _integer(page, 8, 4) != 1:
        raise NewerVersionError(f"{magic!r} page of version {_integer(page, 8, 4)}")

    flags = page[72]
    vote_size, extra_size = _integer(page, 136, 2), _integer(page, 138, 2)
    used = 192 + vote_size + extra_size
    ending = magic != HEADER
    zeros = [(73, 80), (140, 144), (156, 160), (188, 192), (used, PAGE_SIZE)]
    if not ending:
        zeros.append((160, 192))
    if not flags & HAS_BOUNDARY:
        zeros.append((104, 120))
    if not flags & HAS_HARD_STATE:
        zeros.append((120, 140))
    if not flags & HAS_VOTE:
        zeros.append((136, 138))
    _require(flags < 8, "flags")
    _require(bool(flags & HAS_HARD_STATE) or not flags & HAS_VOTE, "a vote, but no hard state")
    _require(vote_size <= MAX_VOTE and extra_size <= MAX_EXTRA, "vote or extra size")
    _require(not any(any(page[start:stop]) for start, stop in zeros), "what is unused is zero")

    boundary = None
    if flags & HAS_BOUNDARY:
        boundary = LogId(_integer(page, 104, 8), _integer(page, 112, 8))
    hard_state = None
    if flags & HAS_HARD_STATE:
        vote = page[192 : 192 + vote_size].decode() if flags & HAS_VOTE else None
        extra = page[192 + vote_size : used]
        hard_state = HardState(_integer(page, 120, 8), vote, _integer(page, 128, 8), extra)
    state = State(
        _integer(page, 80, 8), _integer(page, 88, 8), _integer(page, 96, 8), boundary, hard_state
    )
    _require(state.first <= state.next, "first index beyond next index")
    _require(not state.blank or state == State(hard_state=hard_state), "blank: first = next = 1")
    _require(boundary is None or state.first == boundary.index + 1, "first = boundary + 1")
    size = _integer(page, 40, 8)
    _require(size % PAGE_SIZE == 0 and size >= MIN_SEGMENT_SIZE, "size")
    return Page(
        magic=magic,
        check=check,
        log_id=page[16:32],
        number=_integer(page, 32, 8),
        size=size,
        nonce=_integer(page, 48, 8),
        watermark=Position(_integer(page, 56, 8), _integer(page, 64, 8)),
        state=state,
        predecessor=0 if ending else _integer(page, 144, 8),
        predecessor_check=0 if ending else _integer(page, 152, 4),
        end=_integer(page, 144, 8) if ending else 0,
        last_check=_integer(page, 152, 4) if ending else 0,
        index_first=_integer(page, 160, 8),
        index_count=_integer(page, 168, 8),
        lowest_overridden=_integer(page, 176, 8),
        index_check=_integer(page, 184, 4),
    )


def read_frame(
    data: bytes,
    offset: int,
    limit: int,
    log_id: bytes,
    number: int,
    seed: int,
    previous: int | None,
) -> Frame | None:
    """The frame at `offset`, or None if it is not valid. Frames end at `limit` at the latest;
    with `previous` None the place in the chain is not looked at."""
    if offset % 8 or offset < FRAMES_OFFSET or offset + FRAME_HEADER_SIZE > limit:
        return None
    header = data[offset : offset + FRAME_HEADER_SIZE]
    check = _integer(header, 0, 4)
    if crc32c(header[4:], seed) != check:
        return None
    frame_type, kind = header[16], header[17]
    if not ENTRY <= frame_type <= COMMIT or any(header[18:24]):
        return None
    chained = _integer(header, 4, 4)
    if previous is not None and chained != previous:
        return None
    size = _integer(header, 8, 4)
    start = offset + FRAME_HEADER_SIZE
    if _padded(size) > limit - start:
        return None
    padded = data[start : start + _padded(size)]
    if crc32c(padded) != _integer(header, 12, 4) or any(padded[size:]):
        return None
    frame = Frame(
        offset=offset,
        check=check,
        previous=chained,
        type=frame_type,
        kind=kind,
        index=_integer(header, 24, 8),
        term=_integer(header, 32, 8),
        payload=padded[:size],
    )
    return frame if _keeps_its_row(frame, data, log_id, number) else None


def _keeps_its_row(frame: Frame, data: bytes, log_id: bytes, number: int) -> bool:
    size = len(frame.payload)
    numbers = (frame.kind, frame.index, frame.term)
    if frame.type == ENTRY:
        return 1 <= frame.index <= MAX_ENTRY_INDEX
    if frame.type == TRUNCATE:
        return frame.kind == 0 and size == 0
    if frame.type == PURGE:
        return frame.kind <= 1 and size == 0
    if frame.type == RESET:
        return numbers == (0, 0, 0) and size == 0
    if frame.type == HARD_STATE:
        return frame.kind <= 1 and _is_hard_state(frame)
    if frame.type == EPOCH:
        return numbers == (0, 0, 0) and size == 16
    return (
        numbers == (0, 0, 0)
        and size == 40
        and stand_alone(data, frame.offset, log_id, number) is not None
    )


def _is_hard_state(frame: Frame) -> bool:
    payload = frame.payload
    vote_size = int.from_bytes(payload[:2], "little")
    if len(payload) < 2 or vote_size > (MAX_VOTE if frame.kind else 0):
        return False
    extra_size = len(payload) - 2 - vote_size
    try:
        payload[2 : 2 + vote_size].decode()
    except UnicodeDecodeError:
        return False
    return 0 <= extra_size <= MAX_EXTRA


def stand_alone(data: bytes, offset: int, log_id: bytes, number: int) -> Commit | None:
    """What the COMMIT whose frame is at `offset` says, believed without anything around it."""
    payload = data[offset + FRAME_HEADER_SIZE : offset + FRAME_HEADER_SIZE + 40]
    if payload[36:] != COMMIT_MAGIC:
        return None
    place = number.to_bytes(8, "little") + offset.to_bytes(8, "little")
    if crc32c(log_id + place + payload[:32]) != _integer(payload, 32, 4):
        return None
    return _commit_of(payload)


def _commit_of(payload: bytes) -> Commit:
    watermark = Position(_integer(payload, 16, 8), _integer(payload, 24, 8))
    return Commit(_integer(payload, 0, 8), _integer(payload, 8, 8), watermark)


def commits_behind(
    data: bytes, offset: int, log_id: bytes, number: int
) -> Iterator[tuple[int, Commit]]:
    """Every COMMIT at or behind `offset` that stands alone, with the offset of its frame."""
    magic_in_frame = FRAME_HEADER_SIZE + 36
    found = data.find(COMMIT_MAGIC, offset + magic_in_frame)
    while found >= 0:
        start = found - magic_in_frame
        commit = stand_alone(data, start, log_id, number) if start % 8 == 0 else None
        if commit is not None:
            yield start, commit
        found = data.find(COMMIT_MAGIC, found + 1)


def decode_segment(data: bytes, log_id: bytes, number: int) -> Segment:
    """One segment file. Its header must be valid and its own; all else may be missing or torn."""
    header = read_page(data, 0, HEADER)
    if header is None:
        raise CorruptLogError(f"segment {number}: no valid header")
    if (header.log_id, header.number) != (log_id, number):
        raise CorruptLogError(f"segment {number}: the header is of another")
    if len(data) < header.size:
        raise CorruptLogError(f"segment {number}: {len(data)} bytes, should be {header.size}")

    def ending(offset: int, magic: bytes) -> Page | None:
        page = read_page(data, offset, magic)
        if page is None or _life(page) != _life(header):
            return None
        _require(page.size == header.size, "size in the footer or close mark")
        return page

    close_mark = ending(CLOSE_MARK_OFFSET, CLOSED)
    footer = ending(header.size - PAGE_SIZE, FOOTER)
    segment = Segment(data, header, close_mark, footer, ())
    frames: list[Frame] = []
    offset, previous = FRAMES_OFFSET, segment.seed
    while (frame := segment.frame_at(offset, previous)) is not None:
        frames.append(frame)
        offset, previous = frame.end, frame.check
    return Segment(data, header, close_mark, footer, tuple(frames))


def _life(page: Page) -> tuple[bytes, int, int]:
    return page.log_id, page.number, page.nonce


class Replay:
    """The state of the log as the batches of one segment change it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.held: dict[int, Frame] = {}
        """The entries of this segment that no later frame of it replaced or cut, by index."""
        self.lowest_overridden = NOTHING_OVERRIDDEN

    def apply(self, batch: Batch) -> bool:
        """True and applied as a whole if the batch counts, else False and nothing is changed."""
        before = self.state, dict(self.held), self.lowest_overridden
        commit = batch.commit.commit
        types = bytes(frame.type for frame in batch.frames)
        if (
            BATCH_ORDER.fullmatch(types)
            and all(self._apply_frame(frame) for frame in batch.frames)
            and commit.start == batch.start
            and commit.next_index == self.state.next
        ):
            return True
        self.state, self.held, self.lowest_overridden = before
        return False

    def _apply_frame(self, frame: Frame) -> bool:
        if frame.type == ENTRY:
            return self._append(frame)
        if frame.type == TRUNCATE:
            return self._truncate(frame.index, frame.term)
        if frame.type == PURGE:
            cutoff = LogId(frame.index, frame.term)
            return self._purge_all(cutoff) if frame.kind else self._purge(cutoff)
        if frame.type == RESET:
            self._drop_all(State(hard_state=self.state.hard_state))
        elif frame.type == HARD_STATE:
            self.state = replace(self.state, hard_state=frame.hard_state)
        return True

    def _append(self, frame: Frame) -> bool:
        if self.state.blank:
            self.state = replace(self.state, first=frame.index, next=frame.index)
        if frame.index != self.state.next or frame.term < self.state.last_term:
            return False
        self.held[frame.index] = frame
        self.state = replace(self.state, next=frame.index + 1, last_term=frame.term)
        return True

    def _truncate(self, from_index: int, term_before: int) -> bool:
        state = self.state
        if not state.first <= from_index < state.next:
            return False
        if from_index < min(self.held, default=state.next):
            self.lowest_overridden = min(self.lowest_overridden, from_index)
        self.held = {index: frame for index, frame in self.held.items() if index < from_index}
        self.state = replace(state, next=from_index, last_term=term_before)
        if self.state.blank:
            self.state = State(hard_state=state.hard_state)
        return True

    def _purge(self, cutoff: LogId) -> bool:
        state = self.state
        if not max(state.first - 1, 1) <= cutoff.index < state.next:
            return False
        if state.boundary is not None and cutoff.index <= state.boundary.index:
            return False
        self.state = replace(self.state, first=cutoff.index + 1, boundary=cutoff)
        return True

    def _purge_all(self, cutoff: LogId) -> bool:
        boundary = self.state.boundary
        if boundary is not None and cutoff.index <= boundary.index:
            return False
        next_index = cutoff.index + 1
        self._drop_all(State(next_index, next_index, cutoff.term, cutoff, self.state.hard_state))
        return True

    def _drop_all(self, state: State) -> None:
        self.state = state
        self.held = {}
        self.lowest_overridden = 0


class _Older:
    """The sealed segments before the tail, read back only as far as someone asks."""

    def __init__(self, files: dict[int, bytes], tail: Page) -> None:
        self._files = files
        self._successor = tail
        self.segments: list[Segment] = []
        """Youngest first."""
        self._entries: list[tuple[dict[int, Frame], int]] = []

    def entry(self, index: int) -> Frame:
        """The entry that is visible once nothing of the tail is."""
        lowest = NOTHING_OVERRIDDEN
        depth = 0
        while True:
            if depth == len(self._entries):
                self._read_one_more(index)
            entries, overridden = self._entries[depth]
            if index < lowest and index in entries:
                return entries[index]
            lowest = min(lowest, overridden)
            depth += 1

    def _read_one_more(self, index: int) -> None:
        number, named = self._successor.predecessor, self._successor.predecessor_check
        if number not in self._files:
            raise CorruptLogError(f"segment {number} is missing", index, index)
        segment = decode_segment(self._files[number], self._successor.log_id, number)
        footer = segment.footer
        if footer is None or footer.check != named:
            raise CorruptLogError(f"segment {number}: not the footer that its successor names")
        entries = segment.indexed_entries(footer)
        if entries is None:
            raise CorruptLogError(f"segment {number}: entries are damaged")
        self.segments.append(segment)
        self._entries.append((entries, footer.lowest_overridden))
        self._successor = segment.header


def read_log_id(data: bytes) -> bytes | None:
    """The log id in LOCK; None if it is empty or does not verify."""
    if len(data) < 32 or data[:8] != LOCK:
        return None
    if crc32c(data[:12] + bytes(4) + data[16:32]) != _integer(data, 12, 4):
        return None
    if _integer(data, 8, 4) != 1:
        raise NewerVersionError(f"LOCK of version {_integer(data, 8, 4)}")
    return data[16:32]


def read_tail(directory: Path) -> Segment:
    """The newest segment that has a header, as it stands in its file."""
    log_id = read_log_id((directory / "LOCK").read_bytes())
    assert log_id is not None
    files = sorted(directory.glob("*.wal"), reverse=True)
    newest = next(file for file in files if any(file.read_bytes()[:8]))
    return decode_segment(newest.read_bytes(), log_id, int(newest.stem, 16))


def read_log(directory: Path) -> Log:
    """The log in a directory, as recovery finds it, clean or torn. Changes nothing."""
    files = {
        int(path.name[:16], 16): path.read_bytes()
        for path in directory.iterdir()
        if re.fullmatch(r"[0-9a-f]{16}\.wal", path.name)
    }
    lock = directory / "LOCK"
    log_id = read_log_id(lock.read_bytes()) if lock.exists() else None
    headers = {number: read_page(data, 0, HEADER) for number, data in files.items()}
    valid = {number: header for number, header in headers.items() if header is not None}
    if log_id is None:
        if not any(any(data) for data in files.values()):
            return Log(None, State(), [], Position(0, 0), False, [])
        ids = {header.log_id for header in valid.values()}
        if len(ids) != 1:
            raise CorruptLogError("no log id in LOCK, and none that the headers agree on")
        log_id = ids.pop()
    elif not files:
        raise CorruptLogError("a log id, but no segments")
    for number, header in valid.items():
        if (header.log_id, header.number) != (log_id, number):
            raise CorruptLogError(f"segment {number}: the header is of another")

    tail_number = max(valid, default=0)
    beyond = sorted(number for number in files if number > tail_number)
    if beyond not in ([], [tail_number + 1]):
        raise CorruptLogError(f"behind tail {tail_number} there are {beyond}")
    if tail_number:
        log = _recover_tail(files, log_id, tail_number)
    else:
        log = Log(log_id, State(), [], Position(0, 0), False, [])
    if beyond:
        data = files[tail_number + 1]
        mark = read_page(data, CLOSE_MARK_OFFSET, CLOSED)
        if mark is not None and (mark.log_id, mark.number) != (log_id, tail_number + 1):
            mark = None
        _judge_behind(log, data, 0, log_id, tail_number + 1, mark)
    return log


def _recover_tail(files: dict[int, bytes], log_id: bytes, number: int) -> Log:
    segment = decode_segment(files[number], log_id, number)
    older = _Older(files, segment.header)
    mark = segment.close_mark
    held: dict[int, Frame] | None = None
    if mark is not None and segment.frame_at(mark.end, mark.last_check) is None:
        held = segment.indexed_entries(mark)
    closed = mark is not None and held is not None
    if mark is not None and held is not None:
        state, end, lowest = mark.state, mark.end, mark.lowest_overridden
    else:
        replay = Replay(segment.header.state)
        end = FRAMES_OFFSET
        for batch in segment.batches:
            if not replay.apply(batch):
                break
            end = batch.end
        state, held, lowest = replay.state, replay.held, replay.lowest_overridden

    found = Log(log_id, state, [], Position(number, end), closed, [])
    _judge_behind(found, segment.data, end, log_id, number, mark)
    if segment.footer is not None and number + 1 not in files:
        raise CorruptLogError(f"segment {number} is sealed and has no successor")

    def entry(index: int) -> Entry:
        if index not in held and index >= lowest:
            raise CorruptLogError(f"segment {number} replaced an entry and has none", index, index)
        return (held[index] if index in held else older.entry(index)).entry

    entries = [entry(index) for index in range(state.first, state.next)]
    segments = [*reversed(older.segments), segment]
    return Log(log_id, state, entries, found.end, closed, segments)


def _judge_behind(
    log: Log, data: bytes, offset: int, log_id: bytes, number: int, mark: Page | None
) -> None:
    """Raises if anything in the file proves that the log went on behind the end found."""
    first = log.state.next
    if mark is not None and mark.watermark > log.end:
        raise CorruptLogError(f"segment {number}: was closed later", first, mark.state.next - 1)
    for at, commit in commits_behind(data, offset, log_id, number):
        if commit.watermark > log.end:
            message = f"segment {number}: the COMMIT at {at} knew of more than is left"
            raise CorruptLogError(message, first, commit.next_index - 1)


def _integer(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], "little")


def _padded(size: int) -> int:
    return -(-size // 8) * 8


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise FormatError(f"a page that verifies breaks a rule: {rule}")
