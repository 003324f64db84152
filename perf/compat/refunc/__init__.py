"""`refunc`: its logging, as its document describes it, in `perf.compat.refunc.logging`."""
