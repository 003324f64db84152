"""The real Perfetto, here: its trace processor, and its interface in a browser."""
