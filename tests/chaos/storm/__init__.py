"""`python -m tests.chaos.storm`: random faults against jobs of a real service, and what came of each."""
