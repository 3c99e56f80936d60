"""The command `pylogwal verify`; and reading a log through to its end, past what is damaged."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from pylogwal.complaints import complain, tell
from pylogwal.errors import CorruptionError, PurgedError, WalError
from pylogwal.types import Entry, Finding, FindingKind, VerifyProgress
from pylogwal.verification import Verification

if TYPE_CHECKING:
    from typing_extensions import Self

    from pylogwal.wal import Wal

__all__ = ["EXIT_STATUS", "WHAT_IS_READ", "Damage", "read_through", "verify_command"]

WELL, DAMAGED, UNREADABLE, INTERRUPTED = 0, 1, 3, 130

PROGRESS_INTERVAL_S = 0.2


# -- the command -----------------------------------------------------------------------------------

WHAT_IS_READ = """\
Reads everything that the log relies on, and names what is damaged: the file, the byte, the entries.
It goes on behind damage, works on a log that does not open, and changes nothing. It does not
disturb a live writer. What it finds is told at once, oldest segment first; in a log that was not
closed, the last segment is read before all others.

what is read:
  LOCK. Of each segment that the log needs: the header page and the close mark page with their
  unused parts; every frame with its order, its chain and its payload; the rules of each batch, and
  its COMMIT; the offset index; the footer page; and that the next segment goes on where this one
  ends.
what is not read, because it is not part of the log:
  the bytes between the last frame of a segment and its offset index; the bytes behind the last
  frame of the last segment; files that hold no visible entry any more (only that they belong to
  this log is checked); .spare files; files with other names.
A torn batch at the end of the log, after an unclean stop, is not damage.

