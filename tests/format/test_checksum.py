"""The core's CRC32C, by instruction and by table, against the package crc32c."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from crc32c import crc32c
from pylogwal._core import ffi, lib

LONGEST = 2000
"""More than two rounds of three lanes, and an end of every length."""


@pytest.mark.parametrize("ours", [lib.lw_crc32c, lib.lw_crc32c_portable], ids=["chosen", "table"])
def test_every_length_and_alignment(ours: Callable[..., int]) -> None:
    data = random.Random(1).randbytes(LONGEST + 8)
    at = ffi.from_buffer(data)
    for size in range(LONGEST + 1):
        start = size % 8
        assert ours(0, at + start, size) == crc32c(data[start : start + size])


def test_a_checksum_continues_another() -> None:
    data = random.Random(2).randbytes(LONGEST)
    at = ffi.from_buffer(data)
    for cut in range(0, LONGEST, 37):
        assert lib.lw_crc32c(lib.lw_crc32c(0, at, cut), at + cut, LONGEST - cut) == crc32c(data)
