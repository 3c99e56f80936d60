"""A rotation that finds no file ready holds up neither syncs nor other calls: shim.c keeps the log
from getting blocks for the next file, for as long as the test likes, and slows its syncs.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import build_shim, run_beneath
from processes import PATIENCE_S

BEGIN = """
import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path
import pylogwal
from faults import Shim
from pylogwal import Entry, LogId, Wal
from stores import run

path, shim = Path(sys.argv[1]), Shim()
shim.watch(path)
PATIENCE_S = float(sys.argv[2])


def until(holds):
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.0005)


def fill_segments(wal, count):
    while wal.stats().segments < count:
        index = wal.last_index() + 1
        wal.persist_entries(run(index, index, payload=bytes(40_000)))


def fill(wal):
    # Accepts entries until one has to wait for a file. Its ticket, and the last index accepted.
    while True:
        last = wal.last_index()
        ticket = wal.accept([Entry(last + 1, 1, b"x" * 4000)], None, may_wait=False)
        if ticket.queued:
            until(lambda: wal.last_index() > last or shim.is_held() and wal.stats().queue_bytes)
            if wal.last_index() == last:
                return ticket, last
"""

WHAT_WAS_ACCEPTED = (
    BEGIN
    + """
mode, rounds, times_longer = sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
SYNC_S, INTERVAL_S = 0.02, 0.005
options = {"sync_interval_ms": 5 * times_longer} if mode == "interval" else {}
wal = Wal(path, durability=mode, segment_bytes=65536, **options)
shim.slow(SYNC_S)
worst = 0.0
for number in range(rounds):
    with shim.making_held():
        ticket, last = fill(wal)
        accepted = time.monotonic()
        if mode == "batch":  # somebody waits for it, as a task does
            wal.core.arm(ticket.number - 1, True, -1)
        until(lambda: wal.durable_index() >= last)
        worst = max(worst, time.monotonic() - accepted)
        assert wal.last_index() == last, "the rotation did not wait"
    wal.core.wait(ticket, durable=True)
assert wal.stats().rotations_waited >= rounds, wal.stats()
# What it should take at most is INTERVAL_S + 3 * SYNC_S + 0.02; a busy machine gets ten times that.
assert worst < 10 * (INTERVAL_S + 3 * SYNC_S + 0.02), f"worst {worst} s"
print("worst", round(worst * 1000, 1), "ms")
wal.close()
"""
)

OTHER_CALLS = (
    BEGIN
    + """
wal = Wal(path, segment_bytes=65536)
with shim.making_held():
    ticket, last = fill(wal)
    blocked = threading.Thread(target=lambda: wal.persist_entries(run(last + 2, last + 2)))
    blocked.start()  # a caller that waits for the file does so without a lock
    assert wal.get_entries(last, last)[0].index == last
    assert wal.term(last) == 1
    wal.stats()
    wal.core.segments()
    wal.wait_durable(last)
    wal.durable_index()
    later = wal.accept(run(last + 3, last + 3), None, may_wait=False)
    assert later.queued
    assert wal.last_index() == last
blocked.join(PATIENCE_S)
wal.core.wait(later, durable=True)
assert [entry.index for entry in wal.get_entries(last, last + 3)] == list(range(last, last + 4))
wal.close()
"""
)

IN_A_LOOP = (
    BEGIN
    + """
async def main():
    store = await pylogwal.open(path, segment_bytes=65536)
    with shim.making_held():
        ticket, last = fill(store.wal)
        rest = [asyncio.ensure_future(store.submit(run(n, n))) for n in range(last + 2, last + 10)]
        turns = 0
        while store.durable_index() < last:
            await asyncio.wait_for(store.wait_durable(last), PATIENCE_S)
            turns += 1
        assert store.last_index() == last
        assert not any(future.done() for future in rest)
    await asyncio.wait_for(asyncio.gather(*rest), PATIENCE_S)
    assert store.durable_index() == last + 9
    await store.aclose()

asyncio.run(main())
"""
)

FULL_QUEUE = (
    BEGIN
    + """
async def main():
    store = await pylogwal.open(path, segment_bytes=65536, max_queue_bytes=20_000)
    with shim.making_held():
        ticket, last = fill(store.wal)
        accepted = []
        for index in range(last + 2, last + 100):
            try:
                accepted.append(store.submit([Entry(index, 1, b"y" * 4000)]))
            except pylogwal.QueueFullError as error:
                assert error.index == index and str(path) in str(error), error
                break
        else:
            raise AssertionError("the queue has no bound")
        assert 20_000 <= store.stats().queue_bytes < 25_000, store.stats().queue_bytes
        # These wait for room, in the order of the calls, and hold nothing meanwhile.
        waiting = [
            asyncio.ensure_future(store.persist_entries(e for e in run(n, n)))
            for n in range(index, index + 5)
        ]
        blocked = threading.Thread(target=lambda: store.wal.persist_entries(run(index, index)))
        blocked.start()
        await asyncio.sleep(0.01)
        assert store.stats().queue_bytes < 25_000
        try:
            store.submit(run(index, index))
        except pylogwal.QueueFullError:
            pass
        else:
            raise AssertionError("submit passed those that wait for room")
        replaced = asyncio.ensure_future(
            store.replace_range(index + 3, (e for e in run(index + 3, index + 3)))
        )
        truncated = asyncio.ensure_future(store.truncate(index + 3))
        given_up = waiting.pop()
        given_up.cancel()
        await asyncio.wait([given_up])
    await asyncio.wait_for(
        asyncio.gather(*waiting, *accepted, replaced, truncated), PATIENCE_S
    )
    assert store.last_index() == index + 2, "the last call was the truncate"
    assert store.stats().queue_bytes == 0
    await store.persist_entries(run(index + 3, index + 3))
    blocked.join(PATIENCE_S)
    await store.aclose()

