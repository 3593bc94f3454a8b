"""The headers of requests."""

from __future__ import annotations

from stager import __version__
from stager.model.entries import Entry

_BASE = {
    "User-Agent": f"stager/{__version__}",
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # ranges, lengths and digests are of the bytes as they are
    "Want-Repr-Digest": "sha-256=10",
}


def headers_to_ask(known: Entry | None) -> dict[str, str]:
    """Those of a request for the whole; if it is not what is `known` already."""
    headers = _BASE.copy()
    if known is not None:
        validators = known.validators
        if validators.etag:
            headers["If-None-Match"] = validators.etag
        elif validators.last_modified:
            headers["If-Modified-Since"] = validators.last_modified
    return headers


def headers_to_resume(offset: int, if_range: str | None, stop: int | None = None) -> dict[str, str]:
    """Those of a request for what follows `offset`, up to `stop`; for the whole, if that is not of the version `if_range`."""
    headers = _BASE | {"Range": f"bytes={offset}-{'' if stop is None else stop - 1}"}
    if if_range is not None:
        headers["If-Range"] = if_range
    return headers
