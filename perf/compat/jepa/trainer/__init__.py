"""`jepa.trainer`: what of it logs is in `callbacks`."""

__all__: list[str] = []
