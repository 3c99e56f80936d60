"""Every damage is named, or harmless, or - in a tail that nobody was told of - cut.

`make test` takes a sample, `make prove` a larger one of logs of several segments, and each bit of a
small log. PYLOGWAL_ALL_BITS=1 takes all of everything, which takes an hour.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import processes
import pytest
from hostile_cases import SECTOR, Case
from hostile_logs import Files, Log, closed_log, killed_log, small_log

HERE = Path(__file__).parent
SPREAD = 16
PROCESSES = 2
PROVED_FLIPS, PROVED_CUTS = 15_000, 5_000
ALL = "PYLOGWAL_ALL_BITS" in os.environ
LOGS = {"closed": closed_log, "killed": killed_log}


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A directory in memory if possible: nothing here is about durability."""
    with processes.memory() as path:
        yield Path(path)


@pytest.fixture(scope="module", params=LOGS.keys())
def log(request: pytest.FixtureRequest, memory: Path) -> Log:
    make: Callable[[Path], Log] = LOGS[request.param]
    return make(memory / request.param)


def hold(memory: Path, log: Log, cases: list[Case]) -> None:
    """Judges all cases, in processes of their own."""
    work = Path(tempfile.mkdtemp(dir=memory))
    (work / "log").write_bytes(pickle.dumps(log))
    running = []
    for number in range(PROCESSES):
        part = work / f"cases{number}"
        part.write_bytes(pickle.dumps(cases[number::PROCESSES]))
        current = work / f"current{number}"
        script = [HERE / "hostile_cases.py", work / f"dir{number}", work / "log", part, current]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(
            [sys.executable, *map(str, script)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append((process, current))
    failed = False
    for process, current in running:
        output = process.communicate()[0]
        print(output)
        failed = failed or process.returncode != 0
        if process.returncode not in (0, 1):
            print("died of", process.returncode, "in", current.read_text().strip())
    shutil.rmtree(work)
    assert not failed


def sample(cases: list[Case], count: int) -> list[Case]:
    seed = random.randrange(2**32)
    print("seed", seed)
    return random.Random(seed).sample(cases, min(count, len(cases)))


def bits_of_bytes(name: str, offsets: Iterable[int]) -> list[Case]:
    return [Case("flip", name, byte * 8 + bit) for byte in offsets for bit in range(8)]


def meaningful_bytes(log: Log, name: str) -> list[int]:
    """Everything but large payloads and empty space, each with a little of what is around it."""
    data = log.files[name]
    marked = bytearray(len(data))
    for at, byte in enumerate(data):
        if byte:
            marked[at : at + 4] = b"\1" * len(marked[at : at + 4])
    for start, end in log.large.get(name, []):
        marked[start:end] = bytes(end - start)
    return [at for at, mark in enumerate(marked) if mark]


def meaningful_flips(log: Log) -> list[Case]:
    return [
        case
        for name in log.files
        for case in bits_of_bytes(name, iter(meaningful_bytes(log, name)))
    ]


def spread_flips(log: Log) -> list[Case]:
    random_ = random.Random(1)
    return [
        Case("flip", name, min(start * 8 + random_.randrange(SPREAD * 8), len(data) * 8 - 1))
        for name, data in log.files.items()
        for start in range(0, len(data), SPREAD)
    ]


def all_flips(log: Log) -> list[Case]:
    return [case for name in log.files for case in bits_of_bytes(name, range(len(log.files[name])))]


def cuts(log: Log, step: int) -> list[Case]:
    found = []
    for name, data in log.files.items():
        lengths = set(range(0, len(data), step if name != "LOCK" else 1))
        for edge in (0, 4096, 8192, 65536, len(data)):
            lengths |= set(range(max(0, edge - 9), edge + 9))
        found += [Case("cut", name, length) for length in sorted(lengths) if length < len(data)]
    return found


def zeros(files: Files) -> list[Case]:
    return [
        Case("zero", name, sector)
        for name, data in files.items()
        for sector in range((len(data) + SECTOR - 1) // SECTOR)
    ]


def moves(log: Log) -> list[Case]:
    """Each file is deleted, swapped, copied over another and to a new name, renamed."""
    names = sorted(log.files)
    new = [f"{number:016x}.wal" for number in (len(names), len(names) + 1, 2**40)]
    new.append(f"{9:016x}.spare")
    found = [Case("delete", name) for name in names]
    for name in names:
        for other in names + new:
            if other != name:
                found += [Case("copy", name, 0, other), Case("rename", name, 0, other)]
                if other in names:
                    found.append(Case("swap", name, 0, other))
    # A blank file in place of the tail: that the tail ever was, nothing else knows.
    segments = [name for name in names if name.endswith(".wal")]
    blank = segments[-1] if not any(log.files[segments[-1]]) else ""
    return [case for case in found if case != Case("rename", blank, 0, segments[-2])]


def test_flipped_bits(memory: Path, log: Log) -> None:
    hold(memory, log, sample(meaningful_flips(log), 900) + sample(spread_flips(log), 300))


def test_cuts(memory: Path, log: Log) -> None:
    hold(memory, log, sample(cuts(log, 97), 400))


def test_zeroed_sectors(memory: Path, log: Log) -> None:
    hold(memory, log, sample(zeros(log.files), 300))


def test_files_moved(memory: Path, log: Log) -> None:
    hold(memory, log, moves(log))


@pytest.mark.prove
def test_every_bit_of_a_small_log_flipped(memory: Path) -> None:
    log = small_log(memory / "small")
    hold(memory, log, all_flips(log) if ALL else meaningful_flips(log) + spread_flips(log))


@pytest.mark.prove
def test_more_bits_flipped(memory: Path, log: Log) -> None:
    flips = meaningful_flips(log) + spread_flips(log)
    hold(memory, log, all_flips(log) if ALL else sample(flips, PROVED_FLIPS))


@pytest.mark.prove
def test_more_cuts(memory: Path, log: Log) -> None:
    hold(memory, log, cuts(log, 7) if ALL else sample(cuts(log, 7), PROVED_CUTS))


@pytest.mark.prove
def test_every_sector_zeroed(memory: Path, log: Log) -> None:
    hold(memory, log, zeros(log.files))
