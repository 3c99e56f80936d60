"""One way to open, look at and reopen every kind of store that must keep the contract."""

from __future__ import annotations

import asyncio
import gc
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import pylogwal
from pylogwal import Durability, Entry, HardState, LogId, MemoryLogStore, Wal, WalLogStore
from pylogwal.memory import MemoryWal

if TYPE_CHECKING:
    from typing_extensions import Self

SEGMENT_BYTES = 65536
"""The smallest there is, so that every test that writes a little more meets a roll."""

MEMORY_KINDS = ("memory", "memory-interval", "memory-manual")
DISK_KINDS = ("wal-batch", "wal-interval", "wal-manual", "wal-sync")
KINDS = MEMORY_KINDS + DISK_KINDS

every_mode_on_disk = pytest.mark.parametrize("stores", DISK_KINDS, indirect=True)
"""For tests that reopen, which memory does not survive."""


class WalInAsyncClothes:
    """The synchronous `Wal` behind the names of the async store, to hold it to the same tests."""

    def __init__(self, wal: Wal) -> None:
        self.wal = wal

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wal, name)

    def submit(
        self, entries: Iterable[Entry], hard_state: HardState | None = None
    ) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.wal.persist_entries(entries, hard_state)
        future.set_result(None)
        return future

    async def persist_entries(
        self, entries: Iterable[Entry], hard_state: HardState | None = None
    ) -> None:
        self.wal.persist_entries(entries, hard_state)

    async def entry(self, index: int) -> Entry | None:
        return self.wal.entry(index)

    async def purge(self, cutoff: LogId) -> None:
        self.wal.purge(cutoff)

    async def truncate(self, from_index: int) -> None:
        self.wal.truncate(from_index)

    async def replace_range(self, from_index: int, new_entries: Iterable[Entry]) -> None:
        self.wal.replace_range(from_index, new_entries)

    async def reset(self) -> None:
        self.wal.reset()

    async def flush_async(self) -> None:
        self.wal.flush()

    async def save_hard_state_async(self, state: HardState, *, sync: bool = True) -> None:
        self.wal.save_hard_state(state, sync=sync)

    async def wait_durable(self, index: int) -> None:
        self.wal.wait_durable(index)

    async def aclose(self) -> None:
        self.wal.close()

    async def __aenter__(self) -> Self:
        self.wal.__enter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.wal.close()


# What the tests may call; the other kinds have the same methods, which is what is tested.
Store = WalLogStore


class Stores:
    """Opens stores of one kind in one directory, and knows what is still open."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.directory = directory
        self.on_disk = kind in DISK_KINDS
        suffix = kind.partition("-")[2]
        self.mode = Durability(suffix) if suffix in set(Durability) else Durability.BATCH
        self._opened: list[Any] = []

    async def open(self, **options: Any) -> Store:
        options = {"durability": self.mode, **options}
        store: Any
        if not self.on_disk:
            options.pop("segment_bytes", None)
            store = MemoryLogStore(**options)
        else:
            options = {"segment_bytes": SEGMENT_BYTES, **options}
            if self.kind == "wal-sync":
                store = WalInAsyncClothes(Wal(self.directory, **options))
            else:
                store = await pylogwal.open(self.directory, **options)
        self._opened.append(store)
        return store  # type: ignore[no-any-return]

    async def reopen(self, store: Store, **options: Any) -> Store:
        """Closes the store and opens its directory again. Memory: the same store."""
        if not self.on_disk:
            return store
        await store.aclose()
        return await self.open(**options)

    async def close_all(self) -> None:
        for store in self._opened:
            await store.aclose()

    def drop_all(self) -> None:
        """Lets go of every store, unclosed. The caller must have let go of them before."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            self._opened.clear()
            gc.collect()
            gc.collect()  # PyPy finalizes a store in one collection, and its handle in the next


class State(NamedTuple):
    """All that a reader can see of a store, durability apart."""

    first: int
    last: int
    boundary: LogId | None
    entries: list[Entry]
    hard_state: HardState | None


BLANK = State(first=1, last=0, boundary=None, entries=[], hard_state=None)


def state_of(store: WalLogStore | MemoryLogStore | Wal | MemoryWal) -> State:
    return State(
        first=store.first_index(),
        last=store.last_index(),
        boundary=store.load_purge_boundary(),
        entries=store.get_entries(0, 2**64 - 1),
        hard_state=store.load_hard_state(),
    )


def restore(log: Wal | MemoryWal, state: State) -> None:
    """Brings a log to this state. One without a hard state needs a log that never had one."""
    log.reset()
    if state.boundary is not None:
        log.purge(state.boundary)
    if state.entries:
        log.replace_range(state.first, state.entries)
    if state.hard_state is not None:
        log.save_hard_state(state.hard_state)


def indices(store: Store) -> list[int]:
    return [entry.index for entry in state_of(store).entries]


def terms(store: Store) -> list[int]:
    return [entry.term for entry in state_of(store).entries]


def run(first: int, last: int, term: int = 1, payload: bytes = b"") -> list[Entry]:
    """Entries first..last of one term, each with a payload of its own."""
    return [Entry(i, term, payload or b"%d in term %d" % (i, term)) for i in range(first, last + 1)]


@contextmanager
def refused(
    store: Store, error: type[Exception], match: str | None = None, *, exactly: bool = True
) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """The block raises `error`, by default of exactly this type, and the store is as before."""
    before = state_of(store)
    with pytest.raises(error, match=match) as raised:
        yield raised
    assert type(raised.value) is error or not exactly
    assert state_of(store) == before


def flip(path: Path, offset: int, size: int = 1) -> None:
    """Flips a bit of each of so many bytes of a file, in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        content = file.read(size)
        file.seek(offset)
        file.write(bytes(byte ^ 1 for byte in content))


def copy_beside_writer(path: Path, copy: Path) -> None:
    """A log as a kill of its writer would leave it, in the place of any earlier copy. Without
    spares, which the file thread may rename meanwhile.
    """
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("*.spare"))
