"""What `pylogwal demo` writes, what the log then has to hold, and whether it does."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pylogwal.types import Entry
from pylogwal.verify import Damage, read_through
from pylogwal.wal import Wal

__all__ = ["Model", "Source", "default_text", "lost_entries"]

PIECE_BYTES = 64 * 1024
DEFAULT_TEXT_BYTES = 8 * 1024 * 1024


def default_text() -> bytes:
    """The sources of this package, and of the library that comes with Python."""
    text = bytearray()
    for folder in (Path(__file__).parent, Path(sysconfig.get_paths()["stdlib"])):
        for path in sorted(folder.glob("*.py")):
            if len(text) < DEFAULT_TEXT_BYTES:
                text += path.read_bytes()
    return bytes(text)


class Source:
    """Text as the payloads of a log: a line each, and from the start again where it ends."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.pieces = [
            line[at : at + PIECE_BYTES]
            for line in text.splitlines(keepends=True)
            for at in range(0, len(line), PIECE_BYTES)
        ]

    def payloads(self, first: int, last: int, shift: int = 0) -> list[bytes]:
        """Of the entries first..last, `shift` lines further on."""
        start, count = first - 1 + shift, len(self.pieces)
        return [self.pieces[place % count] for place in range(start, start + last - first + 1)]

    def entries(self, first: int, last: int, term: int, shift: int = 0) -> list[Entry]:
        """The entries first..last as the leader of `term` sends them."""
        payloads = self.payloads(first, last, shift)
        return [Entry(index, term, payload) for index, payload in enumerate(payloads, first)]


class Span(NamedTuple):
    """Entries of one term, from one place of the source."""

    first: int
    last: int
    term: int
    shift: int


@dataclass
class Model:
    """What a log has to hold: nothing below `first`, then the spans, one behind the other."""

    source: Source
    first: int = 1
    spans: list[Span] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The last index."""
        return self.spans[-1].last if self.spans else self.first - 1

    def append(self, first: int, last: int, term: int, shift: int = 0) -> None:
        """The entries first..last, in place of what is there and behind."""
        self.truncate(first)
        if first <= last:
            self.spans.append(Span(first, last, term, shift))

    def truncate(self, from_index: int) -> None:
        """Nothing from there on."""
        kept = [span for span in self.spans if span.first < from_index]
        self.spans = [span._replace(last=min(span.last, from_index - 1)) for span in kept]

    def wrong(self, entries: list[Entry]) -> int:
        """How many of these, the first of which has the right index, are not what is due."""
        wrong = len(entries)
        for span, part in self._parts(entries):
            due = self.source.payloads(part[0].index, part[-1].index, span.shift)
            if [entry.payload for entry in part] == due and {e.term for e in part} == {span.term}:
                wrong -= len(part)
            else:
                wrong -= sum(
                    entry.payload == payload and entry.term == span.term
                    for entry, payload in zip(part, due, strict=True)
                )
        return wrong

    def _parts(self, entries: list[Entry]) -> Iterator[tuple[Span, list[Entry]]]:
        start, stop = entries[0].index, entries[-1].index + 1
        for span in self.spans:
            first, end = max(span.first, start), min(span.last + 1, stop)
            if first < end:
                yield span, entries[first - start : end - start]


def lost_entries(wal: Wal, model: Model, acknowledged: int) -> int:
    """Holds the log against the model, byte for byte. Counts the entries up to `acknowledged` that
    are not there, and all that are there and are damaged or not what is due.
    """
    lost = max(0, wal.first_index() - model.first)
    lost += max(0, acknowledged - max(wal.last_index(), model.first - 1))
    for found in read_through(wal, wal.first_index(), wal.last_index()):
        if isinstance(found, Damage):
            assert found.first_index is not None
            assert found.last_index is not None
            lost += found.last_index - found.first_index + 1
        else:
            lost += model.wrong(found)
    return lost
