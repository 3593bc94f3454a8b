"""Origin → verified bytes: one try of one fetch."""
