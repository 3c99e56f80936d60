"""Reading a log through to its end, past what is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pylogwal.errors import CorruptionError, PurgedError
from pylogwal.types import Entry
from pylogwal.wal import Wal

__all__ = ["Damage", "read_through"]

CHUNK_ENTRIES = 4096
CHUNK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Damage:
    """A place where a log is damaged, and the entries that are lost by it."""

    file: str | None
    offset: int | None
    """In bytes, in `file`: where the first of them stood."""
    first_index: int | None
    last_index: int | None
    """None: to the end, which is not known."""
    message: str

    @classmethod
    def of(cls, error: CorruptionError) -> Damage:
        """What an error tells."""
        return cls(error.file, error.offset, error.first_index, error.last_index, str(error))

    def joined(self, later: Damage) -> Damage | None:
        """Both as one, where `later` goes on in the same file at the next index."""
        if self.file != later.file or self.last_index is None:
            return None
        if later.first_index != self.last_index + 1:
            return None
        return replace(self, last_index=later.last_index)

    def __str__(self) -> str:
        where = self.file or "the log"
        if self.offset is not None:
            where += f" at byte {self.offset}"
        if self.first_index is None:
            return where
        if self.last_index is None:
            return f"{where}: entries from {self.first_index} on"
        if self.first_index == self.last_index:
            return f"{where}: entry {self.first_index}"
        return f"{where}: entries {self.first_index}..{self.last_index}"


def read_through(wal: Wal, first: int, last: int) -> Iterator[list[Entry] | Damage]:
    """The entries first..last of a read-only handle, clipped to what exists, in order and a few
    thousand at a time; in between, what is damaged.

    What a live writer purges or cuts meanwhile is left out. Raises WalError where a file cannot be
    read.
    """
    at = max(first, wal.first_index())
    last = min(last, wal.last_index())
    count = CHUNK_ENTRIES
    while at <= last:
        try:
            entries = wal.get_entries(at, min(last, at + count - 1), CHUNK_BYTES)
        except PurgedError:
            wal.refresh()
            at, last = max(at, wal.first_index()), min(last, wal.last_index())
            continue
        except CorruptionError as error:
            damage = Damage.of(error)
            assert damage.first_index is not None
            assert damage.last_index is not None
            if damage.first_index > at:
                count = damage.first_index - at  # what lies before it comes first
                continue
            yield damage
            at = damage.last_index + 1
        else:
            yield entries
            at = entries[-1].index + 1
        count = CHUNK_ENTRIES
