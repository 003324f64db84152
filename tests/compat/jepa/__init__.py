"""Tests of the face of jepa."""
