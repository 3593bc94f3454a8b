"""The use cases: what a program, the command line and the server ask for."""

from __future__ import annotations

from stager.service.fetching import FetchHandle, FetchService

__all__ = ["FetchHandle", "FetchService"]
