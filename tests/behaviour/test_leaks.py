"""Whoever opens, uses and closes a log again and again has at the end what there was at first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from leak_cycles import CYCLES, LEAKS
from processes import environment, memory, needs_proc

HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="/proc, and mallinfo2 of glibc"),
    needs_proc,
    pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="a sanitizer has a heap of its own"),
]


def grown(kinds: list[str], count: int, *leak: str) -> dict[str, int]:
    """What processes of these kinds, that run at once, hold more than they did when a third of the
    cycles was done, beyond what may be chance: by name, so nothing where nothing leaks.
    """
    with memory() as directory:
        running = []
        for number, kind in enumerate(kinds):
            work = Path(directory, str(number))
            work.mkdir()
            command = [sys.executable, HERE / "leak_cycles.py", work, kind, str(count), *leak]
            # One arena: how many the allocator makes depends on which threads meet.
            env = {**environment(), "MALLOC_ARENA_MAX": "1"}
            running.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
        outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(running), outputs
    print(kinds, count, "cycles:", *outputs)
    # What is freed late. Python 3.10 gives a function caches of its own at its 1,024th call.
    caches = 300 if sys.version_info < (3, 11) else 0
    chance = {
        "heap_bytes": (32 << 10) + count * 4,
        "python_blocks": caches + 100 + count // 100,
        "descriptors": 0,
        "mappings": 8,
        "threads": 0,
    }
    return {
        name: more
        for output in outputs
        for name, more in json.loads(output).items()
        if more > chance[name]
    }


@pytest.mark.parametrize("kind", CYCLES)
def test_cycles_of_open_append_close_leak_nothing(kind: str) -> None:
    assert grown([kind], 3000 if kind == "handle" else 600) == {}


@pytest.mark.prove
@pytest.mark.parametrize(
    ("kinds", "count"), [(["handle", "handle"], 50_000), (["store", "errors"], 10_000)]
)
def test_a_hundred_thousand_cycles_leak_nothing(kinds: list[str], count: int) -> None:
    assert grown(kinds, count) == {}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_small_leak_is_noticed(leak: str) -> None:
    assert leak in grown(["handle"], 1500, leak)
