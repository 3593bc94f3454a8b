"""Stager: the inputs of jobs, fetched once, verified, and there before the job starts."""

__version__ = "0.1.0"
