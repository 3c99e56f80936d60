"""What is refused before the log is looked at: nothing is written, and the error says why."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest
from stores import Store, Stores, every_mode_on_disk, refused, run, state_of

from pylogwal import (
    ConflictError,
    Entry,
    EntryTooLargeError,
    HardState,
    InvalidEntryError,
    LogId,
)

BAD_ENTRIES = {
    "index 0": Entry(0, 1),
    "negative index": Entry(-1, 1),
    "index 2^64-1": Entry(2**64 - 1, 1),
    "index beyond 64 bits": Entry(2**70, 1),
    "index that is a float": Entry(4.0, 1),  # type: ignore[arg-type]
    "index that is a bool": Entry(True, 1),
    "index that is None": Entry(None, 1),  # type: ignore[arg-type]
    "negative term": Entry(4, -1),
    "term beyond 64 bits": Entry(4, 2**64),
    "term that is a str": Entry(4, "1"),  # type: ignore[arg-type]
    "term that is a bool": Entry(4, True),
    "kind 256": Entry(4, 1, b"", 256),
    "negative kind": Entry(4, 1, b"", -1),
    "kind that is a str": Entry(4, 1, b"", "a"),  # type: ignore[arg-type]
    "kind that is a bool": Entry(4, 1, b"", True),
    "payload that is a str": Entry(4, 1, "text"),  # type: ignore[arg-type]
    "payload that is an int": Entry(4, 1, 5),  # type: ignore[arg-type]
    "payload that is None": Entry(4, 1, None),  # type: ignore[arg-type]
    "payload that is a list": Entry(4, 1, [1, 2]),  # type: ignore[arg-type]
    "not an entry": "entry",
    "none at all": None,
}


@pytest.mark.parametrize("bad", BAD_ENTRIES.values(), ids=BAD_ENTRIES.keys())
async def test_a_bad_entry_is_refused_with_its_whole_batch(store: Store, bad: Any) -> None:
    await store.persist_entries(run(1, 3))
    with refused(store, InvalidEntryError):
        await store.persist_entries([bad])
    with refused(store, InvalidEntryError):
        await store.persist_entries([*run(4, 5), bad])
    with refused(store, InvalidEntryError):
        await store.replace_range(4, [bad])
    await store.persist_entries(run(4, 4))


@pytest.mark.parametrize(
    "batch",
    [
        [Entry(4, 1), Entry(6, 1)],
        [Entry(4, 1), Entry(4, 1)],
        [Entry(5, 1), Entry(4, 1)],
        [Entry(4, 2), Entry(5, 1)],
    ],
    ids=["gap", "twice the same index", "descending index", "descending term"],
)
async def test_a_batch_that_is_not_a_run_is_refused(store: Store, batch: list[Entry]) -> None:
    await store.persist_entries(run(1, 5))
    with refused(store, InvalidEntryError):
        await store.persist_entries(batch)
    with refused(store, InvalidEntryError):
        await store.replace_range(batch[0].index, batch)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (Entry(0, 1), InvalidEntryError),
        (Entry(2**64 - 1, 1), InvalidEntryError),
        (Entry(2**64, 1), InvalidEntryError),
        (Entry(9, 1), InvalidEntryError),
        (Entry(4, 0), InvalidEntryError),
        (Entry(2, 1), ConflictError),
    ],
    ids=["zero", "the highest", "beyond", "gap", "descending term", "conflict"],
)
async def test_an_error_about_an_entry_names_it(
    store: Store, bad: Entry, kind: type[InvalidEntryError]
) -> None:
    await store.persist_entries(run(1, 3))
    with refused(store, kind, match=rf"\b{bad.index}\b") as raised:
        await store.persist_entries([bad])
    error: Any = raised.value
    assert (error.index, error.first_index, error.last_index) == 3 * (bad.index,)


@pytest.mark.parametrize("batch", [None, 5, Entry(1, 1), "entries"], ids=repr)
async def test_what_is_no_list_of_entries_is_refused(store: Store, batch: Any) -> None:
    with refused(store, InvalidEntryError):
        await store.persist_entries(batch)
    with refused(store, InvalidEntryError):
        await store.replace_range(1, batch)


async def test_one_entry_in_place_of_a_list_is_named_as_such(store: Store) -> None:
    entry: Any = Entry(7, 1)
    with refused(store, InvalidEntryError, match=r"one Entry, of index 7, .*pass \[entry\]"):
        await store.persist_entries(entry)
    with refused(store, InvalidEntryError, match=r"one Entry, of index 7, .*pass \[entry\]"):
        await store.replace_range(1, entry)
    with refused(store, InvalidEntryError, match=r"one Entry, of index 7, .*pass \[entry\]"):
        await store.submit(entry)
    with refused(store, InvalidEntryError, match=r"one Entry, of index 7, .*pass \[entry\]"):
        await store.persist_entries(entry, HardState(1))


async def test_a_message_has_the_right_article(store: Store) -> None:
    with refused(store, InvalidEntryError, match=r"entries\[0\] is an int, not an Entry"):
        await store.persist_entries([5])  # type: ignore[list-item]
    with refused(store, InvalidEntryError, match=r"entries\[0\] is a str, not an Entry"):
        await store.persist_entries(["5"])  # type: ignore[list-item]


async def test_what_an_iterable_raises_comes_through_and_nothing_is_written(store: Store) -> None:
    def broken() -> Iterator[Entry]:
        yield Entry(1, 1)
        raise TypeError("mine")

    with refused(store, TypeError, match="mine"):
        await store.persist_entries(broken())


@every_mode_on_disk
async def test_an_error_names_the_log_wherever_it_was_found(stores: Stores) -> None:
    store = await stores.open()
    await store.persist_entries(run(1, 3))
    calls = {
        "found by the log itself": lambda: store.persist_entries(run(5, 5)),
        "index": lambda: store.persist_entries([Entry(0, 1)]),
        "list": lambda: store.persist_entries(5),  # type: ignore[arg-type]
        "with a vote": lambda: store.persist_entries([Entry(0, 1)], HardState(1)),
        "too large": lambda: store.persist_entries([Entry(4, 1, bytes(16 * 2**20 + 1))]),
        "replace": lambda: store.replace_range(4, [Entry(4, 1, b"", 256)]),
        "replace from": lambda: store.replace_range(-1, []),
        "truncate": lambda: store.truncate(-1),
        "purge": lambda: store.purge(LogId(-1, 1)),
    }
    for name, call in calls.items():
        with refused(store, InvalidEntryError, match=r"log\]$", exactly=False) as raised:
            await call()
        assert raised.value.path == str(stores.directory), name  # type: ignore[attr-defined]


@every_mode_on_disk
async def test_an_error_of_another_log_inside_an_iterable_keeps_its_name(stores: Stores) -> None:
    store = await stores.open()

    def from_another_log() -> Iterator[Entry]:
        yield Entry(1, 1)
        raise InvalidEntryError("theirs [/another]", path="/another")

    with refused(store, InvalidEntryError, match=r"theirs \[/another\]$") as raised:
        await store.persist_entries(from_another_log())
    assert raised.value.path == "/another"  # type: ignore[attr-defined]


async def test_a_payload_over_the_limit_is_refused_and_one_at_the_limit_is_not(
    stores: Stores,
) -> None:
    store = await stores.open(max_entry_bytes=1000)
    await store.persist_entries([Entry(1, 1, bytes(1000))])
    with refused(store, EntryTooLargeError) as raised:
        await store.persist_entries([Entry(2, 1), Entry(3, 1, bytes(1001))])
    assert raised.value.index == 3  # type: ignore[attr-defined]
    with refused(store, EntryTooLargeError):
        await store.replace_range(1, [Entry(1, 2, bytes(1001))])
    assert issubclass(EntryTooLargeError, InvalidEntryError)


async def test_submit_refuses_as_persist_entries_does(store: Store) -> None:
    await store.persist_entries(run(1, 3))
    with refused(store, InvalidEntryError):
        await store.submit([Entry(4, 1, b"", 256)])
    with refused(store, InvalidEntryError):
        await store.submit(run(5, 5))


@pytest.mark.parametrize(
    "cutoff",
    [None, 5, (2, 1), Entry(2, 1), LogId(-1, 1), LogId(2, -1), LogId(2**64, 1), LogId(2, 2**64)],
    ids=repr,
)
async def test_a_cutoff_that_is_no_log_id_in_range_is_refused(store: Store, cutoff: Any) -> None:
    await store.persist_entries(run(1, 3))
    with refused(store, InvalidEntryError):
        await store.purge(cutoff)


@pytest.mark.parametrize("from_index", [None, "1", 1.0, True, -1, 2**64], ids=repr)
async def test_truncate_from_no_index_is_refused(store: Store, from_index: Any) -> None:
    await store.persist_entries(run(1, 3))
    with refused(store, InvalidEntryError):
        await store.truncate(from_index)
    with refused(store, InvalidEntryError):
        await store.replace_range(from_index, [])


@pytest.mark.parametrize("index", [None, "1", 1.0, True, b"1"], ids=repr)
async def test_reading_at_what_is_no_int_is_a_type_error(store: Store, index: Any) -> None:
    await store.persist_entries(run(1, 3))
    with pytest.raises(TypeError):
        await store.entry(index)
    with pytest.raises(TypeError):
        store.get_entries(index, 3)
    with pytest.raises(TypeError):
        store.get_entries(1, index)
    with pytest.raises(TypeError):
        store.term(index)


async def test_a_byte_limit_that_is_no_size_is_an_error(store: Store) -> None:
    await store.persist_entries(run(1, 3))
    with pytest.raises(ValueError, match="max_bytes"):
        store.get_entries(1, 3, max_bytes=-1)
    with pytest.raises(TypeError, match="max_bytes"):
        store.get_entries(1, 3, max_bytes="1")  # type: ignore[arg-type]


BAD_HARD_STATES = {
    "term": [HardState(-1), HardState(2**64)],
    "commit_index": [HardState(1, commit_index=-1), HardState(1, commit_index=2**64)],
    "voted_for": [HardState(1, "x" * 256), HardState(1, "é" * 128), HardState(1, "\ud800")],
    "extra": [HardState(1, extra=bytes(2049))],
}
BAD_HARD_STATE_TYPES = {
    "term": [HardState(1.0), HardState("1"), HardState(None), HardState(True)],  # type: ignore[arg-type]
    "commit_index": [HardState(1, commit_index="1"), HardState(1, commit_index=False)],  # type: ignore[arg-type]
    "voted_for": [HardState(1, b"n1"), HardState(1, 3)],  # type: ignore[arg-type]
    "extra": [HardState(1, extra="text"), HardState(1, extra=3), HardState(1, extra=None)],  # type: ignore[arg-type]
}


def flat(states: dict[str, list[HardState]]) -> list[tuple[str, HardState]]:
    return [(field, state) for field, bad in states.items() for state in bad]


@pytest.mark.parametrize(("field", "state"), flat(BAD_HARD_STATES))
async def test_a_hard_state_out_of_range_is_a_value_error_that_names_the_field(
    store: Store, field: str, state: HardState
) -> None:
    await all_ways_to_save_refuse(store, state, ValueError, field)


@pytest.mark.parametrize(("field", "state"), flat(BAD_HARD_STATE_TYPES))
async def test_a_hard_state_of_wrong_types_is_a_type_error_that_names_the_field(
    store: Store, field: str, state: HardState
) -> None:
    await all_ways_to_save_refuse(store, state, TypeError, field)


class Node(str, Enum):
    """On Python 3.11, str() of a member is "Node.A", and before, "a"."""

    A = "a"


class Sly(str):
    def __str__(self) -> str:
        return "x" * 1000

    def encode(self, *_: Any) -> bytes:
        return b"short"


async def test_a_vote_of_a_kind_of_str_is_stored_as_its_value(store: Store) -> None:
    for vote, value in ((Node.A, "a"), (Sly("n1"), "n1"), (Sly("é" * 127), "é" * 127)):
        store.save_hard_state(HardState(1, vote))
        state = store.load_hard_state()
        assert state == HardState(1, value)
        assert state is not None
        assert type(state.voted_for) is str
    await all_ways_to_save_refuse(store, HardState(1, Sly("x" * 256)), ValueError, "voted_for")


@pytest.mark.parametrize("state", [5, (1, None, 0, b""), "state"], ids=repr)
async def test_what_is_no_hard_state_is_a_type_error(store: Store, state: Any) -> None:
    await all_ways_to_save_refuse(store, state, TypeError, "HardState")


async def all_ways_to_save_refuse(
    store: Store, state: HardState, error: type[Exception], match: str
) -> None:
    await store.persist_entries(run(1, 1), HardState(7, "n1"))
    before = state_of(store)
    with pytest.raises(error, match=match):
        store.save_hard_state(state)
    with pytest.raises(error, match=match):
        await store.save_hard_state_async(state)
    with pytest.raises(error, match=match):
        await store.persist_entries(run(2, 2), state)
    with pytest.raises(error, match=match):
        await store.submit(run(2, 2), state)
    assert state_of(store) == before


@pytest.mark.parametrize(
    "options",
    [
        {"durability": "sometimes"},
        {"durability": None},
        {"durability": "batch", "sync_interval_ms": 10},
        {"durability": "interval", "sync_interval_ms": 0},
        {"durability": "interval", "sync_interval_ms": 3_600_001},
        {"durability": "interval", "sync_interval_ms": "10"},
        {"durability": "interval", "sync_interval_ms": 10.0},
        {"max_entry_bytes": -1},
        {"max_entry_bytes": 2**30 + 1},
        {"max_entry_bytes": "64"},
        {"max_entry_bytes": None},
        {"max_entry_bytes": True},
    ],
    ids=str,
)
async def test_an_option_that_makes_no_sense_is_a_value_error_that_names_it(
    stores: Stores, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=list(options)[-1]):
        await stores.open(**options)


@every_mode_on_disk
@pytest.mark.parametrize(
    "options",
    [
        {"segment_bytes": 65535},
        {"segment_bytes": "65536"},
        {"segment_bytes": 65536.0},
        {"spare_segments": -1},
        {"spare_segments": None},
        {"max_queue_bytes": 0},
        {"max_queue_bytes": "64"},
        {"create": "no"},
        {"create": 1},
        {"read_only": None},
    ],
    ids=str,
)
async def test_an_option_of_the_disk_that_makes_no_sense_is_a_value_error_that_names_it(
    stores: Stores, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        await stores.open(**options)
    assert not stores.directory.exists()
