"""Cuts the power of a file system under a writer, again and again in one history, and holds what is
there afterwards against what the writer was told. A program, for root:

    PYTHONPATH=tests python tests/powercut/cut_cycles.py ext4|xfs DIRECTORY [--cycles N] [--seed S]

One cycle: a forked writer (cut_writer.py) is under way; pages of its files, and now and then the
journal, are written out early at random; FS_IOC_SHUTDOWN stops the file system where it is, and
drops what has not been written; unmount, mount, read. What is read must be the state after the last
write that the log called durable, or after a later one whose call had begun, byte for byte. The
next cycle goes on from there: with the same writes, so that bytes that were lost are sent again, or
with others.

The seed fixes what is written and how, not when it is cut. The exit status is 0 where all held; 1
where something did not: then DIRECTORY/image is left as it was after the cut; 3 where nothing can
be mounted here.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import logging
import os
import select
import signal
import struct
import sys
import termios
import time
from collections import Counter
from contextlib import closing
from ctypes import CDLL, c_int64, get_errno
from pathlib import Path
from random import Random, SystemRandom
from typing import NamedTuple

from cut_script import Script
from cut_writer import Load, Writer
from mounts import SIZES, MountError, command, make_file_system, mount, unmount
from stores import BLANK, State, restore, state_of

from pylogwal import Wal, WalError
from pylogwal.memory import MemoryWal

FS_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
NO_LOG_FLUSH, LOG_FLUSH = 2, 1
"""What has not been written is lost; or all but the journal's part of it."""
SYNC_FILE_RANGE_WRITE = 2
CLONE_NEWNS = 0x20000
PAGE_BYTES = 4096
CYCLES_OF_A_HISTORY = 25
"""On one file system, which is then made anew."""
SLOW_S = 0.5
PATIENCE_S = 60
PIPE_BYTES = 1 << 20

libc = CDLL(None, use_errno=True)


class LostError(Exception):
    """What was found after a cut is not what it must be."""


class Reports(NamedTuple):
    """What the writer said before it ended."""

    begun: int
    """The number of the last write whose call may have begun."""
    durable: int
    """The number of the last write that the log called durable."""
    refused: list[int]
    """The numbers of those that it has not taken: after the cut it could not roll any more. It may
    have taken later ones, and a sync that was under way may have carried those to the disk.
    """
    failed: str


