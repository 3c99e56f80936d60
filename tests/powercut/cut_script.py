"""An endless history of writes. The same seed makes the same write at the same number from the same
state; so whoever knows the number of a write knows the state that it leads to.

The term of whatever a write brings is the write's own number: an entry that is durable says which
write is, and no two writes bring the same.
"""

from __future__ import annotations

from random import Random
from typing import Any, Literal, NamedTuple

from stores import State, restore, state_of

from pylogwal import Entry, HardState, LogId
from pylogwal.memory import MemoryWal

SEGMENT_BYTES = 65536


class Write(NamedTuple):
    """A call of a store."""

    number: int
    method: str
    """Of `Wal`."""
    arguments: tuple[Any, ...]
    durable: Literal["always", "in batch", "never"]
    """When it has returned, in these modes."""
    covers: int
    """The number of the last write that is then durable: its own, unless it wrote nothing."""

    def apply(self, log: MemoryWal) -> None:
        """Writes it there."""
        if self.method == "save_hard_state":
            log.save_hard_state(*self.arguments)
        else:
            getattr(log, self.method)(*self.arguments)


class Script:
    """The writes of one seed, and the state after each."""

    def __init__(self, seed: int, start: State, number: int) -> None:
        self.seed = seed
        self.number = number
        self._eager = Random(seed).choice((1.0, 0.3, 0.05))
        """How often what is durable in every mode is written, so that the others are on trial."""
        self._model = MemoryWal(durability="manual")
        restore(self._model, start)

    @property
    def state(self) -> State:
        """After the last write."""
        return state_of(self._model)

    def next(self) -> Write:
        """One write further."""
        self.number += 1
        write = self._choose(Random(self.seed << 32 | self.number))
        write.apply(self._model)
        return write

    def _choose(self, random: Random) -> Write:
        first, last = self._model.first_index(), self._model.last_index()
        if last < first or random.random() < 0.45:
            return self._append(random, last)
        recent = random.randint(max(first, last - 20), last)
        choice = random.randrange(100)
        if choice < 12:  # as a follower whose leader has changed
            return self._persist(random, recent)
        if choice < 20:
            return self._repeat(max(first, last - random.randrange(6)))
        if choice < 35:
            return self._new("replace_range", recent, self._entries(random, recent))
        if choice < 50:
            return self._new("truncate", recent)
        if choice < 60:
            return self._new("save_hard_state", self._hard_state(random), durable="never")
        if random.random() > self._eager:
            return self._append(random, last)
        if choice < 70:
            return self._new("save_hard_state", self._hard_state(random), durable="always")
        if choice < 80:
            return self._new("flush", durable="always")
        if choice < 97:
            cutoff = random.randint(first, last)
            return self._purge(cutoff, self._model.term(cutoff) or 0)
        if choice < 99:
            return self._purge(last + random.randint(1, 9), self.number)
        return self._new("reset", durable="always")

    def _new(
        self,
        method: str,
        *arguments: Any,
        durable: Literal["always", "in batch", "never"] = "in batch",
    ) -> Write:
        return Write(self.number, method, arguments, durable, self.number)

    def _append(self, random: Random, last: int) -> Write:
        blank = last == 0 and self._model.load_purge_boundary() is None
        return self._persist(random, random.choice((1, 1, 1000)) if blank else last + 1)

    def _persist(self, random: Random, first: int) -> Write:
        entries = self._entries(random, first)
        if random.random() < 0.2 * self._eager:
            return self._new("persist_entries", entries, self._hard_state(random), durable="always")
        return self._new("persist_entries", entries)

    def _repeat(self, first: int) -> Write:
        """What the log holds already: nothing is written, and yet it is durable on return."""
        entries = self._model.get_entries(first, self._model.last_index())
        return self._new("persist_entries", entries)._replace(covers=entries[-1].term)

    def _purge(self, index: int, term: int) -> Write:
        return self._new("purge", LogId(index, term), durable="always")

    def _entries(self, random: Random, first: int) -> list[Entry]:
        count = random.choice((1, 1, 2, 4, random.randint(1, 30)))
        return [self._entry(random, index) for index in range(first, first + count)]

    def _entry(self, random: Random, index: int) -> Entry:
        limit = random.choices((300, 1500, 20_000, 90_000), (700, 280, 20, 1))[0]
        size = random.randrange(limit)  # the largest are larger than a segment
        text = b"%d.%d.%d " % (self.seed, self.number, index)
        payload = (text * (size // len(text) + 1))[:size]
        return Entry(index, self.number, payload, random.randrange(256))

    def _hard_state(self, random: Random) -> HardState:
        vote = random.choice((None, "", f"node{self.number}", "n" * 255))
        extra = random.randbytes(random.choice((0, 0, 16, 2048)))
        return HardState(self.number, vote, random.randrange(1000), extra)
