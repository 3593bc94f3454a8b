"""The job mapper: what completes is turned into what may now run."""
