"""The command line: a file a command, with `add_to(commands)` and `run(args)`.

What several commands need is in `arguments`, `messages` and `traces`.
"""
