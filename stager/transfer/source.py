"""A file that is read in another way than HTTP, answered for as an HTTP server would answer for it.

What decides (`plan`) knows HTTP; so a transport of another scheme tells it of sizes and versions in HTTP's words.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from typing import NamedTuple

from stager.errors import OriginChangedError
from stager.model.urls import Url

GRAIN_SECONDS = 2.0
"""Two changes within so long may have the same time; on some servers times are whole seconds, on FAT even ones."""


class Version(NamedTuple):
    """Which bytes a source has.

    Attributes:
        size: bytes.
        tag: differs where the bytes do; of letters, digits, ``-``, ``.`` and ``_``; empty: nothing does.
        modified: seconds since 1970 UTC, None where nobody says.
        content_type: as the source says, or empty.
    """

    size: int
    tag: str
    modified: float | None = None
    content_type: str = ""


class Reply(NamedTuple):
    """How a request is answered: status and headers, and which bytes of the source are the body."""

    status: int
    headers: dict[str, str]
    first: int
    end: int


def timed_version(size: int, modified: float | None, now: float, *more: object) -> Version:
    """The version of a file that is known by its size and time, and what else there is.

    One that was changed just now has no tag: it may be changed again without a change of its time.
    """
    if modified is None or now - modified < GRAIN_SECONDS:
        return Version(size, "", modified)
    return Version(size, "-".join(str(part) for part in (*more, size, f"{modified:.9f}")), modified)


def reply(version: Version, asked: Mapping[str, str], *, fresh: str = "") -> Reply:
    """The answer to a GET with the headers that a plan sends.

    Args:
        version: of the source.
        asked: headers of the request.
        fresh: Cache-Control, if the scheme has a reason for one.
    """
    size, tag = version.size, f'"{version.tag}"' if version.tag else ""
    headers = {"accept-ranges": "bytes" if tag else "none"}
    if tag:
        headers["etag"] = tag
    if version.modified is not None and version.modified >= 0:
        headers["last-modified"] = formatdate(version.modified, usegmt=True)
    if version.content_type:
        headers["content-type"] = version.content_type
    if fresh:
        headers["cache-control"] = fresh
    if tag and asked.get("If-None-Match") == tag:
        return Reply(304, headers, 0, 0)
    first, stop = 0, size
    if "Range" in asked and asked.get("If-Range", tag) == tag:  # without one, a digest is the proof
        begin, _, last = asked["Range"].removeprefix("bytes=").partition("-")
        first, stop = int(begin), min(size, int(last) + 1) if last else size
        if first >= stop:
            return Reply(416, headers | {"content-range": f"bytes */{size}"}, 0, 0)
        headers["content-range"] = f"bytes {first}-{stop - 1}/{size}"
    headers["content-length"] = str(stop - first)
    return Reply(206 if "content-range" in headers else 200, headers, first, stop)


def changed(url: Url) -> OriginChangedError:
    """The transient error of a file that is not what it was when it was opened."""
    return OriginChangedError(
        f"{url.redacted} can't be fetched",
        cause="it changed while it was read",
        remedy="try again when nobody writes to it",
        url=url.redacted,
    )
