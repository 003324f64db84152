"""`jepa.config`: what of it is about logging is in `config`."""

__all__: list[str] = []
