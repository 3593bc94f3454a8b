"""The cache that a server has used before is not made anew where it has vanished: a file system is not mounted."""

from __future__ import annotations

import json
import logging

from stager.cache.layout import LAYOUT_FILE
from stager.cache.store import FileCache
from stager.errors import CacheGoneError
from stager.settings import Settings
from stager.wiring import build_cache

log = logging.getLogger(__name__)

KNOWN = "cache.json"
"""In the state directory: root and id of the cache that the server had last."""


def open_known_cache(settings: Settings) -> FileCache:
    """The server's cache, unless it has vanished since the server was here last: then no new one is made there.

    Raises:
        CacheGoneError: its directory is empty, or not there.
        CacheError: it can't be used.
    """
    known = check_known_cache(settings)
    root = str(settings.cache_dir)
    cache = build_cache(settings)
    if known.get("root") == root and known.get("id") not in {None, cache.tree.id}:
        log.warning("%s is another cache than before: what jobs wait for is fetched into it anew", root)
    file = settings.state_dir / KNOWN
    file.write_text(json.dumps({"root": root, "id": cache.tree.id}) + "\n")
    return cache


def check_known_cache(settings: Settings) -> dict[str, str]:
    """Make sure that the server's cache has not vanished; what is known of the cache that it had last.

    Raises:
        CacheGoneError: its directory is empty, or not there.
    """
    file = settings.state_dir / KNOWN
    known = _read(settings)
    root = str(settings.cache_dir)
    if known.get("root") == root and known.get("id") and not (settings.cache_dir / LAYOUT_FILE).exists():
        raise CacheGoneError(
            f"the cache {root} is gone",
            cause="this server has used it before, and there is none now: is the file system mounted?",
            remedy=f"mount it; if it was deleted on purpose, delete {file} too",
            path=root,
        )
    return known


def _read(settings: Settings) -> dict[str, str]:
    try:
        found = json.loads((settings.state_dir / KNOWN).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
