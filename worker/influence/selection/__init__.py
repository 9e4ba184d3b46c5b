"""What to do about scores: which labels to doubt, what to keep, what a deletion would do."""
