"""The same work on other stores of Python: batches of entries appended, durable each or not at all,
and read back. What each is told, and what that means, stands beside it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pylogwal
from pylogwal import Entry


class Peer(Protocol):
    """One open store."""

    def append(self, entries: Sequence[Entry]) -> None: ...

    def read(self, first: int, last: int) -> list[Any]: ...

    def close(self) -> None: ...


def key_of(index: int) -> bytes:
    return index.to_bytes(8, "big")


def value_of(entry: Entry) -> bytes:
    return entry.term.to_bytes(8, "big") + bytes([entry.kind]) + entry.payload


def entry_of(key: bytes, value: bytes) -> Entry:
    return Entry(int.from_bytes(key, "big"), int.from_bytes(value[:8], "big"), value[9:], value[8])


class Pylogwal:
    """durability="batch": an fdatasync for each batch. "manual": none."""

    def __init__(self, path: Path, durable: bool) -> None:
        self._wal = pylogwal.Wal(path, durability="batch" if durable else "manual")
        self.append = self._wal.persist_entries
        self.read = self._wal.get_entries
        self.close = self._wal.close


class Sqlite:
    """WAL mode. synchronous=FULL: an fsync of the WAL at each commit; OFF: none."""

    def __init__(self, path: Path, durable: bool) -> None:
        path.mkdir()
        self._db = sqlite3.connect(path / "db", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
        self._db.execute(
            "CREATE TABLE log (i INTEGER PRIMARY KEY, term INT, payload BLOB, kind INT)"
        )

    def append(self, entries: Sequence[Entry]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", entries)
        self._db.execute("COMMIT")

    def read(self, first: int, last: int) -> list[Any]:
        rows = self._db.execute("SELECT * FROM log WHERE i BETWEEN ? AND ?", (first, last))
        return list(map(Entry._make, rows))

    def close(self) -> None:
        self._db.close()


class Lmdb:
    """sync=True: data and metadata synced at each commit. sync=False: not."""

    def __init__(self, path: Path, durable: bool) -> None:
        import lmdb

        self._env = lmdb.open(str(path), map_size=8 << 30, sync=durable, metasync=durable)

    def append(self, entries: Sequence[Entry]) -> None:
        with self._env.begin(write=True) as transaction:
            for entry in entries:
                transaction.put(key_of(entry.index), value_of(entry), append=True)

    def read(self, first: int, last: int) -> list[Any]:
        with self._env.begin() as transaction:
            cursor = transaction.cursor()
            cursor.set_range(key_of(first))
            end = key_of(last)
            found = []
            for key, value in cursor:
                if key > end:
                    break
                found.append(entry_of(key, value))
            return found

    def close(self) -> None:
        self._env.close()


class Rocksdict:
    """A write batch with WriteOptions.sync: the WAL is synced. Without: only written."""

    def __init__(self, path: Path, durable: bool) -> None:
        import rocksdict

        self._module = rocksdict
        self._db = rocksdict.Rdict(str(path), rocksdict.Options(raw_mode=True))
        self._options = rocksdict.WriteOptions()
        self._options.sync = durable

    def append(self, entries: Sequence[Entry]) -> None:
        batch = self._module.WriteBatch(raw_mode=True)
        for entry in entries:
            batch.put(key_of(entry.index), value_of(entry))
        self._db.write(batch, self._options)

    def read(self, first: int, last: int) -> list[Any]:
        end = key_of(last)
        found = []
        for key, value in self._db.items(from_key=key_of(first)):
            if key > end:
                break
            found.append(entry_of(key, value))
        return found

    def close(self) -> None:
        self._db.close()


class Plyvel:
    """LevelDB; a write batch with sync=True: the log is synced. Without: only written."""

    def __init__(self, path: Path, durable: bool) -> None:
        import plyvel

        self._db = plyvel.DB(str(path), create_if_missing=True)
        self._durable = durable

    def append(self, entries: Sequence[Entry]) -> None:
        with self._db.write_batch(sync=self._durable) as batch:
            for entry in entries:
                batch.put(key_of(entry.index), value_of(entry))

    def read(self, first: int, last: int) -> list[Any]:
        rows = self._db.iterator(start=key_of(first), stop=key_of(last + 1))
        return [entry_of(key, value) for key, value in rows]

    def close(self) -> None:
        self._db.close()


class Pysyncobj:
    """PySyncObj's own FileJournal; its flush (msync of the mapped file, in Linux an fdatasync)
    after each batch, or never. Keeps all entries in memory, too, and reads from there.
    """

    def __init__(self, path: Path, durable: bool) -> None:
        from pysyncobj.journal import FileJournal

        path.mkdir()
        self._journal = FileJournal(str(path / "journal"))
        self._durable = durable

    def append(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._journal.add(entry.payload, entry.index, entry.term)
        if self._durable:
            self._journal.flush()

    def read(self, first: int, last: int) -> list[Any]:
        return [self._journal[index - 1] for index in range(first, last + 1)]

    def close(self) -> None:
        self._journal = None


PEERS: dict[str, Callable[[Path, bool], Peer]] = {
    "pylogwal": Pylogwal,
    "sqlite3": Sqlite,
    "lmdb": Lmdb,
    "rocksdict": Rocksdict,
    "plyvel": Plyvel,
    "pysyncobj journal": Pysyncobj,
}
