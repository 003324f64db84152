"""`jepa`: its logging, as its document describes it; see `docs/compat/jepa.md`."""

__all__: list[str] = []
