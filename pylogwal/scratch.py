"""Directories in which `bench` and `demo` work."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pylogwal.complaints import complain
from pylogwal.interrupts import signals_held

__all__ = ["temporary_directory"]

TRIES, PAUSE_S = 20, 0.1


@contextlib.contextmanager
def temporary_directory(
    prefix: str, parent: Path | None = None, keep_on: tuple[type[BaseException], ...] = ()
) -> Iterator[Path]:
    """A new directory, removed at the end, also where a signal ends the command. After an error of
    `keep_on` it stays, and stderr says where it is.
    """
    made: Path | None = None
    try:
        with signals_held():
            made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        yield made
    except keep_on:
        complain(f"kept for a look at it: {made}")
        made = None
        raise
    finally:
        if made is not None:
            with signals_held():
                _remove(made)


def _remove(directory: Path) -> None:
    """A log that was being opened as the command was ended may still make a file."""
    for _ in range(TRIES):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(PAUSE_S)
    shutil.rmtree(directory)
