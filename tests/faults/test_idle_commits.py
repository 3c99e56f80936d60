"""A COMMIT alone beside syncs that last or fail, and where it cannot be stored."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import build_shim, run_beneath

BEGIN = """
import sys
from pathlib import Path
from decoder import Position
from faults import Fault, Shim
from pylogwal import SyncFailedError, Wal
from stores import run
sys.path.insert(0, str(Path(sys.argv[2])))
from decoder import read_tail
from test_idle_commit import alone, idle, until

path, shim = Path(sys.argv[1]), Shim()
shim.watch(path)
NAME = f"{1:016x}.wal"
"""

WRITTEN_DURING_A_SYNC = (
    BEGIN
    + """
wal = Wal(path, durability="manual")
with shim.held(NAME):
    wal.persist_entries(run(1, 1))
    durable_end = read_tail(path).batches[-1].end
    wal.core.arm(wal.core.fast_submit([]), True, -1)  # the sync thread is to sync
    shim.wait_held()
    wal.persist_entries(run(2, 2))  # its COMMIT cannot know of what this sync covers
"""
)

SOMETHING_NOT_DURABLE = (
    WRITTEN_DURING_A_SYNC
    + """
until(lambda: alone(path))
idle()
(batch,) = alone(path)
assert batch.commit.commit.watermark == Position(1, durable_end)
assert wal.durable_index() == 1
assert wal.last_index() == 2
wal.close()
"""
)

AFTER_A_FAILED_SYNC = (
    WRITTEN_DURING_A_SYNC
    + """
    shim.choose(Fault("fdatasync", "EIO", False, shim.seen()["fdatasync"] + 1))
until(lambda: wal.durable_index() == 1)
try:
    wal.flush()
except SyncFailedError:
    pass
else:
    raise AssertionError("the sync did not fail")
idle()
assert not alone(path)
"""
)

NOTHING_BUT_A_STORE = (
    BEGIN
    + """
wal = Wal(path)
wal.persist_entries(run(1, 1))
until(lambda: alone(path))
before = shim.seen()
wal.persist_entries(run(2, 2))
until(lambda: len(alone(path)) == 2)
idle()
wal.flush()
after = shim.seen()
changed = {name: count - before[name] for name, count in after.items() if count != before[name]}
# The sync is that of the write; before the store comes a look whether the file was cut short.
assert changed == {"fdatasync": 1, "fstat": 1}, changed
wal.close()
"""
)


CLOSED_MEANWHILE = (
    BEGIN
    + """
import os
import threading
import time
from processes import PATIENCE_S
wal = Wal(path)
wal.persist_entries(run(1, 1))
with shim.looks_held():
    shim.wait_held()  # the sync thread is about to append, without the lock
    closing = threading.Thread(target=wal.close, daemon=True)
    closing.start()
    time.sleep(0.2)  # so that it waits for the thread; were it later, nothing would be tested
closing.join(PATIENCE_S / 2)
if closing.is_alive():
    print("close hangs", flush=True)
    os._exit(1)
with Wal(path, read_only=True) as wal:
    assert wal.durable_index() == 1
"""
)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.parametrize(
    "program",
    [SOMETHING_NOT_DURABLE, NOTHING_BUT_A_STORE, AFTER_A_FAILED_SYNC, CLOSED_MEANWHILE],
    ids=["something-not-durable", "nothing-but-a-store", "after-a-failed-sync", "closed-meanwhile"],
)
def test_a_commit_alone(shim: Path, tmp_path: Path, program: str) -> None:
    run_beneath(shim, program, tmp_path / "log", Path(__file__).parent.parent / "behaviour")
