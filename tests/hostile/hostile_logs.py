"""The logs that are damaged, and what they hold: known from what was written, not from the log."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from decoder import ENTRY, decode_segment, read_log_id
from stores import SEGMENT_BYTES, State

from pylogwal import Entry, HardState, LogId, Wal

Files = dict[str, bytes]
LARGE = 400


def entry_of(index: int, term: int, size: int | None = None) -> Entry:
    size = index * 37 % 90 if size is None else size
    return Entry(index, term, (b"%d in %d " % (index, term) * size)[:size], index % 256)


@dataclass
class Model:
    """What a log that was written to like this has to hold."""

    entries: dict[int, Entry] = field(default_factory=dict)
    boundary: LogId | None = None
    hard_state: HardState | None = None

    def state(self) -> State:
        last = max(self.entries, default=self.boundary.index if self.boundary else 0)
        first = min(self.entries, default=last + 1)
        return State(first, last, self.boundary, list(self.entries.values()), self.hard_state)


class Writer:
    """Writes to a log and to its model at once."""

    def __init__(self, path: Path) -> None:
        self.wal = Wal(path, segment_bytes=SEGMENT_BYTES, durability="manual")
        self.model = Model()

    def append(self, first: int, last: int, term: int, size: int | None = None) -> None:
        batch = [entry_of(index, term, size) for index in range(first, last + 1)]
        self.wal.persist_entries(batch)
        self._drop_from(first)
        self.model.entries.update((entry.index, entry) for entry in batch)

    def append_each(self, indices: Iterable[int], term: int, size: int | None = None) -> None:
        for index in indices:
            self.append(index, index, term, size)

    def _drop_from(self, index: int) -> None:
        kept = {i: entry for i, entry in self.model.entries.items() if i < index}
        self.model.entries = kept

    def truncate(self, index: int) -> None:
        self.wal.truncate(index)
        self._drop_from(index)

    def purge(self, index: int) -> None:
        cutoff = LogId(index, self.wal.term(index) or 0)
        self.wal.purge(cutoff)
        self.model.boundary = cutoff
        self.model.entries = {i: e for i, e in self.model.entries.items() if i > index}

    def reset(self) -> None:
        self.wal.reset()
        self.model.boundary = None
        self.model.entries = {}

    def save(self, state: HardState) -> None:
        self.wal.save_hard_state(state)
        self.model.hard_state = state


def write_every_record(path: Path) -> Writer:
    """Several segments, every kind of record, several opens, and overrides across segments."""
    writer = Writer(path)
    writer.append(1, 5, 1)
    writer.reset()
    writer.append(10, 30, 2)
    writer.save(HardState(2, "a", 11, b"extra"))
    writer.purge(12)
    writer.append_each(range(31, 35), 2, 14000)  # rolls
    writer.append(35, 60, 3)
    writer.truncate(55)
    writer.append_each(range(55, 59), 3, 14000)  # rolls
    writer.wal.close()
    writer.wal = Wal(path, segment_bytes=SEGMENT_BYTES, durability="manual")
    writer.append(54, 70, 4)  # replaces, in the segment before too
    writer.append(71, 71, 4, 70_000)  # larger than a segment
    writer.append(72, 90, 5)
    writer.truncate(85)
    writer.append(83, 95, 6)
    writer.purge(15)
    writer.save(HardState(6, None, 90))
    return writer


@dataclass
class Log:
    """A log's files, and the states of which one has to be found: all of them where a tail was not
    acknowledged, oldest first.
    """

    files: Files
    states: list[State]
    visible: dict[str, range] = field(default_factory=dict)
    """Per file: the indices that only it holds."""
    begins: dict[str, int] = field(default_factory=dict)
    """Per file: the next index when it was begun."""
    frames: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    """Per file: (start, end, index) of the visible entries' frames."""
    large: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Per file: (start, end) of payloads of which one byte is as good as another."""
    acknowledged_end: tuple[int, int] = (2**63, 0)
    """Segment and offset up to which all is acknowledged."""

    def entry_at(self, name: str, offset: int) -> int | None:
        """The index of the visible entry whose frame has this byte."""
        for start, end, index in self.frames.get(name, []):
            if start <= offset < end:
                return index
        return None


def files_of(path: Path) -> Files:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def put(path: Path, files: Files) -> None:
    """Makes the directory hold these files and no other."""
    path.mkdir(exist_ok=True)
    for file in path.iterdir():
        if file.name not in files:
            file.unlink()
    for name, data in files.items():
        (path / name).write_bytes(data)


def _located(log: Log) -> Log:
    log_id = read_log_id(log.files["LOCK"])
    assert log_id is not None
    kept = {entry.index: entry for entry in log.states[-1].entries}
    for name in sorted((name for name in log.files if name.endswith(".wal")), reverse=True):
        data = log.files[name]
        if not any(data[:4096]):
            continue
        segment = decode_segment(data, log_id, int(name[:16], 16))
        rows: dict[int, tuple[int, int, int]] = {}
        log.large[name] = []
        for frame in segment.frames:
            if len(frame.payload) > LARGE:
                start = frame.offset + 40
                log.large[name].append((start + 8, start + len(frame.payload) - 8))
            if frame.type == ENTRY and frame.index in kept:
                entry = kept[frame.index]
                if (frame.term, frame.payload, frame.kind) == entry[1:]:
                    end = frame.offset + 40 + (len(frame.payload) + 7) // 8 * 8
                    rows[frame.index] = (frame.offset, end, frame.index)
        for index in rows:
            del kept[index]
        log.begins[name] = segment.header.state.next
        log.frames[name] = sorted(rows.values())
        log.visible[name] = range(min(rows), max(rows) + 1) if rows else range(0)
    assert not kept
    return log


def small_log(path: Path) -> Log:
    """Every kind of record in one segment, closed, and opened twice: so small that each of its bits
    can be flipped.
    """
    writer = Writer(path)
    writer.append(1, 2, 1)
    writer.reset()
    writer.append(10, 13, 2, 9)
    writer.save(HardState(2, "a", 11, b"extra"))
    writer.wal.close()
    writer.wal = Wal(path, segment_bytes=SEGMENT_BYTES, durability="manual")
    writer.purge(10)
    writer.truncate(13)
    writer.append(12, 14, 3, 30)
    writer.wal.close()
    return _located(Log(files_of(path), [writer.model.state()]))


def closed_log(path: Path) -> Log:
    writer = write_every_record(path)
    writer.wal.close()
    return _located(Log(files_of(path), [writer.model.state()]))


_KILLED = """
import os, pickle, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from hostile_logs import write_killed
with open(sys.argv[3], "wb") as out:
    pickle.dump(write_killed(Path(sys.argv[1])), out)
os.kill(os.getpid(), signal.SIGKILL)
"""


def write_killed(path: Path) -> tuple[list[State], tuple[int, int]]:
    """Acknowledged up to a flush; then batches that nobody was told of, over several sectors."""
    writer = write_every_record(path)
    writer.append(96, 99, 7)
    writer.append(92, 97, 8)  # replaces, in the segment before too
    writer.truncate(95)
    writer.append(95, 99, 8)
    writer.wal.flush()
    tail = writer.wal.core.segments()[-1]
    states = [writer.model.state()]
    for count in range(6):
        writer.append(100 + 2 * count, 101 + 2 * count, 8 + count, 300)
        states.append(writer.model.state())
    _keep.append(writer)
    return states, (tail.number, tail.end)


_keep: list[Writer] = []


def killed_log(path: Path) -> Log:
    """By kill -9: no close mark, and the last batches were not acknowledged."""
    out = path.parent / "states"
    script = [sys.executable, "-c", _KILLED, str(path), str(Path(__file__).parent), str(out)]
    done = subprocess.run(script, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == -signal.SIGKILL
    with out.open("rb") as given:
        states, end = pickle.load(given)
    return _located(Log(files_of(path), states, acknowledged_end=end))
