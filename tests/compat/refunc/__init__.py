"""The refunc document, row by row, and its examples."""