"damaged" means that entries, or the next recovery, depend on the damaged bytes. "damaged, not
needed" means that nothing depends on them any more: a record of entries that were purged or
replaced, the COMMIT of a sealed segment, or a page that recovery does without. The disk has lost
bytes all the same.
Behind a place that the system cannot read, verification goes on with the next segment."""

EXIT_STATUS = """\
exit status: 0 no damage, 1 damage found (needed or not), 2 usage error, 3 something could not be
read, 130 interrupted. In each case what was found is printed."""


def verify_command(directory: str, as_json: bool) -> int:
    """`pylogwal verify DIR`: prints what it finds, and returns the exit status."""
    started_s = time.monotonic()
    path = str(Path(directory).absolute())
    findings: list[Finding] = []
    error: WalError | None = None
    ended: BaseException | None = None
    with _Interruption() as interruption, _Shown() as shown:

        def progress(now: VerifyProgress) -> None:
            shown.progress(now)
            if interruption.happened:
                verification.stop()

        verification = Verification(path, progress=progress)
        try:
            for finding in verification:
                findings.append(finding)
                if not as_json:
                    shown.clear()
                    print(_line(finding), flush=True)
        except WalError as failed:
            if not findings:
                raise
            error = failed
        except (KeyboardInterrupt, SystemExit) as end:  # a second signal, or another one
            ended = end
        finally:
            verification.close()
        shown.clear()
        interrupted = interruption.happened or ended is not None
        status = _status(findings, error, interrupted=interrupted)
        report = _report(path, verification.progress, findings, time.monotonic() - started_s)
        report["complete"] = status in (WELL, DAMAGED)
        _print_end(report, status, error, as_json=as_json)
    if isinstance(ended, SystemExit):
        raise ended
    return status


def _print_end(
    report: dict[str, Any], status: int, error: WalError | None, *, as_json: bool
) -> None:
    if error is not None:
        told = {"type": type(error).__name__, "message": str(error), "errno": error.errno}
        report["error"] = told
        complain(str(error))
    if as_json:
        print(json.dumps(report), flush=True)
    else:
        _print_summary(report, status)


def _status(findings: list[Finding], error: WalError | None, *, interrupted: bool) -> int:
    if interrupted:
        return INTERRUPTED
    if error is not None:
        return UNREADABLE
    if not findings:
        return WELL
    only_unreadable = all(finding.kind is FindingKind.UNREADABLE for finding in findings)
    return UNREADABLE if only_unreadable else DAMAGED


class _Interruption:
    """Notes the first SIGINT instead of raising KeyboardInterrupt, so that no finding is lost
    between two statements. A second one does what the first would have done.
    """

    def __init__(self) -> None:
        self.happened = False
        self._before: Any = None
        self._installed = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.getsignal(signal.SIGINT)
            # Whoever ignores SIGINT (nohup) goes on doing so.
            if self._before not in (signal.SIG_IGN, None):
                signal.signal(signal.SIGINT, self._note)
                self._installed = True
        return self

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.happened = True
        self._restore()

    def _restore(self) -> None:
        if self._installed:
            self._installed = False
            signal.signal(signal.SIGINT, self._before)

    def __exit__(self, *_: object) -> None:
        self._restore()


def _report(
    path: str, progress: VerifyProgress, findings: list[Finding], seconds: float
) -> dict[str, Any]:
    return {
        "directory": path,
        **progress._asdict(),
        "seconds": round(seconds, 3),
        "damage": [{**finding._asdict(), "kind": str(finding.kind)} for finding in findings],
    }


def _line(finding: Finding) -> str:
    first, last = finding.first_index, finding.last_index
    entries = ""
    if first is not None:
        one = f"entry {first}" if first == last else f"entries {first}..{last}"
        entries = (f"entries from {first} on" if last is None else one) + ": "
    head = "damaged" if finding.needed else "damaged, not needed"
    return f"{head}: {finding.file} at byte {finding.offset}: {entries}{finding.message}"


def _print_summary(report: dict[str, Any], status: int) -> None:
    held = report["last_index"] >= report["first_index"] > 0
    where = " of {first_index}..{last_index}" if held else ""
    counts = "segments: {segments}, {bytes:,} bytes, {seconds:.2f} s"
    if status == INTERRUPTED:
        counts += "; interrupted, of {total_bytes:,} bytes"
    print(f"verified {{entries:,}} entries{where}, {counts}".format(**report))
    damage = report["damage"]
    needed = sum(row["needed"] for row in damage)
    if damage:
        print(f"damage: {needed} needed, {len(damage) - needed} not needed")
        print('what each means, and what is safe: docs/operations.md, "Findings of verify"')
    elif status == WELL:
        print("no damage")


class _Shown:
    """Shows the progress of a long run on stderr, if that is a terminal."""

    def __init__(self) -> None:
        self._wanted = sys.stderr is not None and sys.stderr.isatty()
        self._next_s = time.monotonic() + PROGRESS_INTERVAL_S
        self._any = False

    def progress(self, progress: VerifyProgress) -> None:
        """Shows it, but not more often than each PROGRESS_INTERVAL_S."""
        if not self._wanted or time.monotonic() < self._next_s or not progress.total_bytes:
            return
        self._next_s = time.monotonic() + PROGRESS_INTERVAL_S
        self._any = True
        percent = 100 * progress.bytes // progress.total_bytes
        tell(f"\r{progress.bytes:,} of {progress.total_bytes:,} bytes, {percent} %")

    def clear(self) -> None:
        """Removes the line."""
        if self._any:
            tell("\r\x1b[K")
            self._any = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


# -- reading through -------------------------------------------------------------------------------

CHUNK_ENTRIES = 4096
CHUNK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Damage:
    """A place where a log is damaged, and the entries that are lost by it."""

    file: str | None
    offset: int | None
    """In bytes, in `file`: where the first of them stood."""
    first_index: int | None
    last_index: int | None
    """None: to the end, which is not known."""
    message: str

    @classmethod
    def of(cls, error: CorruptionError) -> Damage:
        """What an error tells."""
        return cls(error.file, error.offset, error.first_index, error.last_index, str(error))

    def __str__(self) -> str:
        where = self.file or "the log"
        if self.offset is not None:
            where += f" at byte {self.offset}"
        if self.first_index is None:
            return where
        if self.last_index is None:
            return f"{where}: entries from {self.first_index} on"
        if self.first_index == self.last_index:
            return f"{where}: entry {self.first_index}"
        return f"{where}: entries {self.first_index}..{self.last_index}"


def read_through(wal: Wal, first: int, last: int) -> Iterator[list[Entry] | Damage]:
    """The entries first..last of a read-only handle, clipped to what exists, in order and a few
    thousand at a time; in between, what is damaged.

    What a live writer purges or cuts meanwhile is left out. Raises WalError where a file cannot be
    read.
    """
    at = max(first, wal.first_index())
    last = min(last, wal.last_index())
    count = CHUNK_ENTRIES
    while at <= last:
        try:
            entries = wal.get_entries(at, min(last, at + count - 1), CHUNK_BYTES)
        except PurgedError:
            wal.refresh()
            at, last = max(at, wal.first_index()), min(last, wal.last_index())
            continue
        except CorruptionError as error:
            damage = Damage.of(error)
            assert damage.first_index is not None
            assert damage.last_index is not None
            if damage.first_index > at:
                count = damage.first_index - at  # what lies before it comes first
                continue
            yield damage
            at = damage.last_index + 1
        else:
            yield entries
            at = entries[-1].index + 1
        count = CHUNK_ENTRIES
