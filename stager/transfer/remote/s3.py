"""S3: known by ETag (and versionId, where the URL names one); each range asks for that very ETag."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from fsspec.asyn import sync
from s3fs import S3FileSystem

from stager.model.urls import Url
from stager.transfer.decisions import Identity
from stager.transfer.remote.base import Refused, Site
from stager.transfer.source import Version

PIECE_BYTES = 1 << 20


class S3Backend:
    """See `Backend`."""

    pins = True

    def __init__(self, url: Url, identity: Identity, site: Site) -> None:
        self._fs = S3FileSystem(
            anon=not identity.user,
            key=identity.user or None,
            secret=identity.password or None,
            token=identity.token or None,
            endpoint_url=site.endpoint(url),
            client_kwargs={"verify": site.ca_bundle or True},
            config_kwargs={
                "connect_timeout": site.connect_timeout_seconds,
                "read_timeout": site.read_timeout_seconds,
                "retries": {"total_max_attempts": 1},  # the fetch has its own
                "proxies": {},  # none of the environment's
                "ignore_configured_endpoint_urls": True,
            },
            skip_instance_cache=True,
            use_listings_cache=False,
        )
        self._fs.retries = 1

    def look(self, url: Url) -> Version:
        """See `Backend.look`."""
        found = self._call("head_object", url)
        modified = found.get("LastModified")
        return Version(
            found["ContentLength"],
            found.get("ETag", "").strip('"'),
            modified.timestamp() if modified else None,
            found.get("ContentType") or "",
        )

    def read(self, url: Url, version: Version, offset: int, end: int) -> Generator[bytes, None, None]:
        """See `Backend.read`."""
        more = {"IfMatch": f'"{version.tag}"'} if version.tag else {}
        body = self._call("get_object", url, Range=f"bytes={offset}-{end - 1}", **more)["Body"]
        try:
            while piece := sync(self._fs.loop, body.read, PIECE_BYTES):
                yield piece
        finally:
            self._fs.loop.call_soon_threadsafe(body.close)

    def abort(self) -> None:
        """See `Backend.abort`: its own timeouts hold."""

    def close(self) -> None:
        """See `Backend.close`."""
        self._fs.close_session(self._fs.loop, self._fs._s3creator)  # noqa: SLF001 - as its finalizer does

    def _call(self, operation: str, url: Url, **more: str) -> dict[str, Any]:
        if url.query:
            more["VersionId"] = url.query.partition("=")[2]
        try:
            found: dict[str, Any] = self._fs.call_s3(operation, Bucket=url.host, Key=url.path[1:], **more)
        except Exception as error:
            answer = getattr(error.__cause__ or error, "response", None)
            if isinstance(answer, dict) and "ResponseMetadata" in answer:
                raise Refused(int(answer["ResponseMetadata"].get("HTTPStatusCode", 502))) from None
            raise
        return found
