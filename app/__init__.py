"""The front end: what a client sees. It owns the records and never loads torch."""
