"""`submit`: accepted at the call, in call order; the future is durability."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from stores import SEGMENT_BYTES, run

import pylogwal
from pylogwal import ClosedError, Entry, HardState, InvalidEntryError, Wal, WalLogStore


def big(index: int, term: int = 1) -> Entry:
    return Entry(index, term, b"%d in %d " % (index, term) * 200)


async def test_what_is_submitted_is_visible_at_the_call(tmp_path: Path) -> None:
    async with pylogwal.open(tmp_path / "log") as store:
        futures = []
        for index in range(1, 101):
            futures.append(store.submit(run(index, index)))
            assert store.last_index() == index
            assert store.get_entries(index, index) == run(index, index)
        assert not futures[-1].done()
        await asyncio.gather(*futures)
        assert store.durable_index() == 100


async def test_futures_are_done_in_the_order_of_the_calls(tmp_path: Path) -> None:
    order: list[int] = []
    async with pylogwal.open(tmp_path / "log", segment_bytes=SEGMENT_BYTES) as store:
        futures = [store.submit([big(index)]) for index in range(1, 201)]
        for index, future in enumerate(futures, 1):
            future.add_done_callback(lambda _, index=index: order.append(index))
        await asyncio.gather(*futures)
        await asyncio.sleep(0)
    assert order == list(range(1, 201))


@pytest.mark.parametrize("spare_segments", [0, 1, 3])
@pytest.mark.parametrize("mode", ["batch", "interval", "manual"])
async def test_calls_that_meet_a_roll_keep_their_places(
    tmp_path: Path, mode: str, spare_segments: int
) -> None:
    async with pylogwal.open(
        tmp_path / "log",
        durability=mode,
        segment_bytes=SEGMENT_BYTES,
        spare_segments=spare_segments,
    ) as store:
        futures = [store.submit([big(index)]) for index in range(1, 301)]
        for index, future in enumerate(futures, 1):
            await future
            assert store.last_index() >= index
            assert await store.entry(index) == big(index)
        assert store.get_entries(1, 300) == [big(index) for index in range(1, 301)]
        assert store.stats().segments > 5
    with Wal(tmp_path / "log") as wal:
        assert wal.get_entries(1, 300) == [big(index) for index in range(1, 301)]


@pytest.mark.parametrize("spare_segments", [1, 2, 4, 16])
async def test_a_roll_for_every_write_is_no_trouble(tmp_path: Path, spare_segments: int) -> None:
    async with pylogwal.open(
        tmp_path / "log", segment_bytes=SEGMENT_BYTES, spare_segments=spare_segments
    ) as store:
        entries = [Entry(index, 1, b"%d" % index * 15000) for index in range(1, 40)]
        await asyncio.gather(*(store.submit([entry]) for entry in entries))
        assert store.get_entries(1, 99) == entries


async def submit_until_queued(store: WalLogStore) -> tuple[int, list[asyncio.Future[None]]]:
    """Submits entries until one meets a roll. Its index, and all the futures."""
    futures = []
    index = store.last_index()
    while store.last_index() == index:
        index += 1
        futures.append(store.submit([big(index)]))
    return index, futures


async def test_a_refusal_behind_a_roll_is_the_exception_of_the_future(tmp_path: Path) -> None:
    options = {"segment_bytes": SEGMENT_BYTES, "spare_segments": 0}
    async with pylogwal.open(tmp_path / "log", **options) as store:
        arrived_late = False
        while not arrived_late:
            last, futures = await submit_until_queued(store)
            gap = None
            try:
                gap = store.submit([big(last + 5)])
                after = store.submit([big(last + 1)], HardState(last))
            except InvalidEntryError:  # the roll was over already
                assert gap is None
                after = store.submit([big(last + 1)], HardState(last))
            else:
                arrived_late = not gap.done()
            await asyncio.gather(*futures)
            if gap is not None:
                with pytest.raises(InvalidEntryError, match="gap"):
                    await gap
            await after
            assert store.last_index() == last + 1
            assert store.load_hard_state() == HardState(last)


async def test_a_refusal_that_nobody_awaits_disturbs_nobody(tmp_path: Path) -> None:
    options = {"segment_bytes": SEGMENT_BYTES, "spare_segments": 0}
    async with pylogwal.open(tmp_path / "log", **options) as store:
        for _ in range(5):
            last, futures = await submit_until_queued(store)
            with contextlib.suppress(InvalidEntryError):  # the roll was over already
                store.submit([big(last + 5)]).cancel()
            await asyncio.gather(*futures, store.submit([big(last + 1)]))


async def test_every_operation_keeps_its_place_behind_a_roll(tmp_path: Path) -> None:
    options = {"segment_bytes": SEGMENT_BYTES, "spare_segments": 0}
    async with pylogwal.open(tmp_path / "log", **options) as store:
        for _ in range(5):
            last, futures = await submit_until_queued(store)
            results = await asyncio.gather(
                *futures,
                store.truncate(last),
                store.replace_range(last - 1, [big(last - 1, 2), big(last, 2)]),
                store.save_hard_state_async(HardState(last, "me")),
                store.persist_entries([big(last + 1, 3)], HardState(last + 1)),
                store.flush_async(),
                store.truncate(last),
                store.purge(pylogwal.LogId(last - 2, store.term(last - 2) or 0)),
            )
            assert set(results) == {None}
            assert store.load_hard_state() == HardState(last + 1)
            assert store.get_entries(0, 2**64 - 1) == [big(last - 1, 2)]
            await store.reset()


async def test_futures_left_behind_are_done_when_the_store_is_closed(tmp_path: Path) -> None:
    store = await pylogwal.open(tmp_path / "log", segment_bytes=SEGMENT_BYTES)
    futures = [store.submit([big(index)]) for index in range(1, 101)]
    await store.aclose()
    await asyncio.gather(*futures)
    with pytest.raises(ClosedError):
        store.submit([big(101)])
    with Wal(tmp_path / "log") as wal:
        assert wal.last_index() == 100
