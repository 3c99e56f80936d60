"""A read-only handle goes on where it stopped, and shows what stands in the log now, whatever was
done to it meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from stores import SEGMENT_BYTES, run

from pylogwal import HardState, LogId, Wal


def test_a_durable_index_goes_on_and_back_as_the_log_proves(tmp_path: Path) -> None:
    """Each step: what is done, and what the reader may call durable then."""
    path = tmp_path / "log"
    with Wal(path, durability="manual") as wal, Wal(path, read_only=True) as reader:

        def proven() -> int:
            reader.refresh()
            return reader.durable_index()

        def flush_and_tell() -> None:
            """The next COMMIT says what the sync made durable."""
            wal.flush()
            wal.save_hard_state(HardState(1), sync=False)

        wal.persist_entries(run(1, 10))
        assert proven() == 0
        flush_and_tell()
        assert proven() == 10
        wal.persist_entries(run(11, 20))
        assert proven() == 10
        wal.truncate(16)
        assert proven() == 10
        wal.truncate(6)
        assert proven() == 5
        wal.persist_entries(run(6, 30, term=2))
        assert proven() == 5
        flush_and_tell()
        assert proven() == 30
        wal.purge(LogId(20, 2))
        assert proven() == 30
        wal.reset()
        wal.persist_entries(run(1, 8, term=3))
        assert proven() == 0
        flush_and_tell()
        assert proven() == 8
        wal.purge(LogId(50, 4))
        flush_and_tell()
        assert proven() == 50 == reader.last_index()


def test_a_reset_takes_back_the_boundary_that_a_header_proved(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Wal(path, durability="manual", segment_bytes=SEGMENT_BYTES) as wal:
        wal.persist_entries(run(1, 100))
        wal.purge(LogId(100, 1))
        for index in range(101, 104):
            wal.persist_entries(run(index, index, payload=b"x" * 20_000))
        assert wal.core.segments()[-1].number == 2
        with Wal(path, read_only=True) as reader:
            assert reader.durable_index() >= 100
            wal.reset()
            wal.persist_entries(run(1, 60))
            wal.purge(LogId(50, 1))
            reader.refresh()
            # Nothing stored says yet that the purge is durable; 100 ms later something does.
            assert reader.durable_index() in (0, 60)
            wal.persist_entries(run(61, 200))
            wal.purge(LogId(150, 1))
            reader.refresh()
            assert reader.durable_index() in (60, 200)
            assert wal.core.segments()[-1].number == 2
