"""The command line: `pylogwal`, or `python -m pylogwal`.

What looks at a log opens it read-only: it takes no lock, changes nothing, and works beside a live
writer. Results go to stdout, complaints and progress to stderr.

Exit status: 0 success, 1 corruption found (in `demo`: something was lost), 2 usage error, 3 I/O
error, which includes output that cannot be written; 130 after Ctrl-C, 143 after SIGTERM. What was
found until then is printed. A pipe whose reader has gone is no error.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pylogwal.bench import add_bench
from pylogwal.checks import INDEX_MAX
from pylogwal.complaints import complain, discard
from pylogwal.core import SegmentInfo
from pylogwal.demo import add_demo
from pylogwal.errors import CorruptionError, WalError
from pylogwal.interrupts import ended_by_signals, ignore_interrupts
from pylogwal.types import Entry, HardState
from pylogwal.verify import EXIT_STATUS, WHAT_IS_READ, Damage, read_through, verify_command
from pylogwal.wal import Wal

if TYPE_CHECKING:
    from typing import TypeAlias

    Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001

__all__ = ["main", "run"]

WELL, DAMAGED, WRONG_USE, UNREADABLE = range(4)

INTERRUPTED = 130

PREVIEW_BYTES = 60

OPERATIONS = "https://github.com/pylogwal/pylogwal/blob/main/docs/operations.md"


def run() -> NoReturn:
    """The process: one command, after which the interpreter ends without a word of its own."""
    try:
        status = main()
    except KeyboardInterrupt:  # in the moment before `main` is ready for it, or after
        status = INTERRUPTED
    ignore_interrupts()
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command (`arguments` without the program's name) and returns its exit status.

    A usage error ends in SystemExit, as argparse does it; so does SIGTERM.
    """
    if sys.stdout is None:
        complain("standard output is closed")
        return UNREADABLE
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may be any bytes
    with ended_by_signals():
        try:
            status = _command(arguments)
        except KeyboardInterrupt:
            status = INTERRUPTED
        except SystemExit as end:
            if (failed := _flushed(WELL)) != WELL:
                return failed
            raise end from None
        except OSError as error:
            return _unwritten(error)
        status = _flushed(status)
        if status == INTERRUPTED:
            complain("interrupted")
        return status


def _command(arguments: Sequence[str] | None) -> int:
    """Everything but output that cannot be written, which stays an OSError."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except CorruptionError as error:
        return _fail(options, error, DAMAGED)
    except WalError as error:
        return _fail(options, error, UNREADABLE)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        sys.stdout.flush()  # which fails again, if that is what has failed
        return _fail(options, error, UNREADABLE)
    return status


def _flushed(status: int) -> int:
    """The exit status, once all that was printed has gone where it should."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return _unwritten(error)
    return status


