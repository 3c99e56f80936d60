"""Each call on the log's files fails in turn, or does half its work, at each occurrence, in each
mode. What has to hold then is in fault_workload.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from faults import Fault, Job, Servers, build_shim

MODES = ("batch", "interval", "manual")
ERRORS = {
    "mkdir": "EIO ENOSPC EDQUOT",
    "faccessat": "EIO",
    "openat": "EIO EMFILE ENOSPC EDQUOT EACCES EINTR",
    "close": "EIO EINTR",
    "fstat": "EIO",
    "pread": "EIO EINTR",
    "pwrite": "EIO ENOSPC EDQUOT EINTR",
    "pwrite_nothing": "EIO EINTR",
    "posix_fallocate": "EIO ENOSPC EDQUOT EINTR EOPNOTSUPP",
    "fallocate": "EIO ENOSPC EDQUOT EINTR EOPNOTSUPP",
    "mmap": "ENOMEM ENFILE",
    "fdatasync": "EIO ENOSPC EDQUOT EINTR",
    "fsync": "EIO ENOSPC EDQUOT EINTR",
    "flock": "EIO EINTR",
    "renameat2": "EIO ENOSPC EDQUOT EINVAL",
    "unlinkat": "EIO",
    "fdopendir": "ENOMEM",
    "readdir": "EIO",
}
PARTS = {"pread": ("", "EIO"), "pwrite": ("", "ENOSPC")}
"""After half its work: it goes on; or the call for the rest fails."""

FAILURES = [
    *((call, error, False) for call, errors in ERRORS.items() for error in errors.split()),
    *((call, error, True) for call, errors in PARTS.items() for error in errors),
]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(build_shim(tmp_path_factory.mktemp("shim")))
    yield servers
    servers.close()


@pytest.fixture(scope="module")
def counts(servers: Servers) -> dict[str, int]:
    """How often each call is made where nothing fails."""
    outcome = servers.run(Job("batch", None))
    outcome.check()
    assert {call for call, count in outcome.seen.items() if count} == ERRORS.keys()
    return outcome.seen


def hold(servers: Servers, jobs: list[Job]) -> None:
    outcomes = servers.run_all(jobs)
    touched = sum(outcome.touched for outcome in outcomes)
    print(len(jobs), "runs,", touched, "calls failed or did half their work")
    for outcome in outcomes:
        outcome.check()
    assert touched > 0


@pytest.mark.parametrize("call", ERRORS)
def test_a_call_that_fails(servers: Servers, counts: dict[str, int], call: str) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    random_ = random.Random(seed)
    hold(
        servers,
        [
            Job(random_.choice(MODES), Fault(*failure, random_.randint(1, counts[call] * 3 // 4)))
            for failure in FAILURES
            if failure[0] == call
        ],
    )


@pytest.mark.prove
@pytest.mark.parametrize(("call", "error", "part"), FAILURES)
def test_every_call_that_fails(
    servers: Servers, counts: dict[str, int], call: str, error: str, part: bool
) -> None:
    """Each in BATCH; every fourth in the other modes too."""
    hold(
        servers,
        [
            Job(mode, Fault(call, error, part, number))
            for number in range(1, counts[call] + 3)  # the threads do not always do the same
            for mode in MODES
            if mode == "batch" or number % 4 == 0
        ],
    )
