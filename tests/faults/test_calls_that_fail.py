"""Each system call on the log's files fails in turn, at each occurrence, in each mode."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from strace import CALLS, HERE, Injection, counted, injected, require_strace, traced

MODES = ("batch", "interval", "manual")
ERRORS = {
    "fdatasync": ("EIO", "ENOSPC", "EDQUOT", "EINTR"),
    "fsync": ("EIO", "ENOSPC", "EINTR"),
    "pwrite64": ("EIO", "ENOSPC", "EDQUOT", "EINTR"),
    "pread64": ("EIO", "EINTR"),
    "openat": ("EIO", "EMFILE", "ENOSPC", "EACCES", "EINTR"),
    "fallocate": ("EIO", "ENOSPC", "EDQUOT", "EINTR", "EOPNOTSUPP"),
    "renameat2": ("EIO", "ENOSPC"),
    "unlinkat": ("EIO",),
    "mmap": ("ENOMEM", "ENFILE"),
    "flock": ("EIO", "EINTR"),
    "newfstatat,fstat": ("EIO",),
    "getdents64": ("EIO",),
}


def hold(tmp_path: Path, mode: str, injection: Injection | None) -> Path:
    """Runs the workload with one injection, or none. The trace."""
    log, trace = tmp_path / "log", tmp_path / "trace"
    options = ["-e", f"trace={','.join(CALLS)}"]
    if injection is not None:
        options = ["-e", f"trace={injection.calls}", "-e", injection.option()]
    number = injection.errno if injection else 0
    program: list[object] = [HERE / "fault_workload.py", log, mode]
    done = traced(log, options, program, trace, INJECTED_ERRNO=str(number))
    output = f"{injection} {mode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, output
    assert done.stdout.endswith("held\n"), output
    return trace


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How often each call is made by one thread at most, where nothing fails."""
    require_strace()
    found = counted(hold(tmp_path_factory.mktemp("count"), "manual", None))
    assert found.keys() >= {"fdatasync", "pwrite64", "openat", "renameat2", "unlinkat"}
    return found


def injections(counts: dict[str, int], calls: str) -> Iterator[Injection]:
    most = max(counts.get(name, 0) for name in calls.split(","))
    for error in ERRORS[calls]:
        for number in range(1, most + 3):
            yield Injection(calls, error, number)


@pytest.mark.parametrize("calls", CALLS)
def test_a_call_that_fails(tmp_path: Path, counts: dict[str, int], calls: str) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    random_ = random.Random(seed)
    hold(tmp_path, random_.choice(MODES), random_.choice(list(injections(counts, calls))))


@pytest.mark.prove
@pytest.mark.parametrize(
    ("calls", "error"), [(calls, error) for calls in CALLS for error in ERRORS[calls]]
)
def test_every_call_that_fails(
    tmp_path: Path, counts: dict[str, int], calls: str, error: str
) -> None:
    """Each in BATCH; every fourth in the other modes too."""

    def run(number: int, mode: str, injection: Injection) -> int:
        work = tmp_path / f"{number}-{mode}"
        work.mkdir()
        failed = injected(hold(work, mode, injection))
        shutil.rmtree(work)
        return failed

    with ThreadPoolExecutor(3) as pool:
        running = [
            pool.submit(run, number, mode, injection)
            for number, injection in enumerate(injections(counts, calls))
            for mode in MODES
            if injection.error == error
            if mode == "batch" or number % 4 == 0
        ]
        failed = sum(future.result() for future in running)
    print(len(running), "runs,", failed, "calls failed")
    assert failed > 0
