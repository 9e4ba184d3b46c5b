"""Selections: which of a job's samples to clean, delete or keep."""