asyncio.run(main())
"""
)

INTERRUPTED = (
    BEGIN
    + """
class Interrupted(Exception):
    pass

def interrupt(*ignored):
    raise Interrupted

signal.signal(signal.SIGUSR1, interrupt)
call = sys.argv[3]
wal = Wal(path, segment_bytes=65536, durability="manual" if "manual" in call else "batch")
with shim.making_held() if "rotation" in call else shim.held(f"{1:016x}.wal"):
    if "rotation" in call:
        ticket, last = fill(wal)
        wal.core.arm(ticket.number - 1, True, -1)
        until(lambda: wal.durable_index() == last)
    elif "seal" in call:  # by the log's own thread
        while not (wal.stats().queue_bytes and shim.is_held()):
            index = wal.last_index() + 1
            if not wal.stats().queue_bytes:
                wal.accept(run(index, index, payload=b"x" * 4000), None, may_wait=False)
        last = wal.last_index()
    else:
        wal.persist_entries(run(1, 1), wait=False)
        last = 1

    def kill():
        if "rotation" not in call:
            shim.wait_held()
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=kill).start()
    try:
        if "flush" in call:
            wal.flush()
        elif "wait_durable" in call:
            wal.wait_durable(last)
        elif "hard_state" in call:
            wal.save_hard_state(pylogwal.HardState(1))
        elif "purge" in call:
            wal.purge(LogId(1, 1))
        elif "generator" in call:
            wal.persist_entries(entry for entry in run(2, 2))
        else:
            wal.persist_entries(run(2, 2) if last == 1 else [])
    except Interrupted:
        print("interrupted")
    else:
        raise AssertionError("the call returned before its sync")
    assert "rotation" in call or wal.durable_index() < last
if "persist" in call:
    wal.flush()
    assert wal.last_index() == 2, "what was accepted stays"
wal.close()
with Wal(path) as again:
    assert again.last_index() >= 1
"""
)

AFTER_A_PURGE = (
    BEGIN
    + """
wal = Wal(path, durability="manual", segment_bytes=65536)
fill_segments(wal, 300)
wal.flush()
shim.slow_removal(0.01)
purge = threading.Thread(target=wal.purge, args=(LogId(wal.last_index() - 2, 1),))
before = shim.seen()["unlinkat"]
purge.start()
until(lambda: shim.seen()["unlinkat"] > before)
segment = wal.core.segments()[-1].number
while wal.core.segments()[-1].number < segment + 20:
    wal.persist_entries(run(wal.last_index() + 1, wal.last_index() + 1, payload=bytes(40_000)))
assert purge.is_alive(), "the purge was over before twenty rotations"
purge.join(PATIENCE_S)
assert not purge.is_alive()
wal.close()
"""
)


WHILE_IT_CLOSES = (
    BEGIN
    + """
wal = Wal(path, durability="manual", segment_bytes=65536)
fill_segments(wal, 20)
wal.flush()
with shim.unmapping_held():
    purge = threading.Thread(target=wal.purge, args=(LogId(wal.last_index() - 5, 1),))
    purge.start()
    shim.wait_held()  # the file thread, at the purged segments
    wal.stats()
    wal.core.segments()
    for _ in range(3):  # within this segment
        wal.persist_entries(run(wal.last_index() + 1, wal.last_index() + 1))
    wal.flush()
    purge.join(PATIENCE_S)
    assert not purge.is_alive(), "a purge waits for names alone"
with shim.unmapping_held():
    close = threading.Thread(target=wal.close)
    close.start()
    shim.wait_held()
    for call in (wal.stats, wal.core.segments, wal.last_index, wal.flush):
        try:
            call()
        except pylogwal.ClosedError:
            pass
    wal.core.last_stats()
    assert close.is_alive()
close.join(PATIENCE_S)
assert not close.is_alive()
"""
)

NOT_REMOVED = (
    BEGIN
    + """
import logging
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
wal = Wal(path, segment_bytes=65536, spare_segments=0)
fill_segments(wal, 6)
shim.choose(Fault("unlinkat", "EACCES", False, shim.seen()["unlinkat"] + 1))
wal.purge(LogId(wal.last_index() - 1, 1))
assert wal.stats().removal_failures == 1, wal.stats()
wal.purge(LogId(wal.last_index(), 1))
wal.close()
left = len(list(path.glob("*.wal")))
with Wal(path, segment_bytes=65536) as again:
    assert len(list(path.glob("*.wal"))) < left, "the next open tries again"
    assert again.stats().removal_failures == 0
