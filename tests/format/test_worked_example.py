"""The worked example in docs/format.md is a batch, and says of each field what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from crc32c import crc32c
from decoder import COMMIT, ENTRY, EPOCH, Entry, Position, Replay, State, decode_segment
from encoder import SegmentBuilder

SEED_PARTS = ((0, 16), (16, 24), (24, 32))
"""Where log id, segment number and nonce lie in what the seed is made of."""

DOCUMENT = Path(__file__).parents[2] / "docs" / "format.md"


class Field(NamedTuple):
    offset: int
    data: bytes
    text: str


class Example(NamedTuple):
    seed_input: bytes
    seed: int
    next_offset: int
    fields: list[Field]

    @property
    def batch(self) -> bytes:
        return b"".join(field.data for field in self.fields)


@pytest.fixture(scope="module")
def example() -> Example:
    text = DOCUMENT.read_text().split("## A worked example\n")[1]
    rows = re.findall(r"^    ([0-9a-f]{4})  ((?:[0-9a-f]{2} )+) *([^ ].*)$", text, re.MULTILINE)
    return Example(
        bytes.fromhex(found(r"^    ((?:[0-9a-f]{2} +){31}[0-9a-f]{2})$", text)),
        int(found(r"CRC32C, ([0-9a-f]{8})", text), 16),
        int(found(r"next frame would start at ([0-9a-f]{4})", text), 16),
        [Field(int(offset, 16), bytes.fromhex(data), words) for offset, data, words in rows],
    )


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match is not None, f"the example does not say {pattern}"
    return match.group(1)


def begun(example: Example) -> SegmentBuilder:
    """The example's segment, without a frame."""
    log_id, number, nonce = (example.seed_input[start:stop] for start, stop in SEED_PARTS)
    return SegmentBuilder(log_id, int.from_bytes(number, "little"), int.from_bytes(nonce, "little"))


def test_its_fields_follow_each_other_without_a_gap(example: Example) -> None:
    at = 8192
    for field in example.fields:
        assert field.offset == at, field
        at += len(field.data)
    assert at == example.next_offset


def test_its_numbers_are_those_in_the_bytes(example: Example) -> None:
    said = [(field, re.search(r": (\d+)", field.text)) for field in example.fields]
    numbers = [(field, int(match.group(1))) for field, match in said if match]
    assert len(numbers) == 3 * 5 + 4
    for field, number in numbers:
        assert int.from_bytes(field.data, "little") == number, field


def test_its_seed_is_the_checksum_of_the_bytes_above_it(example: Example) -> None:
    assert crc32c(example.seed_input) == example.seed


def test_the_encoder_writes_it(example: Example) -> None:
    segment = begun(example)
    (random,) = (field.data for field in example.fields if field.text == "random")
    segment.epoch(random)
    segment.entry(1, 1, b"set x 1", kind=2)
    segment.commit()
    assert bytes(segment.frames) == example.batch
    assert segment.offset == example.next_offset


def test_the_decoder_reads_it(example: Example) -> None:
    segment = begun(example)
    segment.raw(example.batch)
    decoded = decode_segment(segment.image(), segment.log_id, segment.number)
    assert decoded.seed == example.seed
    assert [frame.type for frame in decoded.frames] == [EPOCH, ENTRY, COMMIT]
    assert decoded.frames[-1].end == example.next_offset
    (batch,) = decoded.batches
    assert batch.commit.commit == (8192, 2, Position(0, 0))
    replay = Replay(State())
    assert replay.apply(batch)
    assert replay.state == State(first=1, next=2, last_term=1)
    assert [frame.entry for frame in replay.held.values()] == [Entry(1, 1, b"set x 1", 2)]