def _unwritten(error: OSError) -> int:
    """Standard output is lost."""
    discard(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return WELL  # whoever read had enough
    complain(f"cannot write the output: {error.strerror or error}")
    return UNREADABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pylogwal",
        description="Looks at a Raft log on disk, read-only, also beside a live writer.",
        epilog="exit status: 0 success, 1 corruption found, 2 usage error, 3 I/O error. "
        f"What each error means, and what is safe: {OPERATIONS}",
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show the version of pylogwal and exit"
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (add_info, add_dump, add_verify, add_bench, add_demo):
        add(subparsers)
    return parser


class _Version(argparse.Action):
    """Looked up only when it is asked for: that takes longer than most commands."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from importlib import metadata

        print(f"pylogwal {metadata.version('pylogwal')}")
        parser.exit(WELL)


def _add_reader(
    subparsers: Subparsers, name: str, text: str, json_help: str
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=text, description=text)
    parser.add_argument("directory", metavar="DIR", type=_directory, help="the log's directory")
    parser.add_argument("--json", action="store_true", help=json_help)
    return parser


def _directory(text: str) -> str:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} names no directory")
    return text


def _fail(options: argparse.Namespace, error: Exception, status: int) -> int:
    complain(str(error))
    if getattr(options, "json", False):
        names = ("file", "offset", "first_index", "last_index", "errno")
        known = {name: getattr(error, name, None) for name in names}
        _print_json({"error": {"type": type(error).__name__, "message": str(error), **known}})
    return status


def _print_json(value: object) -> None:
    print(json.dumps(value))


# -- info ------------------------------------------------------------------------------------------


def add_info(subparsers: Subparsers) -> None:
    """`pylogwal info DIR`."""
    _add_reader(
        subparsers,
        "info",
        "The state of a log and its files.",
        "print the same facts as one JSON object, with the hard state's extra in base64",
    ).set_defaults(run=_info)


def _info(options: argparse.Namespace) -> int:
    with Wal(options.directory, read_only=True) as wal:
        facts = _facts(wal)
    if options.json:
        _print_json(facts)
    else:
        _print_facts(facts)
    return WELL


def _facts(wal: Wal) -> dict[str, Any]:
    stats = wal.stats()
    boundary = wal.load_purge_boundary()
    return {
        "directory": wal.path,
        "first_index": wal.first_index(),
        "last_index": wal.last_index(),
        "entries": wal.last_index() - wal.first_index() + 1,
        "last_term": wal.term(wal.last_index()),
        "durable_index": wal.durable_index(),
        "boundary": boundary and boundary._asdict(),
        "hard_state": _hard_state_facts(wal.load_hard_state()),
        "segments": [_segment_facts(segment) for segment in wal.core.segments()],
        "files": _files(wal.path),
        "recovery": {
            "cut_bytes": stats.cut_bytes,
            "cut_batches": stats.cut_batches,
            "ms": round(stats.recovery_ms, 3),
        },
    }


def _hard_state_facts(state: HardState | None) -> dict[str, Any] | None:
    return state and {**state._asdict(), "extra": base64.b64encode(state.extra).decode()}


def _segment_facts(segment: SegmentInfo) -> dict[str, Any]:
    facts = segment._asdict()
    next_index = facts.pop("next_index")
    held = segment.first_index < next_index
    facts["first_index"] = segment.first_index if held else None
    facts["last_index"] = next_index - 1 if held else None
    return facts


def _files(directory: str) -> dict[str, int]:
    """All files of the log, with those that are prepared ahead or wait to be removed."""
    count = total = 0
    for path in Path(directory).iterdir():
        if path.suffix in (".wal", ".spare") or path.name == "LOCK":
            try:
                total += path.stat().st_size
            except FileNotFoundError:  # a live writer's
                continue
            count += 1
    return {"count": count, "bytes": total}


def _print_facts(facts: dict[str, Any]) -> None:
    boundary, state, recovery = facts["boundary"], facts["hard_state"], facts["recovery"]
    rows = {
        "directory": facts["directory"],
        "entries": "none"
        if not facts["entries"]
        else "{first_index}..{last_index}".format(**facts) + f" ({facts['entries']:,})",
        "last index": "{last_index}, term {last_term}".format(**facts),
        "purged": "never" if boundary is None else "up to {index}, term {term}".format(**boundary),
        "durable": "up to {durable_index}, proven by the log itself".format(**facts),
        "hard state": "never saved" if state is None else _hard_state_line(state),
        "files": "{count}, {bytes:,} bytes".format(**facts["files"]),
        "recovery": "would cut nothing"
        if not recovery["cut_bytes"]
        else "would cut {cut_bytes:,} bytes ({batches}) behind the last entry: "
        "nothing in the log says that any of it was durable".format(
            batches=_counted(recovery["cut_batches"], "whole batch", "whole batches"), **recovery
        ),
    }
    for name, text in rows.items():
        print(f"{name:<12}{text}")
    print()
    print(f"{'segment':<24}{'bytes':>14}{'used':>14}  entries")
    for segment in facts["segments"]:
        held = segment["first_index"] is not None
        entries = "{first_index}..{last_index}".format(**segment) if held else "none"
        sealed = "sealed" if segment["sealed"] else "last"
        print("{file:<24}{size:>14,}{end:>14,}  ".format(**segment) + f"{entries}, {sealed}")


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _hard_state_line(state: dict[str, Any]) -> str:
    vote = "no vote" if state["voted_for"] is None else f"vote {state['voted_for']!r}"
    extra_bytes = _counted(len(base64.b64decode(state["extra"])), "byte", "bytes")
    extra = f", {extra_bytes} of extra" if state["extra"] else ""
    return f"term {state['term']}, {vote}, commit index {state['commit_index']}{extra}"


# -- dump ------------------------------------------------------------------------------------------


def add_dump(subparsers: Subparsers) -> None:
    """`pylogwal dump DIR [--from N] [--to N]`."""
    parser = _add_reader(
        subparsers,
        "dump",
        "The entries, one a line: index, term, kind, size in bytes, and the payload's beginning. "
        "With --json one object a line, with the whole payload in base64.",
        "print one JSON object per entry and line, with the whole payload in base64",
    )
    parser.add_argument(
        "--from", dest="first", metavar="N", type=_index, default=1, help="first index"
    )
    parser.add_argument(
        "--to",
        dest="last",
        metavar="N",
        type=_index,
        default=INDEX_MAX,
        help="last index, included",
    )
    parser.set_defaults(run=lambda options: _dump(parser, options))


def _index(text: str) -> int:
    try:
        index = int(text)
    except ValueError:
        index = 0
    if not 1 <= index <= INDEX_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no index (1..2^64-2)")
    return index


def _dump(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.first > options.last:
        parser.error(f"--from {options.first} lies behind --to {options.last}")
    status = WELL
    line = _json_line if options.json else _text_line
    with Wal(options.directory, read_only=True) as wal:
        for found in read_through(wal, options.first, options.last):
            if isinstance(found, Damage):
                sys.stdout.flush()
                complain(f"damaged: {found} (docs/operations.md, CorruptionError)")
                status = DAMAGED
            else:
                sys.stdout.write("".join(map(line, found)))
    return status


_ESCAPED = [chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in range(256)]
for _character, _escape in {"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}.items():
    _ESCAPED[ord(_character)] = _escape


def _text_line(entry: Entry) -> str:
    preview = "".join([_ESCAPED[byte] for byte in entry.payload[:PREVIEW_BYTES]])
    cut = "..." if len(entry.payload) > PREVIEW_BYTES else ""
    return f"{entry.index} {entry.term} {entry.kind} {len(entry.payload)} {preview}{cut}\n"


def _json_line(entry: Entry) -> str:
    payload = base64.b64encode(entry.payload).decode()
    facts = {"index": entry.index, "term": entry.term, "kind": entry.kind}
    return json.dumps({**facts, "size": len(entry.payload), "payload": payload}) + "\n"


# -- verify ----------------------------------------------------------------------------------------


def add_verify(subparsers: Subparsers) -> None:
    """`pylogwal verify DIR`."""
    parser = _add_reader(
        subparsers,
        "verify",
        "Read the whole log, and name what is damaged.",
        "print one JSON object when all is read: what was read, and a list of the damage",
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = WHAT_IS_READ, EXIT_STATUS
    parser.set_defaults(run=lambda options: verify_command(options.directory, options.json))
