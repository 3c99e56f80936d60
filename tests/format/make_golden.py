"""Makes the golden files: logs as this release writes them, which every later one must read.

    python tests/format/make_golden.py [DIRECTORY]

The content is always the same; log ids, nonces and so all checksums are new each time. Golden
files are made once for a version of the format, and never again: DIRECTORY must not be there yet.

    golden/v1/closed/LOCK.xz, 0000000000000001.wal.xz, ...   closed cleanly
    golden/v1/torn/...                                       killed, and the last batch half stored
    golden/v1/expected.json                                  what both hold
"""

from __future__ import annotations

import json
import lzma
import os
import sys
import tempfile
from pathlib import Path

from decoder import read_log

from pylogwal import Entry, HardState, LogId, Wal

DIRECTORY = Path(__file__).parent / "golden" / "v1"
SEGMENT_SIZE = 65536
BATCH = 10


class Writer:
    """Writes to a log and to a dictionary, so that what is expected does not come from the log."""

    def __init__(self, path: Path) -> None:
        self.wal = Wal(path, segment_bytes=SEGMENT_SIZE, durability="batch")
        self.entries: dict[int, Entry] = {}

    def append(self, first: int, last: int, term: int) -> None:
        """In batches; the first replaces what is there from `first` on."""
        self.drop_from(first)
        for start in range(first, last + 1, BATCH):
            batch = [entry(index, term) for index in range(start, min(start + BATCH, last + 1))]
            self.wal.persist_entries(batch)
            self.entries.update((one.index, one) for one in batch)

    def drop_from(self, index: int) -> None:
        self.entries = {i: one for i, one in self.entries.items() if i < index}

    def drop_to(self, index: int) -> None:
        self.entries = {i: one for i, one in self.entries.items() if i > index}


def text_of(index: int, term: int) -> tuple[str, int]:
    """The payload is this text so many times over: of every length, and well compressed."""
    return f"{index}@{term} ", index * 7 % 100


def entry(index: int, term: int) -> Entry:
    text, times = text_of(index, term)
    return Entry(index, term, text.encode() * times, kind=index % 3)


BOUNDARY = LogId(120, 3)
HARD_STATE = HardState(5, "node-ü", 480, b"\x00extra\xff")


def write(path: Path) -> Writer:
    """Every kind of record, three segments or more, and the first of them still needed."""
    writer = Writer(path)
    wal = writer.wal
    wal.save_hard_state(HardState(2, None, 0))
    writer.append(1, 25, 1)
    wal.reset()
    writer.append(7, 9, 1)
    wal.purge(LogId(100, 2))  # Beyond the end: the whole log goes, and continues at 101.
    writer.entries.clear()
    writer.append(101, 330, 3)
    writer.append(320, 325, 4)  # Replaces within a segment.
    wal.truncate(324)
    writer.drop_from(324)
    writer.append(324, 560, 4)
    writer.append(250, 300, 5)  # Replaces across segments.
    writer.append(301, 480, 6)
    wal.purge(BOUNDARY)
    writer.drop_to(BOUNDARY.index)
    wal.persist_entries([entry(481, 6)], HARD_STATE)
    writer.entries[481] = entry(481, 6)
    return writer


def make_closed(path: Path) -> dict[int, Entry]:
    writer = write(path)
    writer.wal.close()
    return writer.entries


def make_torn(path: Path) -> None:
    """A child writes one batch more and dies; then only the first half of that batch is there."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            write(path).wal.persist_entries([entry(index, 7) for index in range(482, 490)])
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit("the child that should have died in peace did not")
    tail = read_log(path).segments[-1]
    torn = tail.batches[-1]
    middle = (torn.start + torn.end) // 2
    with (path / f"{tail.number:016x}.wal").open("r+b") as file:
        file.seek(middle)
        file.write(bytes(torn.end - middle))


def pack(path: Path, to: Path) -> None:
    to.mkdir(parents=True)
    for file in sorted(path.iterdir()):
        (to / f"{file.name}.xz").write_bytes(lzma.compress(file.read_bytes(), preset=9))


def main() -> None:
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else DIRECTORY
    if directory.exists():
        sys.exit(f"{directory} is there already; golden files are not made again")
    with tempfile.TemporaryDirectory() as scratch:
        entries = make_closed(Path(scratch, "closed"))
        make_torn(Path(scratch, "torn"))
        for name in ("closed", "torn"):
            log = read_log(Path(scratch, name))
            if [tuple(one) for one in log.entries] != [tuple(one) for one in entries.values()]:
                sys.exit(f"{name}: the decoder reads something else than was written")
            pack(Path(scratch, name), directory / name)
    (directory / "expected.json").write_text(expected(list(entries.values())))


def expected(entries: list[Entry]) -> str:
    """JSON with one entry a line."""
    rows = [[one.index, one.term, one.kind, *text_of(one.index, one.term)] for one in entries]
    about = "an entry is index, term, kind, and the text that is so many times its payload"
    hard_state = [*HARD_STATE[:3], HARD_STATE.extra.hex()]
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    return (
        f'{{\n "about": {json.dumps(about)},\n "boundary": {json.dumps(BOUNDARY)},\n'
        f' "hard_state": {json.dumps(hard_state)},\n "entries": [\n  {lines}\n ]\n}}\n'
    )


if __name__ == "__main__":
    main()
