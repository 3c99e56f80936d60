"""Fails where the hot path has grown, without a clock: `python bench/guard.py [--keep]`.

- Instructions per entry appended and read, and per term, by callgrind, against guard.json: at
  most 10 percent more. The work is done twice, with one and with two units, and the difference
  is what counts, so opening and closing fall out. `--keep` writes the numbers of this tree into
  guard.json.
- System calls of a durable append, by strace: one fdatasync, and no other call for a file.
- Bytes that it sends to the disk, as the kernel counts them for the process: at most 12 KiB. Pages
  of the file, not the file system's own; the device's counter, which targets.py looks at, has
  everybody's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from harness import scratch

HERE = Path(__file__).parent
CSRC = HERE.parent / "csrc"
NUMBERS = HERE / "guard.json"

UNIT = 3200
GROWTH_MAX = 1.10
DURABLE_APPENDS = 200
BYTES_MAX = 12 * 1024

NOT_FOR_FILES = ("futex", "rseq", "set_robust_list", "rt_sigprocmask")
"""A thread's own: the two that look after the log may begin late."""

READS = {"read1": "append64", "read1000": "append64", "term": "append64"}
"""What is done first, and taken off."""


def build(directory: Path) -> Path:
    program = directory / "guard"
    sources = sorted(CSRC.glob("*.c"))
    flags = ["-std=gnu11", "-O2", "-pthread", f"-I{CSRC}"]
    subprocess.run(["gcc", *flags, "-o", program, HERE / "guard.c", *sources], check=True)
    return program


def compiler() -> str:
    version = subprocess.run(["gcc", "-dumpversion"], check=True, capture_output=True, text=True)
    return "gcc " + version.stdout.split(".")[0].strip()


# -- instructions --------------------------------------------------------------------------------


def instructions(program: Path, directory: Path, what: str, count: int) -> int:
    log = directory / f"{what}-{count}"
    tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory / 'callgrind'}"]
    ran = subprocess.run(
        [*tool, program, what, log, str(count)], check=True, capture_output=True, text=True
    )
    collected = re.search(r"Collected : (\d+)", ran.stderr)
    if collected is None:
        raise SystemExit(f"callgrind said nothing to the point: {ran.stderr}")
    return int(collected[1])


def per_entry(program: Path, directory: Path) -> dict[str, float]:
    whole = {}
    for what in ("append1", "append64", *READS):
        few, many = (instructions(program, directory, what, UNIT * times) for times in (1, 2))
        whole[what] = (many - few) / UNIT
    for what, before in READS.items():
        whole[what] -= whole[before]
    return {what: round(count, 1) for what, count in whole.items()}


def check_instructions(found: dict[str, float]) -> bool:
    kept = json.loads(NUMBERS.read_text())
    if kept["compiler"] != compiler():
        print(f"instructions: kept for {kept['compiler']}, this is {compiler()}: shown, not judged")
    good = True
    for what, count in found.items():
        before = kept["instructions_per_entry"][what]
        grown = count > before * GROWTH_MAX
        good = good and not grown
        print(f"instructions, {what:<9} {count:8.1f} an entry, kept {before:8.1f}", end="")
        print("  GROWN" if grown else "")
    return good or kept["compiler"] != compiler()


# -- system calls and bytes ----------------------------------------------------------------------


def check_system_calls(program: Path, directory: Path) -> bool:
    trace = directory / "trace"
    subprocess.run(
        ["strace", "-f", "-o", trace, program, "durable", directory / "d", str(DURABLE_APPENDS)],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    calls: Counter[str] = Counter()
    counting = False
    for line in trace.read_text().splitlines():
        name = re.match(r"\d+ +(\w+)\(", line)
        if name is None:
            continue
        if name[1] == "write" and line.endswith(" = 4") and counting:
            break
        if counting:
            calls[name[1]] += 1
        counting = counting or '"begin\\n"' in line
    for name in NOT_FOR_FILES:
        calls.pop(name, None)
    good = calls == {"fdatasync": DURABLE_APPENDS}
    shown = ", ".join(f"{count / DURABLE_APPENDS:g} {name}" for name, count in calls.items())
    print(f"system calls of a durable append: {shown}{'' if good else '  NOT ONE FDATASYNC'}")
    return good


def bytes_sent(process: subprocess.Popen[str]) -> int:
    found = re.search(
        r"^write_bytes: (\d+)", Path(f"/proc/{process.pid}/io").read_text(), re.MULTILINE
    )
    assert found is not None
    return int(found[1])


def check_bytes(program: Path, directory: Path) -> bool:
    process = subprocess.Popen(
        [program, "durable", directory / "bytes", str(DURABLE_APPENDS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.readline()
    before = bytes_sent(process)
    process.stdin.write(".")
    process.stdin.flush()
    for _ in range(2):
        process.stdout.readline()
    sent = (bytes_sent(process) - before) / DURABLE_APPENDS
    process.communicate()
    good = 0 < sent <= BYTES_MAX
    print(f"bytes sent to the disk by a durable append: {sent / 1024:.1f} KiB", end="")
    print("" if good else "  NOT AS IT SHOULD BE")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path(), help="on a disk, not a tmpfs")
    parser.add_argument("--keep", action="store_true", help="write guard.json")
    options = parser.parse_args()
    with scratch(options.dir) as directory:
        program = build(directory.resolve())
        found = per_entry(program, directory)
        if options.keep:
            numbers = {"compiler": compiler(), "instructions_per_entry": found}
            NUMBERS.write_text(json.dumps(numbers, indent=2) + "\n")
        checks = [
            check_instructions(found),
            check_system_calls(program, directory),
            check_bytes(program, directory),
        ]
    return 0 if all(checks) else 1


if __name__ == "__main__":
    os.environ.setdefault("LC_ALL", "C")
    sys.exit(main())
