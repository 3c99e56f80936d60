"""Leaves one step of the core out at a time and sees that the crash tests notice.

    python tests/crash/mutants.py PROGRAM [STEP ...]

A mutant that lives is a hole in the tests. The exit status is 1 where one does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Cheap runs first; a mutant is dead at the first that fails.
ATTACKS = (
    ("random", 1, 4000),
    ("scripts", 1, 0),
    ("damage", 1, 20000),
    ("random", 1_000_000, 150_000),
)


# Left out, nothing can be lost: what stands behind them holds as well. They stay in the core.
#   SYNC_DIR_RECYCLED  a purged segment whose name comes back with other bytes is older than all
#                      that recovery needs, and such files are leftovers, whatever they hold
EQUIVALENT = {"SYNC_DIR_RECYCLED"}


def kill(program: Path, step: str) -> str | None:
    """What noticed that the step was left out: the first line of the failure. None: nothing."""
    for attack, first, count in ATTACKS:
        command = [str(program), attack, str(first), str(count), "--without", step]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired:
            return f"{attack}: does not end"
        if done.returncode != 0:
            told = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
            return told[0] if told else f"{attack}: status {done.returncode}: {done.stderr[-200:]}"
    return None


def steps(program: Path) -> list[str]:
    """All that can be left out."""
    listed = subprocess.run([str(program), "steps"], capture_output=True, text=True, check=True)
    return listed.stdout.split()


def main() -> int:
    """The exit status."""
    program = Path(sys.argv[1]).resolve()
    wanted = sys.argv[2:] or [step for step in steps(program) if step not in EQUIVALENT]
    started = time.monotonic()
    killed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for step, how in zip(
            wanted, pool.map(lambda step: kill(program, step), wanted), strict=True
        ):
            print(f"{step:24} {how or 'LIVES'}", flush=True)
            killed += how is not None
    print(f"mutants: {killed} killed of {len(wanted)}, in {time.monotonic() - started:.0f} s")
    return 0 if killed == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
