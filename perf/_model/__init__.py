"""What a trace is: values only. No clock, lock, thread, file or jax in here."""
