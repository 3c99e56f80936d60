"""What is installed: its version, and what an import says where a part of it is missing."""

from __future__ import annotations

import importlib.metadata
import modulefinder
import pydoc
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pylogwal
from pylogwal import _core

PACKAGE = Path(pylogwal.__file__).parent
IS_CPYTHON = sys.implementation.name == "cpython"


def test_the_version_is_that_of_the_distribution() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", pylogwal.__version__)
    installed = importlib.metadata.version("pylogwal")
    assert installed == pylogwal.__version__, "installed in place long ago? `make clean` helps"


def test_the_first_example_of_the_help_runs_as_it_stands(tmp_path: Path) -> None:
    text = pydoc.plain(pydoc.render_doc(pylogwal))
    block = re.search(r"(?:^ {8}.*\n|^ *\n)+", text[text.index("DESCRIPTION") :], re.MULTILINE)
    assert block is not None
    for _ in range(2):  # whoever tries it once more has the same log
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(block[0])],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout == "Entry(index=1, term=1, payload=b'set x 1', kind=0)\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package alone, without what it depends on."""
    target = tmp_path / "pylogwal"
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def import_error(copy: Path, *others: Path) -> str:
    """The last line that an import ends with, where only the standard library is there as well."""
    paths = [str(path) for path in (copy.parent, *others)]
    program = f"import sys; sys.path[:0] = {paths!r}; import pylogwal"
    done = subprocess.run([sys.executable, "-ISc", program], capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def extension(copy: Path) -> Path:
    return copy / Path(_core.__file__).name


@pytest.mark.skipif(not IS_CPYTHON, reason="cffi's backend is built in")
def test_where_cffi_is_missing_the_error_names_it(copy: Path) -> None:
    message = import_error(copy)
    assert "_cffi_backend" in message
    assert "not built" not in message


def cffi_backend() -> list[Path]:
    """Where it is; it may be built in."""
    import _cffi_backend

    file = getattr(_cffi_backend, "__file__", None)
    return [] if file is None else [Path(file).parent]


def test_where_the_core_is_not_built_the_error_says_how_to_build_it(copy: Path) -> None:
    extension(copy).unlink()
    message = import_error(copy, *cffi_backend())
    assert message.startswith("ModuleNotFoundError: the C core, pylogwal._core, is not built")
    assert "make build" in message


def test_where_the_core_cannot_be_loaded_the_error_is_the_loaders(copy: Path) -> None:
    extension(copy).write_bytes(b"no library")
    message = import_error(copy, *cffi_backend())
    assert message.startswith("ImportError: ")
    assert extension(copy).name in message
    assert "not built" not in message


@pytest.mark.skipif(not IS_CPYTHON, reason="cffi's backend is built in")
def test_freezers_find_what_the_core_imports() -> None:
    """They read Python's bytecode, as modulefinder does, and see nothing of a C extension."""
    finder = modulefinder.ModuleFinder(excludes=list(sys.stdlib_module_names))
    finder.import_hook("pylogwal")
    assert "_cffi_backend" in finder.modules
