"""The command line: a file a command, with `add_to(commands)` and `run(args)`."""
