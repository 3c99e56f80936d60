"""The same work on other stores: batches of entries appended, durable each or not at all, and
read back. What each is told, and what that means for the disk, stands beside it, in KINDS; those
in other languages are behind rust/ and go/, which say more.

That each durable one does sync, strace has counted; 100 appends of one entry, and in brackets how
many syncs there are without them being durable (opening, closing, filling files in advance):

    pylogwal            359 fdatasync (260)      d-engine files     101 fsync (1)
    sqlite3             109 fdatasync (4)        d-engine rocksdb   not counted
    lmdb                100 fdatasync (0)        raft-engine        102 fdatasync (2)
    rocksdict           108 fdatasync (8)        etcd wal           102 fdatasync (1)
    plyvel              104 fdatasync (4)        raft-wal           103 fsync (always)
    pysyncobj journal   100 msync (0)
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from harness import Program, Sample, make_batches, sample

import pylogwal
from pylogwal import Entry

HERE = Path(__file__).parent
BUILT = HERE.parent.parent / "build" / "peers"
PAYLOAD = 128


class Store(Protocol):
    """One open store, wherever it runs. `opened` is the seconds that opening it took, the last
    entry read included.
    """

    opened: float

    def append(self, calls: int, batch: int) -> Sample:
        """`calls` times `batch` entries of random bytes behind what is there."""

    def read(self, first: int, count: int) -> float:
        """Seconds, until so many entries are objects of the store's language."""

    def close(self) -> None: ...


class Here(Store):
    """A store of Python, in this process."""

    def __init__(self, open_peer: Callable[[Path, bool], Peer], path: Path, durable: bool) -> None:
        start = time.perf_counter()
        self._peer = open_peer(path, durable)
        self._last = self._peer.last()
        self.opened = time.perf_counter() - start

    def append(self, calls: int, batch: int) -> Sample:
        batches = make_batches(self._last + 1, calls, batch, PAYLOAD)
        self._last += calls * batch
        return sample(self._peer.append, batches)

    def read(self, first: int, count: int) -> float:
        start = time.perf_counter()
        found = self._peer.read(first, first + count - 1)
        seconds = time.perf_counter() - start
        assert len(found) == count
        return seconds

    def close(self) -> None:
        self._peer.close()


class There(Store):
    """A store of another language, behind rust/ or go/."""

    def __init__(self, program: Path, name: str, path: Path, durable: bool) -> None:
        self._program = Program(program, name, path, str(int(durable)))
        self.opened = self._program.answer()["seconds"]

    def append(self, calls: int, batch: int) -> Sample:
        return self._program.sample(f"append {calls} {batch} {PAYLOAD}")

    def read(self, first: int, count: int) -> float:
        answer = self._program.ask(f"read {first} {count}")
        assert answer["count"] == count
        return float(answer["seconds"])

    def close(self) -> None:
        self._program.close()


class Peer(Protocol):
    """An open store of Python."""

    def append(self, entries: Sequence[Entry]) -> None: ...

    def read(self, first: int, last: int) -> list[Any]: ...

    def last(self) -> int:
        """The last entry's index, the entry itself read; 0 where there is none."""

    def close(self) -> None: ...


def key_of(index: int) -> bytes:
    return index.to_bytes(8, "big")


def value_of(entry: Entry) -> bytes:
    return entry.term.to_bytes(8, "big") + bytes([entry.kind]) + entry.payload


def entry_of(key: bytes, value: bytes) -> Entry:
    return Entry(int.from_bytes(key, "big"), int.from_bytes(value[:8], "big"), value[9:], value[8])


class Pylogwal:
    def __init__(self, path: Path, durable: bool) -> None:
        self._wal = pylogwal.Wal(path, durability="batch" if durable else "manual")
        self.append = self._wal.persist_entries
        self.read = self._wal.get_entries
        self.close = self._wal.close

    def last(self) -> int:
        index = self._wal.last_index()
        return self._wal.get_entries(index, index)[0].index if index else 0


