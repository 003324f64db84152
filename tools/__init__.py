"""Programs for people who work on rlperf. None of them is in the wheel."""
