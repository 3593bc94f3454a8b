"""Any file system of fsspec: known by what it says of a file, read in blocks, with none of fsspec's caches.

`FilesystemBackend` is what a scheme's own module builds on; what it adds is how to connect, and how to read if there
is a better way than blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Any, TypeVar

from stager.errors import OriginRefusedError, ProtocolError
from stager.model.urls import DEFAULT_PORTS, Url
from stager.transfer.remote.base import Refused, in_blocks
from stager.transfer.source import Version, timed_version

NO_CACHES = {"skip_instance_cache": True, "use_listings_cache": False}
"""For each constructor: an instance knows who asked, and a listing is older than the file."""
TAGS = {
    "generation": ("generation",),
    "version": ("version_id", "versionId", "VersionId"),
    "etag": ("etag", "ETag"),
    "md5": ("md5Hash", "content_md5", "Content-MD5"),
    "checksum": ("checksum", "crc32c", "sha256", "content_hash", "sha", "blob_id"),
}
"""What tells versions of a file apart, the strongest first, and the names that file systems have for it."""
TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")
_STATUS = range(400, 600)
_Said = TypeVar("_Said")


class FilesystemBackend:
    """See `Backend`.

    Args:
        fs: made for the one who asks, by a constructor that was given `NO_CACHES`.
    """

    pins = False

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def path(self, url: Url) -> str:
        """What the file system calls the file: with the bucket, if the URL's host is one."""
        return url.path if url.scheme in DEFAULT_PORTS else f"{url.host}{url.path}"

    def look(self, url: Url) -> Version:
        """See `Backend.look`."""
        return version_of(said(lambda: self._fs.info(self.path(url))), url, time.time())

    def read(self, url: Url, version: Version, offset: int, end: int) -> Generator[bytes, None, None]:  # noqa: ARG002 - the port's
        """See `Backend.read`."""
        path = self.path(url)

        def block(first: int, length: int) -> bytes:
            found = said(lambda: self._fs.cat_file(path, start=first, end=first + length))
            if len(found) > length:
                raise ProtocolError(
                    f"{url.redacted} can't be fetched",
                    cause="the origin gave more than it was asked for: it knows no parts of a file",
                    remedy="get it in another way",
                    url=url.redacted,
                )
            return bytes(found)

        return in_blocks(block, offset, end)

    def abort(self) -> None:
        """See `Backend.abort`: the timeouts hold."""

    def close(self) -> None:
        """See `Backend.close`: the connections are ended with the file system."""


def version_of(info: Mapping[str, Any], url: Url, now: float) -> Version:
    """The version in what a file system says of a file.

    Without any of `TAGS` it is known by its time; without that by its size alone, so that nothing goes on with it.

    Raises:
        OriginRefusedError, ProtocolError: it is no file, or has no size.
    """
    what = f"{url.redacted} can't be fetched"
    if info.get("type", "file") != "file":
        raise OriginRefusedError(
            what,
            cause="it is not a regular file",
            remedy="name one; of a directory, name its files",
            url=url.redacted,
        )
    size = info.get("size")
    if size is None:
        raise ProtocolError(
            what,
            cause="the origin does not say how long the file is",
            remedy="get it in another way",
            url=url.redacted,
        )
    modified = next((when for name in TIMES if (when := _seconds(info.get(name))) is not None), None)
    version = timed_version(int(size), modified, now)
    kind = str(info.get("contentType") or info.get("content_type") or info.get("ContentType") or "")
    return version._replace(tag=_tag(info, int(size)) or version.tag, content_type=kind)


def _tag(info: Mapping[str, Any], size: int) -> str:
    for kind, names in TAGS.items():
        for name in names:
            value = info.get(name)
            if value and not (
                isinstance(value, str) and value.startswith("W/")
            ):  # weak: other bytes may have it
                text = value.hex() if isinstance(value, bytes | bytearray) else str(value)
                return f"{kind}-{size}-{sha256(text.strip(chr(34)).encode()).hexdigest()[:32]}"
    return ""


def _seconds(when: object) -> float | None:
    """Seconds since 1970 UTC of a time in any of the forms that file systems have; None: it is none."""
    if isinstance(when, str):
        when = _read_time(when)
    if isinstance(when, datetime):
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return float(when) if isinstance(when, int | float) else None


def _read_time(text: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        with suppress(ValueError):
            return read(text)
    return None


def said(call: Callable[[], _Said]) -> _Said:
    """What `call` returns; an answer that says no is raised as `Refused`.

    All else that it raises is the network's fault, or the server's: it may pass.
    """
    try:
        return call()
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(404) from None
    except PermissionError:
        raise Refused(403) from None
    except Exception as error:
        status = _status(error)
        if status is None:
            raise
        raise Refused(status) from None


def _status(error: Exception) -> int | None:
    """What HTTP's word for it is, where a client's exception has it."""
    if isinstance(error, OSError) and str(error).startswith("Forbidden"):  # as gcsfs words it
        return 403
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            with suppress(TypeError, ValueError):
                status = int(getattr(holder, name, None) or 0)
                if status in _STATUS:
                    return status
    return None
