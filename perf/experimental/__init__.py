"""Tracing v2: timelines of spans with tags (drop-in for `tunix.perf.experimental`)."""

__all__: list[str] = []
