"""The command line: one command a file, each with `add_to(commands)` and `run(args)`."""