class History:
    """The cycles on one file system, from its making on."""

    def __init__(self, kind: str, directory: Path, seed: int, count: Counter[str]) -> None:
        self._image = directory / "image"
        self._disk = directory / "disk"
        self._log = self._disk / "log"
        self._random = Random(seed)
        self._name = f"{kind} --seed {seed}"
        self._cycles = 0
        self._count = count
        self._state = BLANK
        self._number = 0
        self._segment = 0
        self._seed = seed
        self._disk.mkdir(exist_ok=True)
        block = self._random.choice((1024, PAGE_BYTES))  # pages that may be written in parts
        option = f"size={block}" if kind == "xfs" else block
        make_file_system(kind, self._image, SIZES[kind], "-b", option)
        mount(self._image, self._disk)

    def close(self) -> None:
        """Unmounts."""
        unmount(self._disk)

    def cycle(self) -> None:
        """Raises LostError, which says all that is known."""
        others = self._random.randrange(2**32)
        if self._random.random() < 0.5:
            self._seed = others
        self._cycles += 1
        load = Load.chosen(self._random)
        told = f"{load}, writes of the seed {self._seed} from {self._number + 1} on"
        try:
            said = self._cut(Writer(self._log, self._script(), load), Random(others))
            self._start_again()
            reports = self._understood(said)
            told += f"; {reports}"
            self._judge(reports)
        except LostError as error:
            raise LostError(
                f"LOST in cycle {self._cycles} of {self._name}: {error}\n{told}"
            ) from error

    def _script(self) -> Script:
        return Script(self._seed, self._state, self._number)

    # -- the cut -----------------------------------------------------------------------------------

    def _cut(self, writer: Writer, random: Random) -> str:
        """What the writer said. `random` is drawn from as often as there is time for."""
        root = os.open(self._disk, os.O_RDONLY | os.O_DIRECTORY)
        pid, pipe = _fork(writer)
        try:
            if random.random() < 0.8:  # else also while it opens the log, or before
                select.select([pipe], [], [], PATIENCE_S)
            self._write_out_early(root, pipe, random)
            if random.random() < 0.5:  # else it has to end by itself, and acknowledge nothing more
                os.kill(pid, signal.SIGKILL)
            how = random.choice((NO_LOG_FLUSH, NO_LOG_FLUSH, NO_LOG_FLUSH, LOG_FLUSH))
            fcntl.ioctl(root, FS_IOC_SHUTDOWN, struct.pack("I", how))
            said = _read_to_end(pipe)
        finally:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            os.close(pipe)
            os.close(root)
        if status not in (0, signal.SIGKILL):
            raise LostError(f"the writer died: {os.waitstatus_to_exitcode(status)}\n{said}")
        return said

    def _start_again(self) -> None:
        """The loop device goes too: nothing that any cache held is left."""
        unmount(self._disk)
        try:
            mount(self._image, self._disk)
        except MountError as error:
            raise LostError(f"after the cut: {error}") from error

    def _write_out_early(self, root: int, pipe: int, random: Random) -> None:
        """Pages and journal in any order, as the kernel may at any time, up to the cut: that comes
        after some time, and where the machine is slow once the writer has said so much.
        """
        likely = random.choice((0, 0.1, 1))
        commits = random.choice((0, 0, 0.02))
        said_bytes = random.choice((0, 1000, 4000))
        until = time.monotonic() + random.uniform(0, 0.04)
        while (left_s := until - time.monotonic()) > 0 or (
            left_s > -SLOW_S and _unread_bytes(pipe) < said_bytes
        ):
            time.sleep(random.uniform(0, 0.0005))
            if random.random() < likely:
                self._write_out(random)
            if random.random() < commits:
                os.fsync(root)
                self._count["early commits of the journal"] += 1

    def _write_out(self, random: Random) -> None:
        try:
            newest = sorted(self._log.iterdir())[-3:]
            descriptor = os.open(random.choice(newest), os.O_RDONLY)
        except (FileNotFoundError, IndexError):  # there is no log yet; or it was just renamed
            return
        pages = os.fstat(descriptor).st_size // PAGE_BYTES
        offset = PAGE_BYTES * random.randint(0, pages)
        size = PAGE_BYTES * random.choice((1, 1, 2, 8))
        libc.sync_file_range(descriptor, c_int64(offset), c_int64(size), SYNC_FILE_RANGE_WRITE)
        os.close(descriptor)
        self._count["early writes"] += 1

    def _understood(self, said: str) -> Reports:
        begun = durable = self._number
        refused = []
        failed = ""
        for line in said.splitlines():
            what, _, value = line.partition(" ")
            if what == "will":
                begun = int(value)
            elif what == "durable":
                durable = max(durable, int(value))
            elif what == "refused":
                refused.append(int(value))
            elif what == "failed":
                failed = value
            else:
                raise LostError(f"the writer: {line}")
        self._count["writers that ended by themselves"] += failed != ""
        return Reports(begun, durable, sorted(refused), failed)

    # -- the judgement -----------------------------------------------------------------------------

    def _judge(self, reports: Reports) -> None:
        writable = self._random.random() < 0.5  # else the next writer's open is the first
        try:
            found = self._found(read_only=True)
            number = self._number_of(found, reports)
            if writable and found != BLANK:
                opened = self._found(read_only=False)
                if opened != found:
                    raise LostError(f"{_shown(found)} was read, and then opened {_shown(opened)}")
        except WalError as error:
            raise LostError(repr(error)) from error
        self._count["segments begun"] += _newest_segment(self._log) - self._segment
        self._segment = _newest_segment(self._log)
        self._count["writes"] += reports.begun - self._number
        self._count["writes known to be durable"] += reports.durable - self._number
        self._count["writes lost"] += reports.begun - number
        self._count["cycles that lost some"] += reports.begun > number
        self._count["cycles that kept more than was known"] += number > reports.durable
        self._state, self._number = found, number

    def _found(self, *, read_only: bool) -> State:
        try:
            with Wal(self._log, read_only=read_only) as wal:
                self._count["torn tails"] += read_only and wal.stats().cut_bytes > 0
                return state_of(wal)
        except WalError as error:
            if read_only and error.errno == errno.ENOENT:
                return BLANK
            raise

    def _number_of(self, found: State, reports: Reports) -> int:
        """The number of the write after which the log was as it was found."""
        script = self._script()
        log = MemoryWal(durability="manual")  # the script's own believes that nothing was refused
        restore(log, self._state)
        needed = self._state
        earlier = []
        while True:
            state = state_of(log)
            if script.number == reports.durable:
                needed = state
            if state == found and script.number >= reports.durable:
                return script.number
            if state == found:
                earlier.append(script.number)
            if script.number >= reports.begun:
                break
            write = script.next()
            if write.number in reports.refused:
                continue
            try:
                write.apply(log)
            except WalError:  # the log was dead by then: it has taken nothing more
                break
        was = f"the state after {earlier[-1]}" if earlier else "a state that never was"
        raise LostError(
            f"found {_shown(found)}, {was}; durable was {_shown(needed)}; "
            f"the last write led to {_shown(state)}"
        )


