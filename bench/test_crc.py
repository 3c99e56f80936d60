"""The checksum alone."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pylogwal import core


@pytest.mark.parametrize("size", [128, 4096, 1 << 20])
def test_crc32c(benchmark: Any, size: int) -> None:
    benchmark(core.crc32c, os.urandom(size))
