"""Looks at spans. Imports the model only."""
