"""The real Perfetto, run by the tests: its trace processor and its UI."""
