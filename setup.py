"""What pyproject.toml cannot say: the cffi module, and the tag of its wheel."""

import os
import sys
import sysconfig

from setuptools import setup
from setuptools.command.build_ext import build_ext

if sys.platform == "win32":
    sys.exit("pylogwal does not support Windows: it needs a POSIX system (Linux or macOS).")

# One wheel for every CPython from 3.10 up. A free-threaded CPython has no such stable ABI and
# gets a wheel of its own; so does PyPy.
stable_abi = sys.implementation.name == "cpython" and not sysconfig.get_config_var(
    "Py_GIL_DISABLED"
)


class BuildExt(build_ext):
    """Strips an extension that is installed. One that is built in place, or with LW_CFLAGS, keeps
    the symbols that debuggers and sanitizers show.
    """

    def run(self) -> None:
        """Builds all extensions, also where no file has changed since the last build: that one
        can have had other flags, which setuptools does not compare.
        """
        self.force = True
        if not self.inplace and not os.environ.get("LW_CFLAGS") and sys.platform == "linux":
            for extension in self.extensions:
                extension.extra_link_args.append("-s")
        super().run()


setup(
    cffi_modules=["csrc/build.py:ffibuilder"],
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if stable_abi else {},
)
