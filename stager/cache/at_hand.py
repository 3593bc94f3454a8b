"""What the cache has for a request: by its URL, or else by the digest that it names.

Bytes that are named by their digest are the same wherever they came from: another URL, an import, a result. This
is the one place where they are found so, and so the one that decides who may have them: objects that everybody may
read, never restricted ones, for which a digest is no grant.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from stager.cache.failures import cache_error
from stager.cache.objects import find_object
from stager.cache.store import FileCache
from stager.errors import ObjectLostError
from stager.model.entries import Entry
from stager.model.fetches import FetchRequest


def at_hand(cache: FileCache, request: FetchRequest, *, now: Callable[[], float] = time.time) -> Entry | None:
    """The entry of the request's key, or one of the object that the request names by its digest.

    A key that has no entry gets that one, as of now, so that whoever asks for the URL alone asks its origin; a key
    with another object keeps it.

    Raises:
        CacheError: the file system failed, or the cache has gone.
    """
    entry = cache.lookup(request.key)
    if request.sha256 is None or (entry is not None and entry.answers(request.sha256, request.size)):
        return entry
    found = _public_object(cache, request.sha256)
    if found is None or request.size not in {None, found}:
        return entry
    at = now()
    named = Entry(
        request.key, request.sha256, found, at, fresh_until=at, url=request.url, owner=request.owner
    )
    if entry is None:
        with suppress(ObjectLostError):  # it goes at this moment
            cache.record(named)
            return named
        return None
    return named


def _public_object(cache: FileCache, sha256: str) -> int | None:
    """The bytes of that object, if everybody may have it; None: it is not there, or not for everybody."""
    try:
        found = find_object(cache.tree, sha256)
    except OSError as error:
        raise cache_error(error, cache.tree.object(sha256), "find") from error
    return None if found is None else found[1].st_size