"""
).replace("from faults import Shim", "from faults import Fault, Shim")


RECYCLED = (
    BEGIN
    + """
from faults import Fault
from pylogwal import SyncFailedError


async def main():
    store = await pylogwal.open(path, segment_bytes=65536, spare_segments=1)
    wal = store.wal
    fill_segments(wal, 4)
    until(lambda: wal.stats().spares == 1)
    second, third = (segment.first_index for segment in wal.core.segments()[1:3])
    with shim.unmapping_held():
        wal.purge(LogId(second - 1, 1))
        shim.wait_held()  # so the file thread makes no file when the successor is used
        fill_segments(wal, 4)
        purge = asyncio.ensure_future(store.purge(LogId(third - 1, 1)))
        while wal.first_index() < third or wal.durable_index() < wal.last_index():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.3)  # so the sync thread has no deadline of its own to wake for
        last = wal.last_index()
        queued = store.submit(run(last + 1, last + 1, payload=bytes(40_000)))
        assert wal.stats().queue_bytes
        renames, syncs = shim.seen()["renameat2"], shim.seen()["fsync"]
        shim.choose(Fault("fsync", "EIO", False, syncs + 1))
    await asyncio.wait_for(purge, PATIENCE_S)  # its record was durable, and the name is gone
    told = await asyncio.wait_for(asyncio.gather(queued, return_exceptions=True), PATIENCE_S)
    assert isinstance(told[0], SyncFailedError), told
    assert (shim.seen()["renameat2"], shim.touched()) == (renames + 1, 1)
    for refused in (store.persist_entries(run(last + 1, last + 1)), store.aclose()):
        try:
            await refused
        except SyncFailedError:
            continue
        raise AssertionError("it went on")


asyncio.run(main())
"""
)


def outcome(shim: Path, tmp_path: Path, program: str, *arguments: object) -> str:
    """What it prints, once it has ended well."""
    log = tmp_path / "log"
    patience_s = 10 * PATIENCE_S
    return run_beneath(shim, program, log, PATIENCE_S, *arguments, timeout=patience_s).strip()


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.parametrize("mode", ["interval", "batch"])
def test_a_rotation_without_a_file_holds_up_no_sync(shim: Path, tmp_path: Path, mode: str) -> None:
    outcome(shim, tmp_path, WHAT_WAS_ACCEPTED, mode, 10, 1)


def test_an_interval_a_thousand_times_as_long_would_be_noticed(shim: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="worst"):
        outcome(shim, tmp_path, WHAT_WAS_ACCEPTED, "interval", 1, 1000)


@pytest.mark.prove
@pytest.mark.parametrize("mode", ["interval", "batch"])
def test_a_hundred_rotations_without_a_file_hold_up_no_sync(
    shim: Path, tmp_path: Path, mode: str
) -> None:
    print(outcome(shim, tmp_path, WHAT_WAS_ACCEPTED, mode, 100, 1))


def test_other_calls_go_on_while_a_rotation_waits_for_its_file(shim: Path, tmp_path: Path) -> None:
    outcome(shim, tmp_path, OTHER_CALLS)


def test_the_loop_goes_on_while_a_rotation_waits_for_its_file(shim: Path, tmp_path: Path) -> None:
    outcome(shim, tmp_path, IN_A_LOOP)


def test_the_queue_that_waits_for_a_rotation_is_bounded(shim: Path, tmp_path: Path) -> None:
    outcome(shim, tmp_path, FULL_QUEUE)


@pytest.mark.parametrize(
    "call",
    [
        "persist",
        "persist, generator",
        "flush, manual",
        "wait_durable, manual",
        "hard_state",
        "purge",
        "flush, rotation",
        "flush, seal",
    ],
)
def test_a_signal_ends_a_wait_for_a_sync_that_hangs(shim: Path, tmp_path: Path, call: str) -> None:
    assert outcome(shim, tmp_path, INTERRUPTED, call) == "interrupted"


def test_no_call_waits_while_segments_are_unmapped(shim: Path, tmp_path: Path) -> None:
    outcome(shim, tmp_path, WHILE_IT_CLOSES)


def test_a_purged_file_that_cannot_be_removed_is_told_once(shim: Path, tmp_path: Path) -> None:
    (line,) = outcome(shim, tmp_path, NOT_REMOVED).splitlines()
    assert line.startswith("WARNING ")
    assert str(tmp_path / "log") in line
    assert "Permission denied" in line


def test_appends_go_on_while_a_purge_removes_its_files(shim: Path, tmp_path: Path) -> None:
    outcome(shim, tmp_path, AFTER_A_PURGE)


def test_a_recycled_file_whose_new_name_is_not_durable_fails_the_log(
    shim: Path, tmp_path: Path
) -> None:
    outcome(shim, tmp_path, RECYCLED)
