"""fetch.txt of a BagIt bag (RFC 8493): URL, length, path; the digests are in the manifest beside it."""

from __future__ import annotations

import re
from collections.abc import Callable

from stager.model.lists.listed import ParsedList, refused

MANIFEST = "manifest-sha256.txt"
_LINE = re.compile(r"(\S+)[ \t]+([0-9]+|-)[ \t]+(\S.*)")
_DIGEST = re.compile(r"([0-9A-Fa-f]{64})[ \t]+\*?(\S.*)")
_ESCAPED = {"%0A": "\n", "%0a": "\n", "%0D": "\r", "%0d": "\r", "%25": "%"}
_ESCAPE = re.compile("|".join(_ESCAPED))


def looks_like_bagit(lines: list[str]) -> bool:
    """Whether all these lines could be of a fetch.txt."""
    return bool(lines) and all(_LINE.fullmatch(line.strip()) for line in lines)


def parse_bagit(text: str, name: str, beside: Callable[[str], str | None]) -> ParsedList:
    """The files of the list.

    Args:
        text: of fetch.txt.
        name: under which errors name it.
        beside: text of the file of that name in the same directory; None: there is none.

    Raises:
        InputError: a line of it, or of the manifest, has another form.
    """
    found = ParsedList()
    manifest = beside(MANIFEST)
    if manifest is None:
        found.note(f"there is no {MANIFEST} beside {name}: digests are not checked")
    digests = _digests(manifest or "")
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        parts = _LINE.fullmatch(line.strip())
        if parts is None:
            raise refused(f"{name}:{number}", "it is not URL, LENGTH (or -), PATH")
        url, size, path = parts.groups()
        path = _plain(path)
        if manifest is not None and path not in digests:
            found.note(f"{path[:80]} is not in {MANIFEST}: its digest is not checked")
        found.add(
            f"{name}:{number}", [url], digest=digests.get(path), size=None if size == "-" else size, name=path
        )
    return found


def _digests(manifest: str) -> dict[str, str]:
    found = {}
    for number, line in enumerate(manifest.split("\n"), 1):
        if line.strip():
            parts = _DIGEST.fullmatch(line.strip())
            if parts is None:
                raise refused(f"{MANIFEST}:{number}", "it is not DIGEST, PATH")
            found[_plain(parts[2])] = parts[1]
    return found


def _plain(path: str) -> str:
    return _ESCAPE.sub(lambda found: _ESCAPED[found.group()], path)
