"""Tables written to files of every format, a batch of rows at a time."""
