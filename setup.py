"""Declares the compiled half of the hot path; everything else is in pyproject.toml."""

import sysconfig

from setuptools import Extension, setup

# Optional: without a C compiler the package is installed all the same, and hot.py does
# the work at two to three times the cost. The same where there is no GIL, which guards
# the state of the compiled half.
HOT = Extension("perf._record._hot", ["perf/_record/_hot.c"], optional=True)

setup(ext_modules=[] if sysconfig.get_config_var("Py_GIL_DISABLED") else [HOT])