def _fork(writer: Writer) -> tuple[int, int]:
    """The process and the descriptor that its reports are read from."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            writer.run(theirs)
        finally:
            os._exit(0)
    os.close(theirs)
    return pid, ours


def _read_to_end(pipe: int) -> str:
    """All that the writer says until it is dead. If one of its writes hangs, so would those of
    whoever uses the log; what it says of others meanwhile is no sign of life.
    """
    said = b""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and select.select([pipe], [], [], PATIENCE_S)[0]:
        part = os.read(pipe, PIPE_BYTES)
        if not part:
            return said.decode()
        said += part
    raise LostError("a write hangs after the cut")


def _unread_bytes(pipe: int) -> int:
    (unread,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0)))
    return int(unread)


def _shown(state: State) -> str:
    return (
        f"{state.first}..{state.last} (terms {[entry.term for entry in state.entries[-3:]]}, "
        f"boundary {state.boundary}, hard state {state.hard_state and state.hard_state.term})"
    )


def _newest_segment(log: Path) -> int:
    return max((int(path.stem, 16) for path in log.glob("*.wal")), default=0)


def run(kind: str, directory: Path, cycles: int, seed: int) -> None:
    """That many cycles, each history with a seed of its own. Raises LostError."""
    count: Counter[str] = Counter()
    started = time.monotonic()
    for first in range(0, cycles, CYCLES_OF_A_HISTORY):
        history = History(kind, directory, seed + first // CYCLES_OF_A_HISTORY, count)
        with closing(history):
            for _ in range(first, min(first + CYCLES_OF_A_HISTORY, cycles)):
                history.cycle()
    seconds = time.monotonic() - started
    print(f"{kind}: {cycles} cycles from seed {seed}, {1000 * seconds / cycles:.0f} ms each:")
    print(", ".join(f"{number} {what}" for what, number in sorted(count.items())))


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description="Cuts the power of a file system under a log.")
    parser.add_argument("kind", choices=SIZES)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(2**32))
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    # Mounts of its own, which go when it ends, however it ends; and their loop devices with them.
    if libc.unshare(CLONE_NEWNS) != 0:
        print(f"unshare does not work here: {os.strerror(get_errno())}")
        return 3
    logging.getLogger("pylogwal").addHandler(logging.NullHandler())  # cuts and errors are the point
    try:
        command("mount", "--make-rprivate", "/")  # not where / is no mount point, as in a chroot
        run(given.kind, given.directory, given.cycles, given.seed)
    except LostError as error:
        print(error)
        return 1
    except MountError as error:
        print(error)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
