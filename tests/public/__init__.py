"""The public behaviour of the v1 and v2 doors, seen from outside."""
