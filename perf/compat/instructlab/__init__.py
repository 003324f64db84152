"""`instructlab`: its logging, as its document describes it, is in `training`."""

__all__: list[str] = []
