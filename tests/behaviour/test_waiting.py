"""Who waits is told, whatever else happens in the same moment; and told only what is so."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest
from processes import run_python
from stores import SEGMENT_BYTES, run

import pylogwal
from pylogwal import ConflictError, Entry, LogId, ReadOnlyError, Wal

PATIENCE_S = 60
MODES = ["batch", "manual"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_submit_that_meets_a_roll_and_a_wait_for_what_is_before_it_both_finish(
    tmp_path: Path, mode: str
) -> None:
    async with pylogwal.open(tmp_path, durability=mode, segment_bytes=SEGMENT_BYTES) as store:
        first = store.submit([Entry(1, 1, bytes(40_000))])
        second = store.submit([Entry(2, 1, bytes(40_000))])
        waiting = asyncio.ensure_future(store.wait_durable(1))
        await asyncio.wait_for(asyncio.gather(first, second, waiting), PATIENCE_S)
        assert store.durable_index() >= 1


@pytest.mark.parametrize("way", ["twice", "cancelled"])
async def test_what_waits_is_told_when_the_store_closes(tmp_path: Path, way: str) -> None:
    store = await pylogwal.open(tmp_path, segment_bytes=SEGMENT_BYTES)
    futures = [store.submit([Entry(i, 1, bytes(9_000))]) for i in range(1, 40)]
    if way == "twice":
        await asyncio.gather(store.aclose(), store.aclose())
    else:
        closing = asyncio.ensure_future(store.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
    told = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), PATIENCE_S)
    await store.aclose()
    acknowledged = told.count(None)
    with Wal(tmp_path) as wal:
        assert wal.last_index() >= acknowledged


def test_a_reader_does_not_say_that_what_nobody_synced_is_durable(tmp_path: Path) -> None:
    with Wal(tmp_path, durability="manual") as writer:
        writer.persist_entries(run(1, 2))
        with Wal(tmp_path, read_only=True) as reader:
            assert reader.last_index() == 2
            assert reader.durable_index() == 0
            with pytest.raises(ReadOnlyError):
                reader.wait_durable(2)


def test_an_entry_that_is_replaced_while_it_is_waited_for_is_a_conflict(tmp_path: Path) -> None:
    with Wal(tmp_path, durability="manual") as wal:
        wal.persist_entries(run(1, 2))
        ticket, place = wal.core.durable_target(2)
        assert ticket
        wal.persist_entries([Entry(2, 2, b"another")])
        wal.flush()
        with pytest.raises(ConflictError):
            wal.core.check_durable(2, place)


def test_a_boundary_that_is_only_accepted_does_not_count_as_durable(tmp_path: Path) -> None:
    with Wal(tmp_path, durability="manual") as wal:
        wal.persist_entries(run(1, 10))
        wal.accept_purge(LogId(500, 3), may_wait=True)
        assert wal.first_index() == 501
        assert wal.durable_index() == 0
        wal.flush()
        assert wal.durable_index() == 500


def test_a_loop_that_ends_with_a_write_under_way_lets_the_log_go(tmp_path: Path) -> None:
    async def main() -> None:
        store = await pylogwal.open(tmp_path)
        store.submit(run(1, 3))

    with pytest.warns(ResourceWarning, match="never closed"):
        asyncio.run(main())
        gc.collect()
    with Wal(tmp_path) as wal:
        assert wal.get_entries(1, 9) == run(1, 3)


async def test_a_submit_without_a_loop_raises_before_anything_is_written(tmp_path: Path) -> None:
    async with pylogwal.open(tmp_path) as store:
        with pytest.raises(RuntimeError, match="loop"):
            await asyncio.to_thread(store.submit, run(1, 1))
        assert store.last_index() == 0


REFUSED_AT_A_ROLL = """
import asyncio, resource, signal, sys
import pylogwal
from pylogwal import DiskFullError, Entry

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

async def main():
    async with pylogwal.open(sys.argv[1], segment_bytes=65536) as store:
        def submit(size=10):
            return store.submit([Entry(store.last_index() + 1, 1, bytes(size))])

        resource.setrlimit(resource.RLIMIT_FSIZE, (131072, 131072))
        for attempt in range(60):
            for _ in range(1 + attempt % 4):
                await asyncio.gather(*(submit() for _ in range(3)))
            large = submit(200_000)  # would take a file of its own, beyond the limit
            small = submit()
            try:
                await asyncio.wait_for(large, 60)
            except pylogwal.WalError as error:
                assert not isinstance(error, pylogwal.SyncFailedError), error
            else:
                raise AssertionError("there was room")
            await asyncio.wait_for(small, 60)
            assert store.durable_index() == store.last_index()

asyncio.run(main())
"""


def test_a_write_behind_one_that_is_refused_at_its_roll_is_told(tmp_path: Path) -> None:
    run_python(REFUSED_AT_A_ROLL, tmp_path)


FINALIZER = """
import faulthandler, gc, sys
from pylogwal import ClosedError, Entry, Wal

faulthandler.dump_traceback_later(60, exit=True)
wal = Wal(sys.argv[1], durability="manual")
wal.persist_entries([Entry(i, 1, b"x") for i in range(1, 5001)])

class Node:
    def __init__(self):
        self.itself = self

    def __del__(self):
        wal.close()

gc.collect()
Node()
for _ in range(100):  # somewhere in here it is collected
    try:
        assert len(wal.get_entries(1, 5000)) == 5000
    except ClosedError:
        break
"""


def test_a_finalizer_that_closes_the_log_does_not_wait_for_the_read_that_runs_it(
    tmp_path: Path,
) -> None:
    run_python(FINALIZER, tmp_path)


FAULTHANDLER = """
import faulthandler, os, sys
import pylogwal
from pylogwal import Entry, Wal
first = Wal(sys.argv[1] + "-1")
faulthandler.enable()
wal = Wal(sys.argv[1], durability="manual")
wal.persist_entries([Entry(i, 1, bytes(9000)) for i in range(1, 50)])
os.truncate(sys.argv[1] + "/0000000000000001.wal", 8192)
try:
    wal.get_entries(1, 49)
except pylogwal.WalError:
    print("an error", flush=True)
os._exit(0)
"""


def test_a_file_cut_beneath_the_log_is_an_error_also_after_faulthandler(tmp_path: Path) -> None:
    assert "an error" in run_python(FAULTHANDLER, tmp_path / "log")
