"""A writer whose directory was replaced acknowledges no more than fits in its open segment."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from stores import run

import pylogwal
from pylogwal import Entry, HardState, LogId, LogIOError, Wal

SMALLEST = 65536
PAYLOAD = bytes(4000)


def removed(log: Path) -> None:
    while log.exists():  # the log may just be renaming a file
        shutil.rmtree(log, ignore_errors=True)


def made_again(log: Path) -> None:
    removed(log)
    Wal(log, segment_bytes=SMALLEST).close()


def another_in_its_place(log: Path) -> None:
    log.rename(log.with_suffix(".old"))
    Wal(log, segment_bytes=SMALLEST).close()


def a_link_to_another(log: Path) -> None:
    log.rename(log.with_suffix(".old"))
    Wal(log.with_suffix(".other"), segment_bytes=SMALLEST).close()
    log.symlink_to(log.with_suffix(".other"))


def a_file_in_its_place(log: Path) -> None:
    log.rename(log.with_suffix(".old"))
    log.write_bytes(b"")


def rotate(wal: Wal) -> None:
    for _ in range(2 * SMALLEST // len(PAYLOAD)):
        wal.persist_entries(run(wal.last_index() + 1, wal.last_index() + 1, payload=PAYLOAD))


REPLACED = [removed, made_again, another_in_its_place, a_link_to_another, a_file_in_its_place]
NOTICED = [
    rotate,
    lambda wal: wal.purge(LogId(3, 1)),
    lambda wal: wal.purge(LogId(300, 1)),
    lambda wal: wal.reset(),
]
LATER: list[Callable[[Wal], object]] = [
    lambda wal: wal.persist_entries([Entry(wal.last_index() + 1, 9)]),
    lambda wal: wal.truncate(2),
    lambda wal: wal.replace_range(2, run(2, 2)),
    lambda wal: wal.purge(LogId(2, 1)),
    lambda wal: wal.save_hard_state(HardState(9)),
    lambda wal: wal.reset(),
]


@pytest.mark.parametrize("how", REPLACED)
@pytest.mark.parametrize("notice", NOTICED, ids=["rotation", "purge", "purge all", "reset"])
def test_every_write_is_stale_once_it_is_noticed(
    tmp_path: Path, how: Callable[[Path], None], notice: Callable[[Wal], None]
) -> None:
    log = tmp_path / "log"
    with Wal(log, segment_bytes=SMALLEST) as wal:
        wal.persist_entries(run(1, 5))
        how(log)
        with pytest.raises(LogIOError, match=r"removed or replaced.*open it again") as told:
            notice(wal)
        assert told.value.errno == errno.ESTALE
        last = wal.last_index()
        assert (last - 5) * len(PAYLOAD) < SMALLEST
        for write in LATER:
            with pytest.raises(LogIOError) as told:
                write(wal)
            assert told.value.errno == errno.ESTALE
        assert wal.last_index() == last
        assert wal.get_entries(1, 5) == run(1, 5)
        assert wal.durable_index() == last


@pytest.mark.parametrize("notice", NOTICED, ids=["rotation", "purge", "purge all", "reset"])
def test_a_directory_that_was_moved_is_written_on(
    tmp_path: Path, notice: Callable[[Wal], None]
) -> None:
    log, moved = tmp_path / "log", tmp_path / "elsewhere"
    with Wal(log, segment_bytes=SMALLEST) as wal:
        wal.persist_entries(run(1, 5))
        log.rename(moved)
        notice(wal)
        last = wal.last_index()
    with Wal(moved) as again:
        assert again.last_index() == last


def test_a_relative_path_is_looked_at_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Wal("log", segment_bytes=SMALLEST) as wal:
        (tmp_path / "other" / "log").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "other")
        rotate(wal)
        assert wal.stats().segments > 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root looks into every directory")
def test_a_place_that_may_not_be_looked_at_is_no_error(tmp_path: Path) -> None:
    log = tmp_path / "closed" / "log"
    log.parent.mkdir()
    with Wal(log, segment_bytes=SMALLEST) as wal:
        log.parent.chmod(0)
        try:
            rotate(wal)
        finally:
            log.parent.chmod(0o700)
        assert wal.stats().segments > 1


async def test_an_awaited_write_is_stale_as_well(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with pylogwal.open(log, segment_bytes=SMALLEST) as store:
        await store.persist_entries(run(1, 5))
        another_in_its_place(log)

        async def rotate() -> None:
            for index in range(6, 6 + 2 * SMALLEST // len(PAYLOAD)):
                await store.persist_entries(run(index, index, payload=PAYLOAD))

        with pytest.raises(LogIOError) as told:
            await rotate()
        assert told.value.errno == errno.ESTALE
        with pytest.raises(LogIOError):
            store.submit(run(store.last_index() + 1, store.last_index() + 1))