class Sqlite:
    def __init__(self, path: Path, durable: bool) -> None:
        path.mkdir(exist_ok=True)
        self._db = sqlite3.connect(path / "db", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS log "
            "(i INTEGER PRIMARY KEY, term INT, payload BLOB, kind INT)"
        )

    def append(self, entries: Sequence[Entry]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", entries)
        self._db.execute("COMMIT")

    def read(self, first: int, last: int) -> list[Any]:
        rows = self._db.execute("SELECT * FROM log WHERE i BETWEEN ? AND ?", (first, last))
        return list(map(Entry._make, rows))

    def last(self) -> int:
        row = self._db.execute("SELECT * FROM log ORDER BY i DESC LIMIT 1").fetchone()
        return Entry._make(row).index if row else 0

    def close(self) -> None:
        self._db.close()


class Lmdb:
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

    def last(self) -> int:
        with self._env.begin() as transaction:
            cursor = transaction.cursor()
            return entry_of(*cursor.item()).index if cursor.last() else 0

    def close(self) -> None:
        self._env.close()


class Rocksdict:
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

    def last(self) -> int:
        for key, value in self._db.items(backwards=True):
            return entry_of(key, value).index
        return 0

    def close(self) -> None:
        self._db.close()


class Plyvel:
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

    def last(self) -> int:
        for key, value in self._db.iterator(reverse=True):
            return entry_of(key, value).index
        return 0

    def close(self) -> None:
        self._db.close()


class Pysyncobj:
    def __init__(self, path: Path, durable: bool) -> None:
        from pysyncobj.journal import FileJournal

        path.mkdir(exist_ok=True)
        self._journal = FileJournal(str(path / "journal"))
        self._durable = durable

    def append(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._journal.add(entry.payload, entry.index, entry.term)
        if self._durable:
            self._journal.flush()

    def read(self, first: int, last: int) -> list[Any]:
        return [self._journal[index - 1] for index in range(first, last + 1)]

    def last(self) -> int:
        return self._journal[-1][1] if len(self._journal) else 0

    def close(self) -> None:
        self._journal = None


class Kind(NamedTuple):
    """A store and what it is told; the texts are footnotes of the tables."""

    language: str
    version: Callable[[], str]
    open: Callable[[Path, bool], Store]
    durable: str
    no_sync: str
    """Empty where it cannot be told to leave the sync out."""
    reads: str
    """From where; empty where it cannot."""

    def described(self) -> dict[str, str]:
        texts = {name: value for name, value in self._asdict().items() if isinstance(value, str)}
        return texts | {"version": self.version()}


def python(package: str, open_peer: Callable[[Path, bool], Peer], **told: str) -> Kind:
    def version() -> str:
        return sqlite3.sqlite_version if package == "sqlite3" else metadata.version(package)

    return Kind("Python", version, lambda path, durable: Here(open_peer, path, durable), **told)


def foreign(language: str, name: str, package: str, **told: str) -> Kind:
    """One that `make bench-peers` has built. The manifest pins its version."""
    manifest = HERE / {"Rust": "rust/Cargo.toml", "Go": "go/go.mod"}[language]
    program = BUILT / {"Rust": "cargo/release/peers", "Go": "go"}[language]

    def version() -> str:
        found = re.search(
            rf"^\s*{re.escape(package)}\b\D+([0-9.]+)", manifest.read_text(), re.MULTILINE
        )
        assert found is not None, package
        return found[1]

    return Kind(
        language, version, lambda path, durable: There(program, name, path, durable), **told
    )


FROM_FILES = "from its files"
FROM_MEMORY = "from memory, where it keeps every entry, too"

KINDS: dict[str, Kind] = {
    "pylogwal": python(
        "pylogwal",
        Pylogwal,
        durable='`durability="batch"`: an fdatasync',
        no_sync='`durability="manual"`',
        reads="from its mapped files",
    ),
    "sqlite3": python(
        "sqlite3",
        Sqlite,
        durable="WAL, `synchronous=FULL`: an fdatasync of the WAL at each commit, and checkpoints",
        no_sync="`synchronous=OFF`",
        reads=FROM_FILES,
    ),
    "lmdb": python(
        "lmdb",
        Lmdb,
        durable="`sync=True`: an fdatasync, and the page that ends a commit written with O_DSYNC",
        no_sync="`sync=False`",
        reads="from its mapped file",
    ),
    "rocksdict": python(
        "rocksdict",
        Rocksdict,
        durable="RocksDB, `WriteOptions.sync`: an fdatasync of its WAL",
        no_sync="without it",
        reads=FROM_FILES,
    ),
    "plyvel": python(
        "plyvel",
        Plyvel,
        durable="LevelDB, `write_batch(sync=True)`: an fdatasync of its log",
        no_sync="`sync=False`",
        reads=FROM_FILES,
    ),
    "pysyncobj journal": python(
        "pysyncobj",
        Pysyncobj,
        durable="its `FileJournal`, `flush()` after each batch: an msync of the whole mapped file",
        no_sync="no flush",
        reads=FROM_MEMORY,
    ),
    "d-engine files": foreign(
        "Rust",
        "d-engine-file",
        "d-engine-server",
        durable="`FileStorageEngine`: `persist_entries`, then `flush()`, an fsync; alone it is not "
        "durable, and says so",
        no_sync="no flush",
        reads=FROM_MEMORY,
    ),
    "d-engine rocksdb": foreign(
        "Rust",
        "d-engine-rocksdb",
        "d-engine-server",
        durable="`RocksDBStorageEngine`: `persist_entries`, then `flush()`, an fdatasync of the "
        "WAL; d-engine itself leaves the flush out",
        no_sync="no flush",
        reads=FROM_FILES,
    ),
    "raft-engine": foreign(
        "Rust",
        "raft-engine",
        "raft-engine",
        durable="`write(batch, sync=true)`: an fdatasync",
        no_sync="`sync=false`",
        reads=FROM_FILES,
    ),
    "etcd wal": foreign(
        "Go",
        "etcd-wal",
        "go.etcd.io/etcd/server/v3",
        durable="`server/storage/wal`, `Save`: an fdatasync",
        no_sync="`SetUnsafeNoFsync`",
        reads="",
    ),
    "raft-wal": foreign(
        "Go",
        "raft-wal",
        "github.com/hashicorp/raft-wal",
        durable="`StoreLogs`: an fsync",
        no_sync="",
        reads=FROM_FILES,
    ),
}
