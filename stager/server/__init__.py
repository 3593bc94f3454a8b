"""The HTTP API of the main server."""
