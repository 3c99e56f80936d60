"""The interpreter ends while stores are open: status 0, nothing printed, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import run_python

from pylogwal import Wal

START = """
import asyncio, atexit, builtins, gc, sys, threading
import pylogwal
from pylogwal import Entry, Wal

path = sys.argv[1]
FIVE = [Entry(i, 1, b"%d" % i) for i in range(1, 6)]
MANUAL = {"durability": "manual", "segment_bytes": 65536}

def big(i):
    return [Entry(i, 1, b"%d " % i * 300)]

async def opened(**options):
    return await pylogwal.open(path, **{**MANUAL, **options})
"""

PROGRAMS = {
    "an open handle": """
wal = Wal(path, **MANUAL)
wal.persist_entries(FIVE)
""",
    "a handle that the interpreter itself holds": """
builtins.wal = Wal(path, **MANUAL)
builtins.wal.persist_entries(FIVE)
""",
    "a handle in a cycle that was never collected": """
gc.disable()
wal = Wal(path, **MANUAL)
wal.persist_entries(FIVE)
cycle = [wal, wal.core.last_index]
cycle.append(cycle)
del wal, cycle
""",
    "a handle whose modules went first": """
wal = Wal(path, **MANUAL)
wal.persist_entries(FIVE)
for name in [name for name in sys.modules if name.startswith("pylogwal")]:
    del sys.modules[name]
pylogwal.__dict__.clear()
""",
    "a read-only handle": """
with Wal(path, **MANUAL) as wal:
    wal.persist_entries(FIVE)
reader = Wal(path, read_only=True)
reader.get_entries(1, 5)
""",
    "a handle that atexit closes": """
wal = Wal(path, **MANUAL)
wal.persist_entries(FIVE)
atexit.register(wal.close)
""",
    "a handle that atexit uses": """
wal = Wal(path, **MANUAL)
atexit.register(lambda: wal.persist_entries(FIVE))
""",
    "a store after its loop": """
store = asyncio.run(opened())
asyncio.run(store.persist_entries(FIVE))
""",
    "a store in a loop that was not closed": """
loop = asyncio.new_event_loop()
store = loop.run_until_complete(opened())
loop.run_until_complete(store.persist_entries(FIVE))
loop.run_until_complete(store.flush_async())
""",
    "futures that are pending in a loop that was closed": """
loop = asyncio.new_event_loop()
store = loop.run_until_complete(opened(durability="batch"))
async def start():
    return [store.submit(FIVE), store.submit([])]
futures = loop.run_until_complete(start())
loop.close()
""",
    "futures that are pending in a loop that was not closed": """
loop = asyncio.new_event_loop()
store = loop.run_until_complete(opened(durability="batch"))
async def start():
    return [store.submit(FIVE), store.submit([])]
futures = loop.run_until_complete(start())
""",
    "futures that wait for a roll": """
loop = asyncio.new_event_loop()
store = loop.run_until_complete(opened(durability="batch", spare_segments=0))
async def start():
    await store.persist_entries(FIVE)
    return [store.submit(big(i)) for i in range(6, 400)]
futures = loop.run_until_complete(start())
""",
    "sys.exit inside the loop": """
async def main():
    store = await opened(durability="batch")
    await store.persist_entries(FIVE)
    future = store.submit(big(6))
    sys.exit(0)
asyncio.run(main())
""",
    "a daemon thread that writes": """
wal = Wal(path, **{**MANUAL, "durability": "batch"})
wal.persist_entries(FIVE)
def write():
    while True:
        wal.persist_entries(big(wal.last_index() + 1))
threading.Thread(target=write, daemon=True).start()
while wal.last_index() < 50:
    pass
""",
    "daemon threads that read and write": """
wal = Wal(path, **MANUAL)
wal.persist_entries(FIVE)
def write():
    while True:
        wal.persist_entries(big(wal.last_index() + 1))
def read():
    while True:
        wal.get_entries(1, 100)
        wal.entry(1)
for work in (write, read, read):
    threading.Thread(target=work, daemon=True).start()
while wal.last_index() < 50:
    pass
""",
    "a daemon thread with a loop of its own": """
store = asyncio.run(opened(durability="batch"))
store.wal.persist_entries(FIVE)
async def work():
    while True:
        await store.persist_entries(big(store.last_index() + 1))
threading.Thread(target=lambda: asyncio.run(work()), daemon=True).start()
while store.last_index() < 50:
    pass
""",
    "an open that is under way": """
with Wal(path, **MANUAL) as wal:
    wal.persist_entries(FIVE)
loop = asyncio.new_event_loop()
async def start():
    return asyncio.ensure_future(opened())
task = loop.run_until_complete(start())
loop.run_until_complete(asyncio.sleep(0))
task.cancel()
loop.run_until_complete(asyncio.sleep(0))
loop.close()
""",
    "a close that is under way": """
loop = asyncio.new_event_loop()
store = loop.run_until_complete(opened())
loop.run_until_complete(store.persist_entries(FIVE))
async def start():
    return asyncio.ensure_future(store.aclose())
task = loop.run_until_complete(start())
loop.run_until_complete(asyncio.sleep(0))
task.cancel()
loop.run_until_complete(asyncio.sleep(0))
""",
    "an async generator over a store": """
async def entries(store):
    for index in range(1, 6):
        yield await store.entry(index)
async def main():
    store = await opened()
    await store.persist_entries(FIVE)
    async for entry in entries(store):
        return entry
asyncio.run(main())
""",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_the_interpreter_may_end_with(tmp_path: Path, program: str) -> None:
    run_python(START + program, tmp_path / "log")
    with Wal(tmp_path / "log") as wal:
        found = wal.get_entries(1, 2**64 - 1)
    assert [entry.payload for entry in found[:5]] == [b"%d" % i for i in range(1, 6)]
    assert [entry.index for entry in found] == list(range(1, len(found) + 1))


def test_os_exit_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    run_python(
        START + "wal = Wal(path, **MANUAL); wal.persist_entries(FIVE); import os; os._exit(7)",
        tmp_path / "log",
        status=7,
    )
    with Wal(tmp_path / "log") as wal:
        assert wal.last_index() == 5
