"""Makes spans: the clock, the engine under every tracer, the wait for devices."""
