"""`instructlab.training`: logging is in `logger`; see `docs/compat/instructlab.md`."""

__all__: list[str] = []
