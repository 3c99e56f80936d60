"""Entry, LogId, HardState and Durability: immutable, hashable, compared by value."""

from __future__ import annotations

import copy
import pickle

import pytest

from pylogwal import Durability, Entry, HardState, LogId

VALUES = [Entry(3, 2, b"x", 1), LogId(3, 2), HardState(3, "n1", 2, b"x")]


def test_defaults_are_those_of_the_contract() -> None:
    assert Entry(1, 2) == Entry(index=1, term=2, payload=b"", kind=0)
    assert HardState(1) == HardState(term=1, voted_for=None, commit_index=0, extra=b"")
    assert LogId(1, 2) == LogId(index=1, term=2)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_cannot_be_changed(value: Entry | LogId | HardState) -> None:
    with pytest.raises(AttributeError):
        value.term = 9  # type: ignore[misc]
    changed = value._replace(term=9)
    assert changed.term == 9
    assert value.term != 9
    assert type(changed) is type(value)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_is_compared_hashed_unpacked_and_pickled_by_its_fields(
    value: Entry | LogId | HardState,
) -> None:
    twin = type(value)(*value)
    assert twin == value
    assert {twin, value} == {value}
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value
    assert value != value._replace(term=9)


def test_durability_members_are_their_strings() -> None:
    assert [str(mode) for mode in Durability] == ["batch", "interval", "manual"]
    assert {"batch": 1}[Durability.BATCH] == 1
    assert f"{Durability.MANUAL}" == "manual"
    assert Durability("interval") is Durability.INTERVAL
