"""A process that may map no more files is told which limit it met, and nothing is lost by it."""

from __future__ import annotations

import errno
from pathlib import Path

from faults import build_shim, run_beneath
from stores import run

from pylogwal import Wal

OPEN = """
import sys
from pathlib import Path
from faults import Fault, Shim
from pylogwal import LogIOError, Wal

path, shim = Path(sys.argv[1]), Shim()
shim.watch(path)
shim.choose(Fault("mmap", "ENOMEM", False, 3))
try:
    Wal(path)
except LogIOError as error:
    print(error.errno, error)
"""


def test_a_failing_mmap_names_the_limit_of_mappings(tmp_path: Path) -> None:
    with Wal(tmp_path / "log", segment_bytes=65536) as wal:
        while wal.stats().segments < 5:
            index = wal.last_index() + 1
            wal.persist_entries(run(index, index, payload=bytes(50_000)))
    told = run_beneath(build_shim(tmp_path), OPEN, tmp_path / "log")
    assert told.startswith(f"{errno.ENOMEM} ")
    assert "vm.max_map_count" in told
    with Wal(tmp_path / "log") as wal:
        assert wal.last_index() == index
