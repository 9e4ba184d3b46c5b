"""What the client asks of the service, a file a noun; `diffin.client.Diffin` has all of it."""
