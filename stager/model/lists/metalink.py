"""Metalink 4 (RFC 5854): files with mirrors by priority, size and hashes.

A document type is refused, and with it every entity that a document can define: none is fetched, none expanded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

from stager.model.digests import Digest, algorithm_of, strongest
from stager.model.lists.listed import ParsedList, refused

NAMESPACE = "urn:ietf:params:xml:ns:metalink"
OLD_NAMESPACE = "http://www.metalinker.org/"
LOWEST = 999_999
"""Priority of a URL that has none; 1 is the highest."""
_FILE = ["metalink", "file"]
_HANDLED = {"url", "size", "hash"}


@dataclass(slots=True)
class _File:
    line: int
    name: str
    urls: list[tuple[int, str]] = field(default_factory=list)
    size: str | None = None
    digests: list[Digest] = field(default_factory=list)
    other_hash: bool = False


class _Reader:
    """Gathers the files while the parser goes through the document."""

    def __init__(self, name: str) -> None:
        self.found = ParsedList()
        self._name = name
        self._path: list[str] = []
        self._file: _File | None = None
        self._text: list[str] | None = None
        self._attributes: dict[str, str] = {}
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters

    @property
    def place(self) -> str:
        return f"{self._name}:{self.parser.CurrentLineNumber}"

    def _doctype(self, *_: object) -> None:
        raise refused(
            self.place, "it has a document type, which could define entities", "remove <!DOCTYPE ...>"
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        space, _, local = tag.rpartition(" ")
        if not self._path and (local != "metalink" or space != NAMESPACE):
            old = (
                "it is Metalink 3, of which nothing is read"
                if space == OLD_NAMESPACE
                else "it is no Metalink"
            )
            raise refused(self.place, old, f"give a document of Metalink 4, <metalink xmlns={NAMESPACE!r}>")
        self._path.append(local if space == NAMESPACE else tag)
        if self._path == _FILE:
            self._file = _File(self.parser.CurrentLineNumber, attributes.get("name", ""))
        elif self._path[:-1] == _FILE and local in _HANDLED:
            self._text, self._attributes = [], attributes
        elif self._path[:-1] == _FILE and local == "metaurl":
            self.found.note("metaurl (torrents and the like) is left out")

    def _characters(self, text: str) -> None:
        if self._text is not None and len(self._path) == len(_FILE) + 1:
            self._text.append(text)

    def _end(self, _tag: str) -> None:
        file, local = self._file, self._path[-1]
        if file is not None and self._path[:-1] == _FILE and self._text is not None:
            self._take(file, local, "".join(self._text).strip())
            self._text = None
        elif file is not None and self._path == _FILE:
            self._add(file)
            self._file = None
        self._path.pop()

    def _take(self, file: _File, local: str, text: str) -> None:
        if local == "size":
            file.size = text
        elif local == "url":
            priority = self._attributes.get("priority", str(LOWEST))
            if not (priority.isascii() and priority.isdigit() and len(priority) <= len(str(LOWEST))):
                raise refused(self.place, f"priority {priority[:40]!r} is no number from 1 to {LOWEST}")
            file.urls.append((int(priority), text))
        elif name := algorithm_of(self._attributes.get("type", "")):
            file.digests.append(Digest(name, text))
        else:
            file.other_hash = True

    def _add(self, file: _File) -> None:
        digest = strongest(file.digests)
        if file.other_hash and digest is None:
            self.found.note("hashes of other algorithms than sha and md5 are not checked")
        urls = [url for _, url in sorted(file.urls, key=lambda one: one[0])]
        self.found.add(
            f"{self._name}:{file.line}",
            urls,
            digest=None if digest is None else str(digest),
            size=file.size,
            name=file.name or None,
        )


def parse_metalink(data: bytes, name: str) -> ParsedList:
    """The files of the document.

    Raises:
        InputError: it is no XML, no Metalink 4, has a document type, or a value that makes no sense.
    """
    reader = _Reader(name)
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise refused(
            f"{name}:{error.lineno}", expat.errors.messages.get(error.code, "it is no XML")
        ) from None
    except (ValueError, LookupError) as error:  # an encoding that Python does not have
        raise refused(reader.place, str(error)) from None
    return reader.found
