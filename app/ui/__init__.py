"""The page: what a team looks at and decides by, rendered on the server from the same store as the API."""
