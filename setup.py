"""Declares the compiled halves of two modules; everything else is in pyproject.toml."""

import sysconfig

from setuptools import Extension, setup

# Optional: without a C compiler the package is installed all the same, and Python does
# the work at two to six times the cost. The same where there is no GIL, which guards
# the state of the compiled halves.
COMPILED = [
    Extension("perf._record._hot", ["perf/_record/_hot.c"], optional=True),
    Extension("perf._write._wire", ["perf/_write/_wire.c"], optional=True),
]

setup(ext_modules=[] if sysconfig.get_config_var("Py_GIL_DISABLED") else COMPILED)
