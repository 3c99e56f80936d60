"""Imported before the rest of the package, which takes a while: a Ctrl-C meanwhile ends the command
line as the system does it, without a traceback. In any other program nothing is changed.

Once a command runs, `pylogwal.interrupts` sees to it.
"""

# `signal` imports many modules, which Ctrl-C may meet; this is what it is made of.
import _signal as signal  # type: ignore[import-not-found]
import sys

# "-m" stands there while Python looks for the module to run, and so imports the package.
_program = sys.argv[0].rpartition("/")[2] if sys.argv else ""
_by_module = _program == "-m" and "-m pylogwal" in " ".join(sys.orig_argv)
if (_by_module or _program == "pylogwal") and (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    try:  # noqa: SIM105  contextlib would be one import more that Ctrl-C may meet
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:  # not in the main thread, so this is not the command line
        pass
