"""Jobs of every type: what each is asked and shown as, and the routes that all share."""
