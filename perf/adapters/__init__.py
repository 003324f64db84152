"""Other people's objects made ours. Each adapter imports its framework lazily."""
