"""Everything at once, from threads and tasks, with a switch of threads at every chance.

Every entry says by itself who wrote it and whether it is whole: its term is unique to a write, and
its payload follows from index and term. So a reader can judge what it sees without knowing the
history, and the writers' own record says afterwards what has to be there.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stores import SEGMENT_BYTES

import pylogwal
from pylogwal import (
    ClosedError,
    ConflictError,
    Entry,
    HardState,
    InvalidEntryError,
    LogId,
    PurgedError,
    Wal,
    WalLogStore,
)

ALL = 2**64 - 1
SWITCH_INTERVAL_S = 1e-6


@pytest.fixture(autouse=True)
def jitter() -> Iterator[None]:
    """Threads give way to each other as often as Python can."""
    earlier = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    yield
    sys.setswitchinterval(earlier)


@pytest.fixture
def seed() -> int:
    value = random.randrange(2**32)
    print("seed", value)
    return value


def entry_of(index: int, term: int) -> Entry:
    size = (index * 31 + term * 17) % 900
    return Entry(index, term, (b"%d/%d " % (index, term) * size)[:size], term % 256)


def run(first: int, count: int, term: int) -> list[Entry]:
    return [entry_of(index, term) for index in range(first, first + count)]


class Turns:
    """Terms, each given out once; and what was written in which."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._term = 0
        self.written: dict[int, range] = {}
        """Per term: the indices that were written in it, before anybody could see them."""

    def next(self, first: int, count: int) -> int:
        with self._lock:
            self._term += 1
            self.written[self._term] = range(first, first + count)
            return self._term

    def check(self, entries: list[Entry]) -> None:
        """Each was written as it stands; they follow each other, and terms never decrease."""
        for entry in entries:
            assert entry.index in self.written[entry.term], "an entry that was never there"
            assert entry == entry_of(entry.index, entry.term), "wrong bytes"
        assert [entry.index for entry in entries] == list(
            range(entries[0].index, entries[0].index + len(entries)) if entries else []
        )
        terms = [entry.term for entry in entries]
        assert terms == sorted(terms)


EXPECTED = (ConflictError, InvalidEntryError, PurgedError)
"""What a write may be refused with where another was faster."""


def write_once(wal: Wal, turns: Turns, random_: random.Random) -> None:
    first, last = wal.first_index(), wal.last_index()
    choice = random_.randrange(10)
    count = random_.randrange(1, 6)
    try:
        if choice < 5:
            wal.persist_entries(run(last + 1, count, turns.next(last + 1, count)))
        elif choice == 5:
            at = random_.randrange(max(1, last - 3), last + 2)
            wal.replace_range(at, run(at, count, turns.next(at, count)))
        elif choice == 6:
            wal.truncate(max(1, last - random_.randrange(3)))
        elif choice == 7:
            at = min(last, first + random_.randrange(8))
            term = wal.term(at)
            if term:
                wal.purge(LogId(at, term))
        elif choice == 8:
            wal.save_hard_state(HardState(random_.randrange(9)), sync=random_.random() < 0.5)
        else:
            wal.flush()
    except EXPECTED:
        pass


def read_once(wal: Wal, turns: Turns, random_: random.Random) -> None:
    choice = random_.randrange(5)
    first, last = wal.first_index(), wal.last_index()
    if choice == 0:
        turns.check(wal.get_entries(0, ALL))
    elif choice == 1:
        turns.check(wal.get_entries(max(first, last - 9), last, 2000))
    elif choice == 2:
        entry = wal.entry(random_.randrange(first, last + 2))
        turns.check([entry] if entry else [])
    elif choice == 3:
        wal.load_purge_boundary()
        wal.load_hard_state()
        wal.stats()
        wal.core.segments()
    else:
        index = wal.durable_index()
        with contextlib.suppress(ValueError, ConflictError):  # cut meanwhile
            wal.wait_durable(index, timeout=60)


