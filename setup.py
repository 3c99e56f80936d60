"""What pyproject.toml cannot say: the cffi module, and the tag of its wheel."""

import sys
import sysconfig

from setuptools import setup

if sys.platform == "win32":
    sys.exit("pylogwal does not support Windows: it needs a POSIX system (Linux or macOS).")

# One wheel for every CPython from 3.10 up. A free-threaded CPython has no such stable ABI and
# gets a wheel of its own; so does PyPy.
stable_abi = sys.implementation.name == "cpython" and not sysconfig.get_config_var(
    "Py_GIL_DISABLED"
)

setup(
    cffi_modules=["csrc/build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if stable_abi else {},
)
