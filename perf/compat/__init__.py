"""Other documents' names, under those documents' own module paths.

Each folder is a thin face over `perf.loggers`: to switch, change the imports. Nothing
else in perf imports from here.
"""

__all__: list[str] = []
