"""Backends, one service in each file; its library is loaded when one is made."""

__all__: list[str] = []
