"""Where 0 to 2 are closed none of them is used for a file of the log, not even for a moment."""

from __future__ import annotations

from pathlib import Path

from faults import build_shim, run_beneath

PROGRAM = """
import os, sys
from pathlib import Path
from faults import Shim
from pylogwal import Entry, LogId, Wal

path, report = Path(sys.argv[1]), os.fdopen(os.dup(1), "w")
shim = Shim()
shim.watch(path)
for number in range(3):
    os.close(number)

def close_again():
    for number in range(3):
        try:
            os.close(number)
        except OSError:
            pass

for spares in (0, 2):  # a new log, and one that is there
    wal = Wal(path, segment_bytes=65536, spare_segments=spares)
    for index in range(wal.last_index() + 1, wal.last_index() + 41):
        wal.persist_entries([Entry(index, 1, bytes(4000))])
        close_again()
    wal.purge(LogId(wal.last_index() - 1, 1))
    close_again()
    Wal(path, read_only=True).close()
    close_again()
    wal.close()
    close_again()
print(shim.low(), file=report, flush=True)
assert shim.seen()["openat"] > 20
os._exit(0)
"""


def test_no_call_uses_a_descriptor_below_3_for_a_file_of_the_log(tmp_path: Path) -> None:
    shim = build_shim(tmp_path)
    assert run_beneath(shim, PROGRAM, tmp_path / "log").strip() == "0"
