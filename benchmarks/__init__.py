"""Measurements that hold the project to its costs: `python -m benchmarks`."""
