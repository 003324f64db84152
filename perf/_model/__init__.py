"""What a trace is: values, and the little that every room needs. No jax in here."""
