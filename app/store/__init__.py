"""Records and blobs: all that the front end and the worker share. No web, no queue, no torch."""
