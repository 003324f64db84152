"""Tests of the face of instructlab."""
