"""Stager: the inputs of jobs, fetched once, verified, and there before the job starts.

A job server has jobs; each needs files that live behind URLs. Stager fetches each URL once onto
shared storage, verifies it, keeps it, and hands a job over the moment its last precondition holds.

A request's way through the packages, top to bottom; each imports only those below it:

    cli | server      a command, or a call of the HTTP API
    client            the calls of that API, over HTTP: `Client`, `AsyncClient`
    service           the use case: fetch these files, run this job
    mapper            a pure machine: what happened → what is to be done now; admission; dispatch
    farm              where fetches run: threads of this process, other processes
    transfer          one try of one fetch: a pure plan decides, a thin driver reads and writes
    cache             the tree on the share: private temporary → verified, immutable object → entry
    state             the truth about jobs and fetches, in one SQL database on a local disk
    signals           completion: told, never polled
    model             values and rules: URLs, keys, entries, fetches, jobs, retries; no I/O
    errors, settings, clock, steps

What holds it together:

- An object is named by its SHA-256 and never changes; an entry maps a key (for a fetched file, its
  canonical URL) to an object. What changes at the origin becomes a new object.
- Correctness rests on no lock: two transfers of one file cost bandwidth, never bytes.
- The order of writing is object, entry, database, signal; after a kill at any point the next start
  finds nothing or a complete step.
- An error is transient or permanent where it arises, names the thing, the cause and the way out.

From Python:

    from stager import FetchService, urlcache

    with FetchService() as service:
        handle = service.prefetch("https://example.org/run.nxs")
        print(handle.result().path)     # or: await handle
    urlcache.get("https://example.org/run.nxs")     # a Path, or None
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stager.cache.store import FileCache
    from stager.client import AsyncClient, Client, open_remote
    from stager.errors import StagerError
    from stager.model.fetches import FetchRequest, FetchResult
    from stager.service.fetching import FetchHandle, FetchService
    from stager.settings import config
    from stager.wiring import default_fetcher as default_fetcher

    urlcache: FileCache
    """The file cache at the configured path (setting `cache_dir`), made at its first use."""

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Client",
    "FetchHandle",
    "FetchRequest",
    "FetchResult",
    "FetchService",
    "FileCache",
    "StagerError",
    "__version__",
    "config",
    "open_remote",
    "urlcache",
]

_HOMES = {
    "AsyncClient": "stager.client",
    "Client": "stager.client",
    "open_remote": "stager.client",
    "FileCache": "stager.cache.store",
    "StagerError": "stager.errors",
    "FetchRequest": "stager.model.fetches",
    "FetchResult": "stager.model.fetches",
    "FetchHandle": "stager.service.fetching",
    "FetchService": "stager.service.fetching",
    "config": "stager.settings",
    "default_fetcher": "stager.wiring",
}
"""Where the public names live; each module is imported at the first use of its name."""


def __getattr__(name: str) -> Any:
    if name == "urlcache":
        value = import_module("stager.wiring").default_cache()
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'stager' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
