"""Reports: what a recording says, in words, tables and pictures."""
