"""Google Cloud Storage: known by an object's generation."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from datetime import datetime
from typing import Any

import aiohttp
from gcsfs.core import GCSFileSystem
from google.oauth2.credentials import Credentials

from stager.model.urls import Url
from stager.transfer.decisions import Identity
from stager.transfer.remote.base import Site
from stager.transfer.remote.filesystem import NO_CACHES, FilesystemBackend

GOOGLE = "https://storage.googleapis.com"
NEVER = datetime(9999, 1, 1)  # noqa: DTZ001 - as google-auth has it: UTC without saying so
"""When a token ends is the vault's matter; older gcsfs refuse one that never does."""
CLOSE_SECONDS = 1.0
"""More is not waited for: whoever has no connection any more has nothing to end."""


class _Once(GCSFileSystem):  # type: ignore[misc]  # without types
    """Asks once: gcsfs would try for half a minute where the fetch has its own tries.

    Args:
        ca_bundle: file with the certificates to trust; empty: the usual ones.
        more: as of a `GCSFileSystem`.
    """

    def __init__(self, *, ca_bundle: str, **more: Any) -> None:
        self._ca_bundle = ca_bundle
        super().__init__(**more)

    async def _set_session(self) -> Any:
        if self._session is None and self._ca_bundle:  # made here: a connector belongs to its event loop
            tls = ssl.create_default_context(cafile=self._ca_bundle)
            self.session_kwargs = {"connector": aiohttp.TCPConnector(ssl=tls)}
        return await super()._set_session()

    async def _request(self, *args: Any, **more: Any) -> Any:
        return await GCSFileSystem._request.__wrapped__(self, *args, **more)  # noqa: SLF001 - has no other switch


class GsBackend(FilesystemBackend):
    """See `Backend`."""

    def __init__(self, url: Url, identity: Identity, site: Site) -> None:
        # Without a credential it asks as anybody, and never as this machine.
        who: object = "anon"
        if identity.token:  # as an object: a text that names a file of this machine would be read
            who = Credentials(token=identity.token, expiry=NEVER)  # type: ignore[no-untyped-call]
        super().__init__(
            _Once(
                ca_bundle=site.ca_bundle,
                token=who,
                access="read_only",
                endpoint_url=site.endpoint(url) or GOOGLE,  # else what the environment names
                requests_timeout=site.read_timeout_seconds,
                **NO_CACHES,
            )
        )

    def close(self) -> None:
        """See `Backend.close`."""
        session = self._fs.session
        if session is not None:
            with suppress(OSError):  # it is gone already, or says nothing
                asyncio.run_coroutine_threadsafe(session.close(), self._fs.loop).result(CLOSE_SECONDS)
