"""What comes while an fdatasync is under way: shim.c holds it for as long as the test likes."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import build_shim, run_beneath

NOTHING_TO_DO = """
import sys
import time
from functools import partial
from pathlib import Path
from faults import Shim
from pylogwal import Wal
from pylogwal._core import lib

path, shim = Path(sys.argv[1]), Shim()
shim.watch(path)
with shim.held(f"{1:016x}.wal"):
    # In the smallest segment the next one is made at once, and first this one's header synced: a
    # sync that covers no write.
    wal = Wal(path, segment_bytes=65536)
    shim.wait_held()
    durable_ticket = partial(lib.lw_wal_durable_ticket, wal.core._handle)
    ticket = wal.core.fast_submit([])
    assert durable_ticket() == ticket, "nothing was pending, so it is durable at once"
while wal.stats().syncs == 0:
    time.sleep(0.001)
assert durable_ticket() >= ticket, "what was durable is not any more"
wal.close()
"""


WAIT_WITH_A_TIMEOUT = """
import sys
from pathlib import Path
from faults import Shim
from pylogwal import Entry, Wal

path, shim = Path(sys.argv[1]), Shim()
shim.watch(path)
wal = Wal(path, durability="manual")
wal.persist_entries([Entry(1, 1, b"x")])
with shim.held(f"{1:016x}.wal"):
    try:
        wal.wait_durable(1, 0.05)
    except TimeoutError:
        print("timed out")
    assert wal.durable_index() == 0
wal.wait_durable(1)
wal.close()
"""


IN_A_LOOP = """
import asyncio
import sys
import time
from pathlib import Path
import pylogwal
from faults import Shim
from processes import PATIENCE_S
from stores import run

path, shim = Path(sys.argv[1]), Shim()
shim.watch(path)
"""


MANY_TASKS = """
async def main():
    async with pylogwal.open(path) as store:
        await store.persist_entries(run(1, 1))
        before = store.stats().syncs
        with shim.held(f"{1:016x}.wal"):
            futures = [store.submit(run(2, 2))]
            shim.wait_held()
            futures += [store.submit(run(n, n)) for n in range(3, 502)]
        await asyncio.gather(*futures)
        assert store.stats().syncs - before == 2
        assert store.durable_index() == 501

asyncio.run(main())
"""


FOLLOWS_ON = """
async def main():
    # No sync takes any time, so the tasks are what takes longer, and the groups overlap.
    shim.stop_clock()
    async with pylogwal.open(path) as store:
        await asyncio.gather(*(store.submit(run(n, n)) for n in range(1, 9)))
        with shim.held(f"{1:016x}.wal"):
            first = store.submit(run(9, 9))
            await asyncio.to_thread(shim.wait_held)
            others = [store.submit(run(n, n)) for n in range(10, 13)]  # a third of the crowd
        patience = time.monotonic() + PATIENCE_S / 2
        while store.durable_index() < 12:
            assert time.monotonic() < patience, "it waits for the loop, which is busy with this"
        await asyncio.gather(first, *others)

asyncio.run(main())
"""


SLOW_DISK = """
import selectors

TASKS, ROUNDS = 16, 30
shim.stop_clock()

class Selector(selectors.DefaultSelector):
    # A sync ends when the loop has nothing else to do: whatever the tasks do takes no time.
    def select(self, timeout=None):
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        with shim.syncs_may_end():
            return super().select(timeout)

async def main():
    async with pylogwal.open(path) as store:
        await store.persist_entries(run(1, 1))
        shim.slow(0.005)
        before = store.stats().syncs
        persist = getattr(store, sys.argv[2])

        async def write():
            for _ in range(ROUNDS):
                index = store.last_index() + 1
                await persist(run(index, index))

        await asyncio.gather(*(write() for _ in range(TASKS)))
        print((store.stats().syncs - before) / ROUNDS)

loop = asyncio.SelectorEventLoop(Selector())
loop.run_until_complete(main())
loop.close()
"""


SLOW_TASKS = """
import types

TASKS, ROUNDS, WARM_UP = 16, 30, 5
shim.stop_clock()

def wait_until_durable(store, index):
    # The loop is busy meanwhile, with the task that calls this.
    patience = time.monotonic() + PATIENCE_S / 2
    while store.durable_index() < index:
        assert time.monotonic() < patience, "the disk is idle while the tasks work"

@types.coroutine
def write_and_work(write, work):
    waiting = write.__await__()
    awaited = next(waiting)
    work()
    try:
        while True:
            awaited = waiting.send((yield awaited))
    except StopIteration:
        pass

async def main():
    async with pylogwal.open(path) as store:
        shim.slow(0.003)
        persist = getattr(store, sys.argv[2])
        syncs = []

        def work():
            shim.advance(0.001)
            rounds, number = divmod(store.last_index(), TASKS)
            if rounds > WARM_UP and number in (TASKS // 2, TASKS - 2):
                # Fewer than a third are still to be synced, though the loop has heard of nothing.
                wait_until_durable(store, store.last_index() - TASKS // 3)
            if number == 0:
                store.flush()  # so all are told at once, and the next round is as this one was
                syncs.append(store.stats().syncs)

        async def write():
            for _ in range(WARM_UP + ROUNDS):
                index = store.last_index() + 1
                await write_and_work(persist(run(index, index)), work)

        await asyncio.gather(*(write() for _ in range(TASKS)))
        print((syncs[-1] - syncs[WARM_UP]) / (ROUNDS - 1) - 1)  # without those of the flushes

asyncio.run(main())
"""


def run(source: str, tmp_path: Path, *arguments: object) -> str:
    return run_beneath(build_shim(tmp_path), source, tmp_path / "log", *arguments)


def test_a_sync_does_not_take_back_what_became_durable_meanwhile(tmp_path: Path) -> None:
    run(NOTHING_TO_DO, tmp_path)


def test_a_wait_with_a_timeout_does_not_do_the_sync_itself(tmp_path: Path) -> None:
    assert run(WAIT_WITH_A_TIMEOUT, tmp_path) == "timed out\n"


def test_all_writes_that_come_during_a_sync_share_the_next(tmp_path: Path) -> None:
    run(IN_A_LOOP + MANY_TASKS, tmp_path)


def test_a_sync_follows_on_another_without_waiting_for_the_loop(tmp_path: Path) -> None:
    run(IN_A_LOOP + FOLLOWS_ON, tmp_path)


ways_to_wait = pytest.mark.parametrize("way", ["persist_entries", "submit"])


@ways_to_wait
def test_where_the_disk_is_slow_all_tasks_share_one_sync(tmp_path: Path, way: str) -> None:
    assert float(run(IN_A_LOOP + SLOW_DISK, tmp_path, way)) < 1.2


@ways_to_wait
def test_where_the_tasks_are_slow_the_disk_works_meanwhile(tmp_path: Path, way: str) -> None:
    assert float(run(IN_A_LOOP + SLOW_TASKS, tmp_path, way)) >= 2
