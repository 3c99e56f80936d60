"""Random histories whose every entry can be judged alone: the payload follows from index and term,
and no two entries have the same index and term.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from pylogwal import Entry, HardState, LogId, Wal


def payload_of(index: int, term: int) -> bytes:
    size = (index * 7919 + term * 104729) % 700
    return (b"%d/%d " % (index, term) * (size // 4 + 1))[:size]


def entry_of(index: int, term: int) -> Entry:
    return Entry(index, term, payload_of(index, term), (index + term) % 256)


def is_right(entry: Entry) -> bool:
    return entry == entry_of(entry.index, entry.term)


def entries_of(first: int, count: int, term: int) -> list[Entry]:
    return [entry_of(index, term) for index in range(first, first + count)]


def step(wal: Wal, random_: random.Random, term: int) -> None:
    """One random write. `term` is higher than any before."""
    last, first = wal.last_index(), wal.first_index()
    choice = random_.randrange(100)
    if choice < 55 or last < first:
        wal.persist_entries(entries_of(last + 1, random_.randrange(1, 30), term))
    elif choice < 65:
        wal.truncate(random_.randrange(max(first, last - 20), last + 1))
    elif choice < 75:
        at = random_.randrange(max(first, last - 20), last + 1)
        wal.replace_range(at, entries_of(at, random_.randrange(1, 25), term))
    elif choice < 82:
        at = random_.randrange(max(first, last - 20), last + 1)
        wal.persist_entries(entries_of(at, random_.randrange(1, 25), term), HardState(term))
    elif choice < 96:
        cutoff = random_.randrange(first, last + 1)
        wal.purge(LogId(cutoff, wal.term(cutoff) or 0))
    elif choice < 98:
        wal.purge(LogId(last + random_.randrange(1, 9), term))
    else:
        wal.save_hard_state(HardState(term, f"n{term}"))


def write_history(wal: Wal, seed: int, steps: int, told: Callable[[], None] = lambda: None) -> None:
    """Random writes, each in a term of its own. Calls `told` after each."""
    random_ = random.Random(seed)
    term = 1 + max(wal.term(wal.last_index()) or 0, (wal.load_hard_state() or HardState(0)).term)
    for number in range(steps):
        step(wal, random_, term + number)
        told()
