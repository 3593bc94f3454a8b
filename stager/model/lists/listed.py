"""A file that a list names, and how a list says that it can't be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stager.errors import InputError
from stager.model.digests import parse_digest
from stager.model.urls import parse_url

LARGEST = 2**63 - 1
"""Bytes; no file system has a larger file."""


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file that a list names.

    Attributes:
        urls: where it is, the first to be tried first; at least one.
        digest: that it must have, in its one form, or None.
        size: bytes that it must have, or None.
        name: that the list gives it, or None.
        place: list and line, such as ``files.txt:3``.
    """

    urls: tuple[str, ...]
    digest: str | None = None
    size: int | None = None
    name: str | None = None
    place: str = ""


@dataclass(slots=True)
class ParsedList:
    """What a list says; `notes` tells what of it was left out, a sentence each, each once."""

    files: list[ListedFile] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Tell that something was left out."""
        self.notes[text] = None

    def add(
        self,
        place: str,
        urls: Sequence[str],
        *,
        digest: str | None = None,
        size: str | int | None = None,
        name: str | None = None,
    ) -> None:
        """Check a file and add it.

        Of several URLs those that can't be read here are left out; the last one may not be.

        Raises:
            InputError: no URL that can be read, or a digest or size that is none; it names the place.
        """
        readable = []
        for url in urls:
            try:
                parse_url(url)
            except InputError as error:
                if len(urls) == 1:
                    raise at(place, error) from None
                self.note(f"{place}: left out: {error.what}")
            else:
                readable.append(url)
        if not readable:
            raise refused(place, "no URL that can be fetched", "http and https can be read")
        try:
            expected = str(parse_digest(digest)) if digest is not None else None
        except InputError as error:
            raise at(place, error) from None
        self.files.append(ListedFile(tuple(readable), expected, _size(place, size), name, place))


def at(place: str, error: InputError) -> InputError:
    """The error, with the place in the list where it is."""
    return InputError(f"{place}: {error.what}", cause=error.cause, remedy=error.remedy)


def refused(place: str, cause: str, remedy: str = "") -> InputError:
    """An error about that place."""
    return InputError(f"{place} can't be read", cause=cause, remedy=remedy)


def _size(place: str, size: str | int | None) -> int | None:
    if size is None or size == "":
        return None
    if isinstance(size, str) and size.isascii() and size.isdigit() and len(size) <= len(str(LARGEST)):
        size = int(size)
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= LARGEST:
        raise refused(place, f"its size {str(size)[:40]!r} is no number of bytes")
    return size
