"""What is needed of a backend: the port, and what all of them share."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from stager.model.urls import DEFAULT_PORTS, Url
from stager.transfer.decisions import Identity
from stager.transfer.reach import Reach, RefusedError
from stager.transfer.source import Version

FIRST_BLOCK_BYTES = 1 << 18
LONGEST_BLOCK_BYTES = 4 << 20
"""Most that is asked for at once; two of them may be in memory."""
BLOCK_SECONDS = 0.5
"""What a block may take; smaller ones show sooner whether anything comes."""

Pieces = Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Site:
    """What the site has decided about other schemes.

    Attributes:
        connect_timeout_seconds: longest wait for a connection and a login.
        read_timeout_seconds: longest silence within one operation.
        known_hosts: files with the keys of SSH servers.
        endpoints: addresses of object stores, by scheme or by origin (``s3://bucket``), the latter first.
        ca_bundle: certificates to trust; empty: the usual ones.
        schemes: those of `ON_DEMAND` that are read.
        generic: those of `GENERIC` that are read, and what the constructor of each one's file system is given.
        reach: which hosts may be connected to; not asked for `endpoints`, which the site itself has set.
    """

    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 60.0
    known_hosts: tuple[Path, ...] = ()
    endpoints: Mapping[str, str] = field(default_factory=dict)
    ca_bundle: str = ""
    schemes: tuple[str, ...] = ()
    generic: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reach: Reach = field(default_factory=Reach)

    def endpoint(self, url: Url) -> str | None:
        """Where the bucket of `url` is; None: where its scheme's usually are."""
        return self.endpoints.get(url.origin) or self.endpoints.get(url.scheme)


class Refused(Exception):  # noqa: N818 - an answer rather than a fault
    """The origin said no, in its own words; `status` is what HTTP would call it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Backend(Protocol):
    """A connection to one origin, for one who asks; used by one thread at a time.

    `look` and `read` wait. They raise `Refused`, a `FetchError`, or anything else when the connection is at fault.
    `abort` and `close` raise nothing, also when it is gone.
    """

    pins: bool
    """Whether `read` can only bring bytes of the version that it is given."""

    def look(self, url: Url) -> Version:
        """Size and version of the file."""
        ...

    def read(self, url: Url, version: Version, offset: int, end: int) -> Generator[bytes, None, None]:
        """The file's bytes from `offset` to `end`, in pieces as they come; closing it ends the transfer."""
        ...

    def abort(self) -> None:
        """Make the operation under way in another thread fail soon, where that is possible."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


Connect = Callable[[Url, Identity, Site], Backend]
"""Connects and logs in; raises as the methods of a `Backend` do."""


_Made = TypeVar("_Made")


def at_one_place(url: Url, site: Site, make: Callable[[str], _Made]) -> _Made:
    """What `make` makes of an address of the host, the first that can be connected to.

    Raises:
        AddressRefusedError: it may not be connected to.
    """
    error: BaseException = OSError(f"host name {url.host} can't be resolved")
    try:
        places = site.reach.places(url.host, url.port, DEFAULT_PORTS[url.scheme])
    except RefusedError as refused:
        raise refused.of(url) from None
    except OSError:
        raise error from None
    for place in places:
        try:
            return make(place.address[0])
        except PermissionError:
            raise  # that is an answer, and the others would give the same
        except OSError as failed:
            error = failed
    raise error


def in_blocks(read: Callable[[int, int], bytes], offset: int, end: int) -> Generator[bytes, None, None]:
    """The bytes from `offset` to `end` by calls of `read` (offset, length): larger ones where that is quick."""
    length = FIRST_BLOCK_BYTES
    while offset < end:
        began = time.monotonic()
        block = read(offset, min(length, end - offset))
        if not block:
            return
        yield block
        offset += len(block)
        seconds = time.monotonic() - began
        length = min(length * 2, LONGEST_BLOCK_BYTES) if seconds < BLOCK_SECONDS else FIRST_BLOCK_BYTES
