"""`pylogwal demo`: a writer is killed again and again, and nothing acknowledged may be lost.

A child process appends real text, durable batches through the async API, and reports each
acknowledgement over a pipe. Its parent kills it with SIGKILL at random moments, reopens the log,
and holds every entry against the text. Then it overlaps, truncates, purges and reopens; and at
last it measures durable entries a second, beside a plain loop of write and fdatasync.

A kill shows that recovery tells what is whole from what is torn, and that an accepted write
outlives its process. Power loss is another matter, and needs a disk that forgets.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import multiprocessing.resource_tracker
import random
import statistics
import struct
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import pylogwal
from pylogwal.demo_model import Model, Source, default_text, lost_entries
from pylogwal.demo_speed import measure
from pylogwal.errors import CorruptionError, WalError
from pylogwal.interrupts import signals_held
from pylogwal.log_store import WalLogStore
from pylogwal.scratch import temporary_directory
from pylogwal.types import HardState, LogId, Stats
from pylogwal.wal import Wal

if TYPE_CHECKING:
    from pylogwal.cli import Subparsers

__all__ = ["add_demo"]

KILLS = 12
KILL_AFTER_S = 0.5
"""At most, from the moment at which the child opens the log."""
CHILD_STARTS_S = 60.0
SEGMENT_BYTES = 1024 * 1024
"""Small, so that kills also meet rolls."""
BATCH_ENTRIES = 64
"""At most: batches are of random size."""
IN_FLIGHT = 8

NUMBER = struct.Struct("<Q")
OPENING = NUMBER.pack(0)


def add_demo(subparsers: Subparsers) -> None:
    """`pylogwal demo [FILE|-]`."""
    text = (
        "Appends text through the async API in a child process, kills that with SIGKILL again and "
        "again, and holds every acknowledged entry against the text."
    )
    parser = subparsers.add_parser("demo", help=text, description=text)
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="what to append, line by line; - is stdin (default: Python sources of this machine)",
    )
    parser.add_argument("--kills", metavar="N", type=int, default=KILLS, help=f"default {KILLS}")
    parser.add_argument("--seed", metavar="N", type=int, help="of the random moments and sizes")
    parser.add_argument("--dir", metavar="DIR", type=Path, help="work here, and keep it")
    parser.set_defaults(run=lambda options: _run(parser, options))


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.kills < 1:
        parser.error("--kills has to be 1 or more")
    text = _text(options.file)
    if not text:
        parser.error(f"{options.file} is empty; give it something to append")
    if options.dir is not None and options.dir.exists() and not _is_empty(options.dir):
        parser.error(f"--dir {options.dir} is there already, and not an empty directory")
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    try:
        with _work_directory(options.dir) as directory:
            _Demo(directory, Source(text), seed).run(options.kills)
    except _LostError:
        return 1
    return 0


class _LostError(Exception):
    """Something that was acknowledged is lost; it has been told."""


def _text(file: str | None) -> bytes:
    if file is None:
        return default_text()
    return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


@contextlib.contextmanager
def _work_directory(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.absolute()
        return
    with temporary_directory("pylogwal-demo-", keep_on=(_LostError, CorruptionError)) as made:
        yield made


# -- the child -------------------------------------------------------------------------------------


def _child(directory: str, source: str, term: int, seed: int, reports: Connection) -> None:
    """Appends until it is killed, or its parent has gone."""
    try:
        asyncio.run(_append(directory, Source(Path(source).read_bytes()), term, seed, reports))
    except BrokenPipeError:
        pass
    except WalError as error:
        sys.exit(f"pylogwal: {type(error).__name__}: {error}")


async def _append(
    directory: str, source: Source, term: int, seed: int, reports: Connection
) -> None:
    sizes = random.Random(seed)
    in_flight: deque[tuple[asyncio.Future[None], int]] = deque()
    reports.send_bytes(OPENING)
    async with pylogwal.open(directory, segment_bytes=SEGMENT_BYTES) as store:
        await store.save_hard_state_async(HardState(term, "demo"))
        last = store.last_index()
        try:
            while True:
                first, last = last + 1, last + sizes.randint(1, BATCH_ENTRIES)
                in_flight.append((store.submit(source.entries(first, last, term)), last))
                if len(in_flight) == IN_FLIGHT:
                    durable, acknowledged = in_flight[0]
                    await durable
                    in_flight.popleft()
                    reports.send_bytes(NUMBER.pack(acknowledged))
        except WalError as error:
            raise await _first_error(in_flight, error) from None


async def _first_error(
    in_flight: deque[tuple[asyncio.Future[None], int]], last: WalError
) -> BaseException:
    """What went wrong first: the batches after one that is refused are refused for the gap."""
    waiting = [future for future, _ in in_flight]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    return next((outcome for outcome in outcomes if outcome is not None), last)


# -- the parent ------------------------------------------------------------------------------------


class _Demo:
    """One run in one directory."""

    def __init__(self, directory: Path, source: Source, seed: int) -> None:
        self.directory = directory
        self.log = directory / "log"
        self.text_file = directory / "text"
        self.text_file.write_bytes(source.text)
        self.source = source
        self.seed = seed
        self.random = random.Random(seed)
        self.model = Model(source)
        self.acknowledged = 0
        self.recovered = 0
        self.opens: list[Stats] = []

    def run(self, kills: int) -> None:
        """Raises _LostError where anything is lost, as soon as that is known."""
        print(f"seed {self.seed}, working in {self.directory}")
        print(f"text: {len(self.source.text):,} bytes, {len(self.source.pieces):,} lines\n")
        lost = 0
        while not lost and len(self.opens) < kills:
            lost = self.kill_once(number=len(self.opens) + 1)
        recovered = self.recovered
        lost = lost or self.change_and_reopen(term=kills + 1)
        self.summarize(recovered, lost)
        if lost:
            raise _LostError
        print(measure(self.directory, self.source))
        print("\nnothing that was acknowledged is lost")

    def kill_once(self, number: int) -> int:
        """One child from its start to its end, and what the log is then. The entries lost."""
        after_s = self.random.uniform(0, KILL_AFTER_S)
        before = self.acknowledged
        self.run_child(number, after_s)
        with Wal(self.log, segment_bytes=SEGMENT_BYTES) as wal:
            stats, state = wal.stats(), wal.load_hard_state()
            self.opens.append(stats)
            self.recovered = wal.last_index()
            self.model.append(self.model.last + 1, self.recovered, term=number)
            lost = lost_entries(wal, self.model, self.acknowledged)
        if self.acknowledged > before and state != HardState(number, "demo"):
            lost += 1
            print(f"the vote of term {number} was saved and is lost: {state}")
        print(
            f"kill {number:2} after {after_s * 1000:3.0f} ms: "
            f"acknowledged {self.acknowledged:,}, recovered {self.recovered:,}, lost {lost:,}, "
            f"cut {stats.cut_bytes:,} bytes, recovery {stats.recovery_ms:.1f} ms",
            flush=True,
        )
        return lost

    def run_child(self, term: int, after_s: float) -> None:
        """Kills it so many seconds after it has begun to open the log."""
        spawn = multiprocessing.get_context("spawn")
        reports, to_report = spawn.Pipe(duplex=False)
        seed = self.random.randrange(2**32)
        arguments = (str(self.log), str(self.text_file), term, seed, to_report)
        child = spawn.Process(target=_child, args=arguments, daemon=True)
        multiprocessing.resource_tracker.ensure_running()  # its start would let signals through
        ended = False
        try:
            with signals_held():  # Ctrl-C is for us alone: the child is killed
                child.start()
                to_report.close()
            reports.poll(CHILD_STARTS_S)
            kill_s = time.monotonic() + after_s
            while (left_s := kill_s - time.monotonic()) > 0:
                if reports.poll(left_s):
                    self.hear(reports)
        except EOFError:
            ended = True
        finally:
            if child.pid is not None:  # a signal may come before its start
                child.kill()
        with contextlib.suppress(EOFError):
            while True:
                self.hear(reports)
        reports.close()
        child.join()
        child.close()
        if ended:
            raise WalError(f"the writing process ended by itself; see above [{self.log}]")

    def hear(self, reports: Connection) -> None:
        """One acknowledgement. EOFError after the last."""
        self.acknowledged = max(self.acknowledged, *NUMBER.unpack(reports.recv_bytes()))

    def change_and_reopen(self, term: int) -> int:
        """What a follower's log goes through, each time reopened. The entries lost."""
        print()
        model = self.model
        with Wal(self.log, segment_bytes=SEGMENT_BYTES) as wal:  # enough for all that follows
            wal.persist_entries(self.source.entries(model.last + 1, model.last + 300, term))
            model.append(model.last + 1, model.last + 300, term)
        steps = (self.retry, self.other_leader, self.truncate, self.purge)
        return sum(self.step(step, term) for step in steps)

    def step(self, step: Callable[[WalLogStore, int], Awaitable[str]], term: int) -> int:
        """Does it, and looks at the log when it was opened again. The entries lost."""

        async def in_store() -> str:
            async with pylogwal.open(self.log, segment_bytes=SEGMENT_BYTES) as store:
                return await step(store, term)

        text = asyncio.run(in_store())
        with Wal(self.log, segment_bytes=SEGMENT_BYTES) as wal:
            lost = lost_entries(wal, self.model, self.model.last)
            held = f"{wal.first_index():,}..{wal.last_index():,} in {wal.stats().segments} segments"
        print(f"{text}: reopened, entries {held}, lost {lost:,}", flush=True)
        return lost

    async def retry(self, store: WalLogStore, term: int) -> str:
        """A batch that is there already, but for its end."""
        last = self.model.last
        await store.persist_entries(self.source.entries(last - 99, last + 50, term))
        self.model.append(last + 1, last + 50, term)
        return "100 entries sent again, and 50 new ones"

    async def other_leader(self, store: WalLogStore, term: int) -> str:
        """A batch of a later term, which replaces the log's end."""
        first = self.model.last - 49
        await store.persist_entries(self.source.entries(first, first + 79, term + 1, shift=7))
        self.model.append(first, first + 79, term + 1, shift=7)
        return "50 entries overlapped by 80 of another leader"

    async def truncate(self, store: WalLogStore, _: int) -> str:
        """The last 40 go."""
        from_index = self.model.last - 39
        await store.truncate(from_index)
        self.model.truncate(from_index)
        return f"truncated from {from_index:,}"

    async def purge(self, store: WalLogStore, _: int) -> str:
        """The older half goes."""
        index = self.model.last // 2
        await store.purge(LogId(index, store.term(index) or 0))
        self.model.first = index + 1
        return f"purged up to {index:,} of {store.stats().recovered_entries:,}"

    def summarize(self, recovered: int, lost: int) -> None:
        """The lines that matter."""
        recovery_ms = [stats.recovery_ms for stats in self.opens]
        cut_bytes = sum(stats.cut_bytes for stats in self.opens)
        kills = f"{len(self.opens)} kill" + "s" * (len(self.opens) != 1)
        print(
            f"\nacknowledged {self.acknowledged:,}, recovered {recovered:,}, lost {lost:,}, "
            f"cut {cut_bytes:,} bytes in {kills}; recovery "
            f"{statistics.median(recovery_ms):.1f} ms, at most {max(recovery_ms):.1f} ms"
        )
