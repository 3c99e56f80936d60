"""Verification of a whole log: what `Wal.verify` gives, and what `pylogwal verify` prints."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pylogwal.core import Core, Verifier
from pylogwal.errors import WalError
from pylogwal.types import Finding, VerifyProgress

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Verification"]


class Verification(Iterator[Finding]):
    """An iterator over what is damaged in the log at `path`; see `Wal.verify`. With a `core` it
    raises ClosedError once that is closed. Without a core, the log need not open.

    One thread at a time iterates; any thread may read `progress`. The iterator holds a descriptor
    and a mapping. It releases them at its end, in `close`, and when it is dropped.
    """

    def __init__(
        self,
        path: str,
        core: Core | None = None,
        progress: Callable[[VerifyProgress], None] | None = None,
    ) -> None:
        self.path = path
        """The log's directory."""
        self._callback = progress
        self._progress = VerifyProgress(0, 0, 0, 0, 0, 0)
        self._lock = threading.RLock()  # so that the callback may call `close`
        self._verifier: Verifier | None = Verifier(path, core)
        self._found: Finding | None = None  # kept here, in case the callback raises

    @property
    def progress(self) -> VerifyProgress:
        """How far it is, as of the last step."""
        return self._progress

    def __next__(self) -> Finding:
        with self._lock:
            while self._found is None and self._verifier is not None:
                self._step(self._verifier)
            finding, self._found = self._found, None
        if finding is None:
            raise StopIteration
        return finding

    def _step(self, verifier: Verifier) -> None:
        try:
            self._found = verifier.step()
        except (StopIteration, WalError, MemoryError) as end:
            self._release()
            if not isinstance(end, StopIteration):
                raise
        finally:
            self._progress = verifier.progress()
        if self._callback is not None:
            self._callback(self._progress)

    def _release(self) -> None:
        if self._verifier is not None:
            self._verifier.close()
            self._verifier = None

    def stop(self) -> None:
        """Ends the iteration early, but what was found until now is still given: it reads no
        further. May be called by the `progress` callback.
        """
        with self._lock:
            if self._verifier is not None:
                self._verifier.stop()

    def close(self) -> None:
        """Ends the iteration at once. A finding that is already made is still given. May be called
        again, also by the `progress` callback.
        """
        with self._lock:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
