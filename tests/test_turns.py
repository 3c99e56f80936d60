"""Writes from several threads take their turn: of two that rule each other out one is refused."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from pylogwal._core import lib

import pylogwal
from pylogwal import ConflictError, Entry, Wal, WalLogStore
from pylogwal.core import Ticket

LARGE = bytes(8 << 20)
"""So large that its copying, with the interpreter's lock dropped, is surely met by the other."""


@pytest.mark.parametrize("attempt", range(6))
def test_a_write_queued_behind_one_at_work_is_judged_before_it_is_acknowledged(
    tmp_path: Path, attempt: int
) -> None:
    outcomes: dict[str, BaseException | None] = {}
    with Wal(tmp_path, segment_bytes=32 << 20, durability="manual") as wal:
        started = threading.Event()

        def write_large() -> None:
            started.set()
            try:
                wal.persist_entries([Entry(1, 1, LARGE)])
                outcomes["large"] = None
            except ConflictError as error:
                outcomes["large"] = error

        thread = threading.Thread(target=write_large)
        thread.start()
        started.wait()
        try:
            while wal.last_index() == 0 and not outcomes:
                number = wal.core.fast_submit([Entry(1, 1, b"small")])
                wal.core.wait(Ticket(abs(number), number < 0), durable=True)
                outcomes["small"] = None
        except ConflictError as error:
            outcomes["small"] = error
        thread.join()
        held = wal.entry(1)
    assert held is not None
    winner = "large" if held.payload == LARGE else "small"
    assert outcomes[winner] is None
    loser = {"large": "small", "small": "large"}[winner]
    assert loser not in outcomes or isinstance(outcomes[loser], ConflictError)


def test_tickets_are_accepted_in_the_order_in_which_they_are_given_out(tmp_path: Path) -> None:
    with Wal(tmp_path, durability="manual", segment_bytes=1 << 20) as wal:
        seen: list[int] = []
        stop = threading.Event()

        def flush() -> None:
            while not stop.is_set():
                wal.flush()
                seen.append(lib.lw_wal_durable_ticket(wal.core._handle))

        threads = [threading.Thread(target=flush) for _ in range(2)]
        for thread in threads:
            thread.start()
        for index in range(1, 4001):
            wal.core.fast_submit([Entry(index, 1, b"x" * 300)])
        stop.set()
        for thread in threads:
            thread.join()
        wal.flush()
        assert wal.durable_index() == wal.last_index() == 4000
    assert seen


def test_submit_does_not_wait_for_a_large_batch_that_is_being_copied(tmp_path: Path) -> None:
    """As long as that takes it keeps its place in the queue, and the loop goes on."""
    attempts, batch = 20, 3  # of LARGE: in one segment, so that no roll is what it waits for

    async def seen_queued(store: WalLogStore) -> bool:
        first = store.last_index() + 1
        large = [Entry(index, 1, LARGE) for index in range(first, first + batch)]
        thread = threading.Thread(target=store.wal.persist_entries, args=(large,))
        thread.start()
        queued = False
        while thread.is_alive() and not queued:
            future = store.submit([])
            queued = not future.done()
            await future
        await asyncio.to_thread(thread.join)
        assert store.last_index() == first + batch - 1
        return queued

    async def main() -> bool:
        options = {"segment_bytes": 128 << 20, "durability": "manual", "spare_segments": 0}
        async with pylogwal.open(tmp_path, **options) as store:
            for _ in range(attempts):
                if await seen_queued(store):
                    return True
            return False

    assert asyncio.run(main()), "every submit waited until the large batch was copied"