def in_threads(works: list[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def hold_threads(path: Path, mode: str, seed: int, turns_each: int) -> None:
    turns = Turns()
    wal = Wal(path, durability=mode, segment_bytes=SEGMENT_BYTES)

    def work(once: Callable[[Wal, Turns, random.Random], None], number: int) -> None:
        random_ = random.Random(seed + number)
        for _ in range(turns_each):
            once(wal, turns, random_)

    in_threads(
        [lambda n=n: work(write_once, n) for n in range(3)]
        + [lambda n=n: work(read_once, n) for n in range(3, 6)]
    )
    found = wal.get_entries(0, ALL)
    boundary, hard_state = wal.load_purge_boundary(), wal.load_hard_state()
    turns.check(found)
    wal.close()
    with Wal(path) as wal:
        assert wal.get_entries(0, ALL) == found
        assert (wal.load_purge_boundary(), wal.load_hard_state()) == (boundary, hard_state)


@pytest.mark.parametrize("mode", ["batch", "interval", "manual"])
def test_threads_that_do_everything_at_once_see_only_what_was_written(
    tmp_path: Path, seed: int, mode: str
) -> None:
    hold_threads(tmp_path / "log", mode, seed, 120)


@pytest.mark.prove
@pytest.mark.parametrize("mode", ["batch", "interval", "manual"])
def test_threads_that_do_everything_at_once_for_long(tmp_path: Path, seed: int, mode: str) -> None:
    for number in range(6):
        hold_threads(tmp_path / str(number), mode, seed + 100 * number, 1200)


def test_writers_of_one_index_are_told_apart(tmp_path: Path) -> None:
    """Of all that write the same index at once, in one term, one is acknowledged."""
    count, writers = 60, 5
    winners: dict[int, list[int]] = {}
    start = threading.Barrier(writers)

    def work(wal: Wal, number: int) -> None:
        for index in range(1, count + 1):
            start.wait(60)
            try:
                wal.persist_entries([Entry(index, 1, b"%d" % number)])
            except ConflictError:
                continue
            winners.setdefault(index, []).append(number)

    with Wal(tmp_path / "log", durability="manual") as wal:
        in_threads([lambda n=n: work(wal, n) for n in range(writers)])
        assert {index: len(them) for index, them in winners.items()} == dict.fromkeys(
            range(1, count + 1), 1
        )
        for index, (winner,) in winners.items():
            assert wal.entry(index) == Entry(index, 1, b"%d" % winner)


def until_closed(call: Callable[[], None]) -> None:
    """Again and again; ClosedError is the one end."""
    try:
        while True:
            call()
    except ClosedError:
        pass


def hold_close(path: Path, mode: str, when: int) -> None:
    """Closes, from two threads, when so many appends were acknowledged."""
    wal = Wal(path, durability=mode, segment_bytes=SEGMENT_BYTES)
    acknowledged: list[int] = []

    def append() -> None:
        index = wal.last_index() + 1
        wal.persist_entries(run(index, 1, 1))
        acknowledged.append(index)

    def read() -> None:
        for entry in wal.get_entries(max(1, wal.last_index() - 20), ALL):
            assert entry == entry_of(entry.index, 1)
        wal.stats()
        wal.term(1)

    def close() -> None:
        while len(acknowledged) < when:
            pass
        wal.close()
        with pytest.raises(ClosedError):
            wal.last_index()

    readers = [lambda: until_closed(read)] * 2
    in_threads([lambda: until_closed(append), *readers, close, close])
    with Wal(path) as again:
        found = again.get_entries(1, ALL)
    assert found == run(1, len(found), 1)
    assert len(found) >= max(acknowledged)


@pytest.mark.parametrize("mode", ["batch", "interval", "manual"])
def test_a_close_amid_everything_ends_every_call_with_a_closed_error(
    tmp_path: Path, mode: str
) -> None:
    for number in range(5):
        hold_close(tmp_path / str(number), mode, 7 * number + 1)


async def write_task(store: WalLogStore, turns: Turns, random_: random.Random, count: int) -> None:
    for _ in range(count):
        first, last = store.first_index(), store.last_index()
        choice = random_.randrange(10)
        size = random_.randrange(1, 5)
        try:
            if choice < 5:
                await store.submit(run(last + 1, size, turns.next(last + 1, size)), HardState(1))
            elif choice == 5:
                at = random_.randrange(max(1, last - 3), last + 2)
                await store.replace_range(at, run(at, size, turns.next(at, size)))
            elif choice == 6:
                await store.truncate(max(1, last - 1))
            elif choice == 7:
                at = min(last, first + random_.randrange(5))
                await store.purge(LogId(at, store.term(at) or 0))
            elif choice == 8:
                await asyncio.wait_for(store.flush_async(), 60)
            else:
                task = asyncio.ensure_future(store.save_hard_state_async(HardState(2)))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        except EXPECTED:
            pass


async def read_task(store: WalLogStore, turns: Turns, random_: random.Random, count: int) -> None:
    for _ in range(count):
        turns.check(store.get_entries(max(1, store.last_index() - 30), ALL))
        entry = await store.entry(store.last_index())
        turns.check([entry] if entry else [])
        await asyncio.sleep(0)


def hold_tasks(path: Path, mode: str, seed: int, count: int) -> None:
    """Tasks in two loops, and threads, on one store."""
    turns = Turns()

    async def open_store() -> WalLogStore:
        return await pylogwal.open(path, durability=mode, segment_bytes=SEGMENT_BYTES)

    store = asyncio.run(open_store())

    async def work(number: int) -> None:
        tasks = [
            *(write_task(store, turns, random.Random(seed + number + n), count) for n in range(6)),
            *(read_task(store, turns, random.Random(seed - number - n), count) for n in range(3)),
        ]
        await asyncio.gather(*tasks)

    def write() -> None:
        random_ = random.Random(seed)
        for _ in range(count):
            write_once(store.wal, turns, random_)
            read_once(store.wal, turns, random_)

    in_threads([lambda: asyncio.run(work(10)), lambda: asyncio.run(work(20)), write])
    found = store.get_entries(0, ALL)
    turns.check(found)
    asyncio.run(store.aclose())
    with Wal(path) as wal:
        assert wal.get_entries(0, ALL) == found


@pytest.mark.parametrize("mode", ["batch", "interval", "manual"])
def test_tasks_in_two_loops_and_threads_on_one_store(tmp_path: Path, seed: int, mode: str) -> None:
    hold_tasks(tmp_path / "log", mode, seed, 25)


@pytest.mark.prove
@pytest.mark.parametrize("mode", ["batch", "interval", "manual"])
def test_tasks_in_two_loops_and_threads_for_long(tmp_path: Path, seed: int, mode: str) -> None:
    for number in range(5):
        hold_tasks(tmp_path / str(number), mode, seed + 1000 * number, 250)


@pytest.mark.parametrize("mode", ["batch", "interval", "manual"])
async def test_a_close_amid_many_tasks_answers_every_one(tmp_path: Path, mode: str) -> None:
    for number in range(10):
        path = tmp_path / str(number)
        store = await pylogwal.open(path, durability=mode, segment_bytes=SEGMENT_BYTES)
        futures = [store.submit(run(index, 1, 1)) for index in range(1, 120)]
        tasks = [asyncio.ensure_future(store.flush_async()) for _ in range(5)]
        tasks += [asyncio.ensure_future(store.aclose()) for _ in range(3)]
        for _ in range(number):
            await asyncio.sleep(0)
        outcomes = await asyncio.wait_for(
            asyncio.gather(*futures, *tasks, return_exceptions=True), 60
        )
        assert {type(outcome) for outcome in outcomes} <= {type(None), ClosedError}
        written = sum(outcome is None for outcome in outcomes[:119])
        with Wal(path) as wal:
            found = wal.get_entries(1, ALL)
        assert len(found) >= written
        assert found == run(1, len(found), 1)
