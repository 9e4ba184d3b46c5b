"""Worked examples, run from the repository's root: `python -m examples.digits_demo`."""
