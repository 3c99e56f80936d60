"""Where no next segment can be made, the write that needs it is refused, and no other."""

from __future__ import annotations

from pathlib import Path

from faults import build_shim, run_beneath

REFUSED = """
import asyncio
import sys
from pathlib import Path
from faults import Fault, Shim
import pylogwal
from pylogwal import DiskFullError, Entry

async def main():
    path, shim = Path(sys.argv[1]), Shim()
    shim.watch(path)
    async with pylogwal.open(path, segment_bytes=65536, spare_segments=0) as store:
        # So many that after them the first of a few does not ask for a sync.
        await asyncio.gather(*(store.submit([Entry(i, 1)]) for i in range(1, 65)))
        await store.persist_entries([Entry(65, 1, bytes(20000))])
        await asyncio.gather(*(store.submit([Entry(i, 1)]) for i in range(66, 98)))
        shim.choose(Fault("renameat2", "ENOSPC", False, shim.seen()["renameat2"] + 1))
        with shim.held(f"{1 << 63:016x}.spare"):  # the next segment
            refused = store.submit([Entry(98, 1, bytes(40000))])
            await asyncio.to_thread(shim.wait_held)
            after = store.submit([Entry(98, 1, b"fits")])
            await asyncio.sleep(0.01)
        try:
            await refused
        except DiskFullError:
            pass
        else:
            raise AssertionError("it was not refused")
        await asyncio.wait_for(after, 60)

asyncio.run(main())
"""


def test_who_comes_after_a_refused_write_is_told(tmp_path: Path) -> None:
    shim = build_shim(tmp_path)
    for number in range(3):  # it takes a little luck to come at the wrong moment
        run_beneath(shim, REFUSED, tmp_path / f"log{number}")
