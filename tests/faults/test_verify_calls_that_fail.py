"""Verification where a call into the system fails: it names the file, or ends with the error, and
never takes what it could not read for damage."""

from __future__ import annotations

from pathlib import Path

from faults import build_shim, run_beneath

PROGRAM = """
import errno, sys
from pathlib import Path
from faults import Fault, Shim
from pylogwal import Entry, FindingKind, LogIOError, Wal
from pylogwal.verification import Verification

log = Path(sys.argv[1])
with Wal(log, segment_bytes=65536, durability="manual") as wal:
    for index in range(1, 200):
        wal.persist_entries([Entry(index, 1, bytes(1000))])
    needed = len(wal.core.segments())
newest = log / f"{needed:016x}.wal"
with newest.open("r+b") as file:
    file.seek(8192 + 500)
    file.write(b"damage")

shim = Shim()
shim.watch(log)
before = shim.seen()
(damage,) = Verification(str(log))
calls = {call: count - before[call] for call, count in shim.seen().items()}


def fail(call, error, number):
    # The call of that number from now on.
    shim.choose(Fault(call, error, False, shim.seen()[call] + number))



for call, error in ("pread", "EIO"), ("openat", "EACCES"), ("fstat", "EIO"):
    files = set()
    for number in range(1, calls[call] + 1):
        fail(call, error, number)
        touched = shim.touched()
        try:
            found = list(Verification(str(log)))
        except LogIOError as ended:
            assert ended.errno == getattr(errno, error), ended
            continue
        finally:
            assert shim.touched() == touched + 1, (call, number)
        others = [finding for finding in found if finding != damage]
        assert len(found) - len(others) == 1 or others[0].file == newest.name, (call, found)
        assert all(finding.kind is FindingKind.UNREADABLE for finding in others), (call, found)
        assert len(others) <= 1, (call, number, found)
        files |= {finding.file for finding in others}
    print(call, len(files))
    assert files  # but where it was read once more, and then well

for call, error in ("openat", "EMFILE"), ("mmap", "EMFILE"), ("fdopendir", "EMFILE"):
    for number in range(1, calls[call] + 1):
        fail(call, error, number)
        touched = shim.touched()
        try:
            assert list(Verification(str(log))) == [damage], (call, number)
        except LogIOError as ended:
            assert ended.errno == errno.EMFILE, ended
assert list(Verification(str(log))) == [damage]

oldest = log / "0000000000000001.wal"
oldest.rename(log / "aside")
oldest.symlink_to(oldest.name)  # nobody can open that
found = list(Verification(str(log)))
assert found[-1] == damage
assert [(finding.file, finding.kind) for finding in found[:-1]] == [
    (oldest.name, FindingKind.UNREADABLE)
]
assert (found[0].first_index, found[0].needed) == (1, True)
"""


def test_what_cannot_be_read_is_named_and_is_no_damage(tmp_path: Path) -> None:
    shim = build_shim(tmp_path)
    print(run_beneath(shim, PROGRAM, tmp_path / "log"))
