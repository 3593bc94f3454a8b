"""Credentials: given once, sealed at rest, opened only where a fetch runs."""
