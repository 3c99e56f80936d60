"""The crash model: the core on a simulated disk with simulated threads, killed at any moment.

`tests/crash/build OUTPUT` builds the program that does it. A failing history is run again, told
step by step, with the command that the failure names, as `build/crash random 1719 1 -v`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAM = HERE.parent.parent / "build" / "crash"


@pytest.fixture(scope="session")
def crash() -> Path:
    """The program, newer than all its sources. Other processes of this run may build it as well."""
    sources = [*HERE.glob("*.[ch]"), HERE / "build", *HERE.parent.parent.glob("csrc/*.[ch]")]
    newest = max(source.stat().st_mtime for source in sources)
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < newest:
        built = PROGRAM.with_name(f"crash-{os.getpid()}")
        subprocess.run([HERE / "build", built], check=True)
        built.replace(PROGRAM)
    return PROGRAM


def run(crash: Path, *arguments: object) -> str:
    """Its output; where it fails, the failing history is run again and told."""
    done = subprocess.run([crash, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout
    again = ""
    for line in done.stdout.splitlines():
        if line.startswith("FAILED "):
            command = line.removeprefix("FAILED ").partition(":")[0].split()
            told = subprocess.run([crash, *command, "-v"], capture_output=True, text=True).stdout
            again = "\n".join(told.splitlines()[-120:])
    pytest.fail(f"{done.stdout}{done.stderr}\n{again}", pytrace=False)


def test_random_histories(crash: Path) -> None:
    print(run(crash, "random", 1, 8000))


def test_verification_beside_a_writer_finds_nothing(crash: Path) -> None:
    print(run(crash, "beside", 1, 4000))


def test_scripted_histories_at_every_crash_point(crash: Path) -> None:
    print(run(crash, "scripts", 1, 0))


def test_damage_is_noticed(crash: Path) -> None:
    print(run(crash, "damage", 1, 4000))


@pytest.mark.prove
def test_scripted_histories_and_every_crash_point_of_recovery(crash: Path) -> None:
    print(run(crash, "scripts", 2, 1))


@pytest.mark.prove
def test_damage_is_noticed_at_length(crash: Path) -> None:
    print(run(crash, "damage", 1_000_000, 100_000))


@pytest.mark.prove
def test_verification_beside_a_writer_finds_nothing_at_length(crash: Path) -> None:
    print(run(crash, "beside", 1_000_000, 100_000))


@pytest.mark.prove
def test_every_mutant_is_killed(crash: Path) -> None:
    done = subprocess.run(
        [sys.executable, HERE / "mutants.py", crash], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


@pytest.mark.prove
@pytest.mark.parametrize("part", range(2))
def test_random_histories_at_length(crash: Path, part: int) -> None:
    print(run(crash, "random", 1_000_000 * (part + 1), 100_000))
