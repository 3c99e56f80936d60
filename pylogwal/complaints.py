"""What a command says on stderr, beside its results.

The results and the exit status do not depend on it: where stderr is closed, on a full disk, or a
pipe whose reader has gone, what would have been said is dropped.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

__all__ = ["complain", "discard", "tell"]


def complain(text: str) -> None:
    """One line."""
    tell(f"pylogwal: {text}\n")


def tell(text: str) -> None:
    """The text as it stands."""
    if sys.stderr is not None:  # never `print`, which takes None for standard output
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Drops what cannot be written: Python would try again at exit, and complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
