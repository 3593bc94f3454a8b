"""One file per version, each with the one before it."""
