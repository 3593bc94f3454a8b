"""Whatever else fsspec has a file system for: by what that says of a file, in blocks, as the site itself.

Its library is not known here. Where it connects to beyond the host of the URL, which credentials of the machine it
finds, what it keeps between two users: nobody has looked. So such a scheme is read only where the site has named it, and
with no user's credential; what comes is for everybody.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator
from typing import Any

from fsspec import get_filesystem_class

from stager.errors import SchemeError
from stager.model.urls import DEFAULT_PORTS, Url
from stager.transfer.decisions import Identity
from stager.transfer.remote.base import Site, at_one_place, in_blocks
from stager.transfer.remote.filesystem import FilesystemBackend, said
from stager.transfer.source import Version


class GenericBackend(FilesystemBackend):
    """See `Backend`."""

    def __init__(self, url: Url, identity: Identity, site: Site) -> None:  # noqa: ARG002 - nobody's is shown
        try:
            kind = get_filesystem_class(url.scheme)
        except (ImportError, ValueError) as error:
            raise SchemeError(
                f"{url.redacted} can't be fetched",
                cause=f"fsspec has nothing that reads it: {error}",
                remedy="install the package that it names where fetches run",
                url=url.redacted,
            ) from None
        given = {**_patience(kind, site), **site.generic[url.scheme], "skip_instance_cache": True}
        if url.scheme in DEFAULT_PORTS and "host" not in given:
            fs = at_one_place(url, site, lambda address: kind(address, port=url.port, **given))
        else:
            fs = kind(**given)
        fs.dircache.use_listings_cache = (
            False  # not every constructor takes it: some pass on what they do not know
        )
        super().__init__(fs)

    def read(self, url: Url, version: Version, offset: int, end: int) -> Generator[bytes, None, None]:  # noqa: ARG002 - the port's
        """See `Backend.read`: by a file that is open, for not every file system gives a part of one otherwise."""
        with said(lambda: self._fs.open(self.path(url), "rb")) as file:

            def block(first: int, length: int) -> bytes:
                if file.tell() != first:
                    file.seek(first)
                return bytes(file.read(length))

            yield from in_blocks(block, offset, end)


def _patience(kind: Any, site: Site) -> dict[str, float]:
    """What its constructor calls the longest wait, if it has a word for it."""
    known = inspect.signature(kind.__init__).parameters
    return {"timeout": site.read_timeout_seconds} if "timeout" in known else {}
