"""`Wal.verify` notices each byte that the log relies on, and says nothing of any other byte.

What the log relies on is taken from docs/format.md, by the decoder of tests/format. `make test`
flips each byte of a small log's frames, and a sample of all others; `make prove` flips all.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import processes
import pytest
from decoder import COMMIT, ENTRY, Batch, Frame, Segment, read_log
from hostile_logs import Log, closed_log, killed_log, small_log

from pylogwal import Finding, FindingKind
from pylogwal.verification import Verification

PAGE = 4096
LOCK_BYTES = 32
LOGS: dict[str, Callable[[Path], Log]] = {
    "small": small_log,
    "closed": closed_log,
    "killed": killed_log,
}
SAMPLE = 1000


@dataclass(frozen=True)
class Relied:
    """What a finding about one byte has to say."""

    kind: FindingKind
    offset: int
    needed: bool
    indices: tuple[range, ...] = ()
    """One of them, or no index."""
    loses_entry: bool = False
    """Then it has to be named."""


class Located:
    """A log, and for each byte of its files what relies on it."""

    def __init__(self, path: Path, log: Log) -> None:
        self.path = path
        self.log = log
        found = read_log(path)
        self.segments = {f"{segment.number:016x}.wal": segment for segment in found.segments}
        self.tail = f"{found.segments[-1].number:016x}.wal"
        self.closed = found.closed

    def relied(self, name: str, at: int) -> Relied | None:
        """None: the log does not rely on this byte."""
        if name == "LOCK":
            return Relied(FindingKind.LOCK, 0, True) if at < LOCK_BYTES else None
        segment = self.segments.get(name)
        if segment is None or at >= segment.header.size:
            return None
        held = self.log.visible[name]
        visible = (held,)
        is_tail = name == self.tail
        page = segment.close_mark if is_tail and self.closed else segment.footer
        index_bytes = 4 * page.index_count if page is not None else 0
        if at < PAGE:
            # Without header and footer it is not known what the segment replaced in older ones.
            known = range(max(held.start, self.log.begins[name]), held.stop)
            return Relied(FindingKind.HEADER, 0, True, (held, known))
        if at < 2 * PAGE:
            return Relied(FindingKind.CLOSE_MARK, PAGE, False)
        if at >= segment.header.size - PAGE:
            offset = segment.header.size - PAGE
            return None if is_tail else Relied(FindingKind.FOOTER, offset, True, visible)
        if at >= segment.header.size - PAGE - index_bytes:
            return Relied(FindingKind.OFFSET_INDEX, at // 4 * 4, not is_tail, visible)
        return self._relied_frame(name, segment, at)

    def _relied_frame(self, name: str, segment: Segment, at: int) -> Relied | None:
        is_tail = name == self.tail
        for batch in segment.batches:
            for frame in batch.frames:
                if not frame.offset <= at < frame.end:
                    continue
                if is_tail and not self.closed and batch.start >= known_durable(segment):
                    return None  # cannot be told from a torn batch
                if frame.type == COMMIT:
                    return Relied(FindingKind.COMMIT, frame.offset, is_tail, (entries_of(batch),))
                index = self.log.entry_at(name, at)
                needed = is_tail or index is not None
                indices = (indices_of(frame),)
                return Relied(FindingKind.FRAME, frame.offset, needed, indices, index is not None)
        return None


def known_durable(segment: Segment) -> int:
    """The offset below which a COMMIT of the segment knew all to be durable."""
    commits = [frame.commit for frame in segment.frames if frame.type == COMMIT]
    marks = [mark.watermark for mark in commits if mark.watermark.segment == segment.number]
    return max((mark.offset for mark in marks), default=0)


def entries_of(batch: Batch) -> range:
    indices = [frame.index for frame in batch.frames if frame.type == ENTRY]
    return range(indices[0], indices[-1] + 1) if indices else range(0)


def indices_of(frame: Frame) -> range:
    return range(frame.index, frame.index + 1) if frame.type == ENTRY else range(0)


def check(findings: list[Finding], name: str, relied: Relied | None) -> str | None:
    """What is wrong with what was found; None: nothing."""
    if relied is None:
        return f"nothing relies on it, but {findings}" if findings else None
    if len(findings) != 1:
        return f"{relied}, but {findings}"
    found = findings[0]
    segment = None if name == "LOCK" else int(name[:16], 16)
    if (found.file, found.segment, found.kind, found.needed, found.offset) != (
        name,
        segment,
        relied.kind,
        relied.needed,
        relied.offset,
    ):
        return f"{relied}, but {found}"
    if found.first_index is None:
        return f"{relied}, but {found}" if relied.loses_entry else None
    assert found.last_index is not None
    if range(found.first_index, found.last_index + 1) not in relied.indices:
        return f"{relied}, but {found}"
    return None


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    with processes.memory() as path:
        yield Path(path)


@pytest.fixture(scope="module", params=LOGS)
def located(request: pytest.FixtureRequest, memory: Path) -> Located:
    path = memory / request.param
    log = LOGS[request.param](path)
    return Located(path, log)


def places(located: Located, sample: int | None) -> list[tuple[str, int]]:
    """All bytes that the log relies on, or a sample; and a sample of the other bytes."""
    relied: list[tuple[str, int]] = []
    others: list[tuple[str, int]] = []
    for path in sorted(located.path.iterdir()):
        for at in range(path.stat().st_size):
            part = relied if located.relied(path.name, at) else others
            part.append((path.name, at))
    seed = random.randrange(2**32)
    print("seed", seed)
    random_ = random.Random(seed)
    chosen = relied
    if sample is not None:
        chosen = random_.sample(relied, min(sample, len(relied)))
        if located.path.name == "small":
            chosen += [place for place in relied if place[1] >= 2 * PAGE]
    return chosen + random_.sample(others, min(SAMPLE // 2, len(others)))


def flip_all(located: Located, sample: int | None) -> None:
    assert list(Verification(str(located.path))) == []
    wrong = []
    for name, at in places(located, sample):
        descriptor = os.open(located.path / name, os.O_RDWR)
        before = os.pread(descriptor, 1, at)
        os.pwrite(descriptor, bytes([before[0] ^ (1 << at % 8)]), at)
        problem = check(list(Verification(str(located.path))), name, located.relied(name, at))
        os.pwrite(descriptor, before, at)
        os.close(descriptor)
        if problem is not None:
            wrong.append(f"{name} byte {at}: {problem}")
    assert not wrong, f"{len(wrong)}, as " + "\n".join(wrong[:: max(1, len(wrong) // 10)])


def test_a_flipped_byte_is_noticed_where_the_log_relies_on_it(located: Located) -> None:
    flip_all(located, SAMPLE)


@pytest.mark.prove
def test_every_flipped_byte_is_noticed(located: Located) -> None:
    flip_all(located, None)
