"""One URL per line; blank lines, and lines that begin with #, are left out."""

from __future__ import annotations

from stager.model.lists.listed import ParsedList


def parse_plain(text: str, name: str) -> ParsedList:
    """The files of the list.

    Raises:
        InputError: a line is no URL.
    """
    found = ParsedList()
    for number, line in enumerate(text.split("\n"), 1):
        url = line.strip()
        if url and not url.startswith("#"):
            found.add(f"{name}:{number}", [url])
    return found
