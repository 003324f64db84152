"""`refunc`: its logging, as its document describes it, is in `logging`."""

__all__: list[str] = []
