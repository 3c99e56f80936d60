"""Async tests without a plugin, and the stores that the contract is held against."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import KINDS, Store, Stores

# Some shells export it. The programs that the tests start are the same for everybody.
os.environ.pop("PYTHONUNBUFFERED", None)
# A shell without job control starts what it puts into the background with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs an `async def` test to its end in a fresh event loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    names = inspect.signature(pyfuncitem.function).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    asyncio.run(pyfuncitem.function(**arguments))
    return True


@pytest.fixture(params=KINDS)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    """Opens stores of one kind, all in one directory; closes at the end what is still open."""
    maker = Stores(request.param, tmp_path / "log")
    yield maker
    asyncio.run(maker.close_all())


@pytest.fixture
def store(stores: Stores) -> Store:
    """A blank store, opened in a loop that is gone when the test's own starts."""
    return asyncio.run(stores.open())
