"""What a failed sync says: its kind, its file, and what the system said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from faults import build_shim, environment
from processes import PATIENCE_S

WHILE_OPEN = """
shim.watch(path)
wal = Wal(path)
shim.choose(Fault("fdatasync", "EIO", False, shim.seen()["fdatasync"] + 1))
for _ in range(2):
    print_failure(partial(wal.persist_entries, [Entry(1, 1)]))
"""

AT_OPEN = """
Wal(path, durability="manual").core._handle = None  # not closed: the next open recovers
shim.watch(path)
shim.choose(Fault("fdatasync", "EIO", False, 1))
print_failure(partial(Wal, path))
"""

OF_THE_NAME = """
shim.watch(path)
shim.choose(Fault("fsync", "EIO", False, 1))
print_failure(partial(Wal, path))
"""

BEGIN = """
import sys
import warnings
from functools import partial
from pathlib import Path
from faults import Fault, Shim
from pylogwal import Entry, SyncFailedError, Wal

warnings.simplefilter("ignore")
path, shim = Path(sys.argv[1]), Shim()

def print_failure(call):
    try:
        call()
    except SyncFailedError as error:
        print(error.file, error.errno)
"""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (WHILE_OPEN, 2 * ["0000000000000001.wal 5"]),
        (AT_OPEN, ["0000000000000001.wal 5"]),
        (OF_THE_NAME, ["None 5"]),
    ],
    ids=["while it is open", "in recovery", "of the directory's name"],
)
def test_a_failed_sync_names_its_file(tmp_path: Path, source: str, said: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + source, tmp_path / "log"],
        env=environment(build_shim(tmp_path)),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout.splitlines() == said, done.stderr
