"""Forms of lists; apart from what reads them, which a command line needs only when there is a list."""

from __future__ import annotations

from enum import StrEnum


class ListFormat(StrEnum):
    """Forms of lists."""

    PLAIN = "plain"
    ARIA2 = "aria2"
    METALINK = "metalink"
    BAGIT = "bagit"
    CSV = "csv"
    JSON = "json"
