"""Tests of the training that `rlperf demo` runs."""
