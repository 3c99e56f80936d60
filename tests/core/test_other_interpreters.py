"""The package as it is built for an interpreter that is not CPython: csrc/python left out, and
everything through cffi. Here CPython runs it; `make test` runs a part of the contract, `make prove`
all of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pylogwal

ROOT = Path(__file__).parent.parent.parent
BUILD = """
import platform, sys
sys.path[:0] = [sys.argv[1]]
platform.python_implementation = lambda: "PyPy"
import build
build.builder().compile(tmpdir=sys.argv[2])
"""
NOTHING_IS_BOUND = """
import inspect, sys, pylogwal
with pylogwal.Wal(sys.argv[1]) as wal:
    assert inspect.ismethod(wal.core.fast_persist)
    wal.persist_entries([pylogwal.Entry(1, 1, b"a")])
    assert [entry.payload for entry in wal.get_entries(1, 1)] == [b"a"]
print(pylogwal.__file__)
"""

pytestmark = pytest.mark.skipif(
    not (ROOT / "csrc" / "build.py").exists() or sys.implementation.name != "cpython",
    reason="needs the sources, and CPython to stand in for others",
)


def run(where: Path, *arguments: object) -> str:
    """What Python printed; its own directory comes first on its path."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(where)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the package in it."""
    where = tmp_path_factory.mktemp("package")
    source = Path(pylogwal.__file__).parent
    shutil.copytree(
        source, where / "pylogwal", ignore=shutil.ignore_patterns("__pycache__", "*.so")
    )
    run(where, "-c", BUILD, ROOT / "csrc", where)
    return where


def test_csrc_python_is_left_out(package: Path, tmp_path: Path) -> None:
    printed = run(package, "-c", NOTHING_IS_BOUND, tmp_path / "log")
    assert printed.startswith(str(package))


CONTRACT = ROOT / "tests" / "contract"


@pytest.mark.parametrize(
    "suite",
    [
        CONTRACT / "test_closing.py",
        CONTRACT / "test_truncate.py",
        pytest.param(CONTRACT, marks=pytest.mark.prove),
    ],
    ids=lambda path: path.stem,
)
def test_the_contract_is_kept(package: Path, tmp_path: Path, suite: Path) -> None:
    run(
        package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", tmp_path / "t", suite
    )
