"""What ends a command before its time: Ctrl-C, SIGTERM, SIGHUP.

While a command runs, a signal raises in it (KeyboardInterrupt for SIGINT, SystemExit for the
others), so that what was found is still printed and temporary files are removed. The signals after
the first are ignored, so that nothing cuts that short.

Until the command runs, `pylogwal.startup` has SIGINT end the process at once.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["ended_by_signals", "ignore_interrupts", "signals_held"]

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 0.01


def ignore_interrupts() -> None:
    """For the rest of the process: all is told, only the interpreter has yet to end."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, _: FrameType | None) -> None:
    ignore_interrupts()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within, the first of the signals raises, and those after it are ignored. Signals that
    somebody else handles, or ignores, are left alone; so are all of them in another thread than
    the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}
    hook = sys.unraisablehook
    sys.unraisablehook = _Repeating(hook)
    try:
        for number in ENDING:
            handler = signal.getsignal(number)
            if handler in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = handler
                signal.signal(number, _end)
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


class _Repeating:
    """An exception that a finalizer swallowed, with a message, is raised once more."""

    def __init__(self, hook: Any) -> None:
        self._hook = hook

    def __call__(self, unraisable: Any) -> None:
        swallowed = unraisable.exc_value
        if not isinstance(swallowed, (KeyboardInterrupt, SystemExit)):
            self._hook(unraisable)
            return

        def again(*_: object) -> None:
            raise swallowed

        signal.signal(signal.SIGALRM, again)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Within, a signal waits: for what must not be left half done, and is short. Programs that are
    started within do not get it either.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
