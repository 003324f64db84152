"""Long trials of what must hold under load, kills and damage: see `__main__`."""
