"""Programs that may read the cache but not write to it: what they use is reported to the server."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable
from pathlib import Path

from stager.cache.access import Accesses
from stager.cache.store import FileCache
from stager.service.cache_accesses import AccessReporter
from stager.settings import Settings


def report_accesses(settings: Settings, cache: FileCache) -> None:
    """From now on what this process may not write down is reported to the configured server, as far as it answers."""
    reporter = AccessReporter(_sender(settings))
    cache.access.refused = reporter
    known = weakref.ref(cache)

    def finish() -> None:
        there = known()
        reporter.finish(there.close if there is not None else lambda: None)

    atexit.register(finish)  # before the cache's own end, which would be too late to send anything


def _sender(settings: Settings) -> Callable[[Accesses], object]:
    def send(accesses: Accesses) -> object:
        from stager.client import Client

        token = os.environ.get("STAGER_TOKEN") or _token_file(settings).read_text("ascii").strip()
        with Client(settings.server, token, ca_bundle=settings.server_ca_bundle) as client:
            return client.cache.report_accesses(accesses)

    return send


def _token_file(settings: Settings) -> Path:
    return Path(settings.token_file).expanduser() if settings.token_file else settings.state_dir / "token"
