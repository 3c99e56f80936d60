"""Builds the C core into ``pylogwal._core`` (cffi, API mode, out of line).

Only setup.py runs this, at build time; it is not installed. The declarations that cffi reads are
the part of csrc/logwal.h between its two marker lines, so there is one header and no second copy.

``LW_CFLAGS`` and ``LW_LDFLAGS`` in the environment are added to the compiler's and the linker's
arguments, for sanitizers and debugging; see CONTRIBUTING.md.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

from cffi import FFI

# Not resolved: setuptools runs this file with a `__file__` relative to the project and wants its
# sources relative too, while `FFI.compile` (the tests' own module) changes directory and needs
# them absolute, as `__file__` is in an imported module.
CSRC = Path(__file__).parent

BEGIN, END = "/* cffi: begin */", "/* cffi: end */"

COMPILE_ARGS = ["-std=gnu11", "-O2", "-fvisibility=hidden", "-pthread", "-Wall", "-Wextra"]
# cffi's own generated C is not written for these two.
COMPILE_ARGS += ["-Wno-unused-parameter", "-Wno-missing-field-initializers"]
LINK_ARGS = ["-pthread"]


def _stable_abi() -> bool:
    """Whether this interpreter builds for the stable ABI: the same choice that cffi makes."""
    return (
        sys.implementation.name == "cpython"
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
        and not hasattr(sys, "gettotalrefcount")  # a debug build
    )


def _declarations(header: Path) -> str:
    """The part of a header that cffi reads."""
    text = header.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{header}: needs one line {BEGIN!r} and one line {END!r}")
    return text.partition(BEGIN)[2].partition(END)[0]


def builder(
    module_name: str = "pylogwal._core",
    sources: Iterable[Path] | None = None,
    macros: Mapping[str, str | None] | None = None,
    cdef_extra: Path | None = None,
) -> FFI:
    """A cffi builder for the core, ready to compile.

    ``sources`` are the C files, by default all of csrc. ``macros`` are defined in each of them
    (None: without a value). ``cdef_extra`` is one more header with the same two markers, seen by
    the C compiler after logwal.h.
    """
    sources = sorted(CSRC.rglob("*.c")) if sources is None else list(sources)
    headers = [CSRC / "logwal.h", *([cdef_extra] if cdef_extra else [])]
    depends = {Path(__file__), *headers, *CSRC.rglob("*.h")}
    define_macros = list((macros or {}).items())
    if platform.python_implementation() != "CPython":
        # Not PYPY_VERSION, which Python.h defines: csrc/python has to know before it includes that.
        define_macros.append(("LW_NOT_CPYTHON", None))
    if _stable_abi():
        # In every source, not only in cffi's own: csrc/python includes Python.h as well.
        define_macros.append(("Py_LIMITED_API", "0x030a0000"))

    ffi = FFI()
    for header in headers:
        ffi.cdef(_declarations(header))
    ffi.set_source(
        module_name,
        "".join(f'#include "{header.name}"\n' for header in headers),
        sources=[str(source) for source in sources],
        include_dirs=sorted({str(header.parent) for header in headers}),
        depends=sorted(str(path) for path in depends),
        define_macros=define_macros,
        extra_compile_args=COMPILE_ARGS + shlex.split(os.environ.get("LW_CFLAGS", "")),
        extra_link_args=LINK_ARGS + shlex.split(os.environ.get("LW_LDFLAGS", "")),
    )
    return ffi


def ffibuilder() -> FFI:
    """What setup.py names."""
    return builder()
