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
        durable, place = wal.core.durable_target(2)
        assert not durable
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
    print("an error")
os._exit(0)
"""


def test_a_file_cut_beneath_the_log_is_an_error_also_after_faulthandler(tmp_path: Path) -> None:
    assert "an error" in run_python(FAULTHANDLER, tmp_path / "log")
