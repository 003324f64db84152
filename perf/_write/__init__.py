"""Puts a trace somewhere. Imports the model only; nothing heavy at import."""
