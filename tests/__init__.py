"""Tests, laid out like perf/; public/ holds what users of the public paths rely on."""
