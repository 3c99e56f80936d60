"""A Raft log on a real disk: durable, crash-atomic, asyncio, with a C core.

    import asyncio

    import pylogwal
    from pylogwal import Entry

    async def main():
        async with pylogwal.open("node1") as store:  # a directory, created if it is missing
            await store.persist_entries([Entry(index=1, term=1, payload=b"set x 1")])
            print(await store.entry(1))

    asyncio.run(main())

`open` gives a `WalLogStore`; `Wal` is the synchronous handle beneath it, and `MemoryLogStore` the
same store without a disk, for tests. Every error about a log is a `WalError`.
"""

from pylogwal import startup as _startup  # noqa: F401  first: its import is all that it does
from pylogwal.errors import (
    ClosedError,
    ConflictError,
    CorruptionError,
    DiskFullError,
    EntryTooLargeError,
    InvalidEntryError,
    LockedError,
    LogIOError,
    LogNotFoundError,
    PurgedError,
    QueueFullError,
    ReadOnlyError,
    SyncFailedError,
    UnsupportedFormatError,
    WalError,
)
from pylogwal.log_store import WalLogStore, open
from pylogwal.memory import MemoryLogStore
from pylogwal.store import LogStore, MetaStore
from pylogwal.types import (
    Durability,
    Entry,
    Finding,
    FindingKind,
    HardState,
    LogId,
    Stats,
    VerifyProgress,
)
from pylogwal.verification import Verification
from pylogwal.wal import Wal

__version__ = "0.1.0"

__all__ = [
    "open",
    "Wal",
    "WalLogStore",
    "MemoryLogStore",
    "LogStore",
    "MetaStore",
    "Entry",
    "LogId",
    "HardState",
    "Durability",
    "Stats",
    "Finding",
    "FindingKind",
    "VerifyProgress",
    "Verification",
    "WalError",
    "InvalidEntryError",
    "EntryTooLargeError",
    "ConflictError",
    "PurgedError",
    "CorruptionError",
    "UnsupportedFormatError",
    "LockedError",
    "DiskFullError",
    "SyncFailedError",
    "LogNotFoundError",
    "LogIOError",
    "QueueFullError",
    "ClosedError",
    "ReadOnlyError",
]
