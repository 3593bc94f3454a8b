"""WebDAV over TLS: known by ETag or time; gone on with by a range."""

from __future__ import annotations

import ssl
from collections.abc import Generator
from http import HTTPStatus

import httpx
from webdav4.fsspec import WebdavFileSystem

from stager.model.urls import DEFAULT_PORTS, Url, parse_web_url
from stager.transfer.decisions import Identity
from stager.transfer.reach import RefusedError
from stager.transfer.remote.base import Refused, Site
from stager.transfer.remote.filesystem import FilesystemBackend, said
from stager.transfer.source import Version

PIECE_BYTES = 1 << 18
MOST_REDIRECTS = 5


class WebdavBackend(FilesystemBackend):
    """See `Backend`."""

    def __init__(self, url: Url, identity: Identity, site: Site) -> None:
        given = site.endpoint(url)
        headers = {"Accept-Encoding": "identity"}  # ranges and lengths are of the bytes as they are
        if identity.token:
            headers["Authorization"] = f"Bearer {identity.token}"
        self._transport = _Checked(url, site, parse_web_url(given) if given else None)
        super().__init__(
            WebdavFileSystem(
                (given or f"https://{url.place}").rstrip("/"),
                auth=(identity.user, identity.password) if identity.user else None,
                headers=headers,
                transport=self._transport,
                timeout=httpx.Timeout(site.read_timeout_seconds, connect=site.connect_timeout_seconds),
                max_redirects=MOST_REDIRECTS,
                trust_env=False,
                retry=False,  # the fetch has its own
                skip_instance_cache=True,  # it has no cache of listings
            )
        )

    def look(self, url: Url) -> Version:
        """See `Backend.look`."""
        try:
            return super().look(url)
        except KeyError:  # it answered for something else
            raise Refused(HTTPStatus.BAD_GATEWAY) from None

    def read(self, url: Url, version: Version, offset: int, end: int) -> Generator[bytes, None, None]:  # noqa: ARG002 - the port's
        """See `Backend.read`: one request, where blocks would be one each."""
        client = self._fs.client
        ask = client.http.build_request(
            "GET", client.join_url(self.path(url)), headers={"Range": f"bytes={offset}-{end - 1}"}
        )
        response = client.http.send(ask, stream=True, follow_redirects=True)
        try:
            said(response.raise_for_status)
            skip = 0
            if response.status_code != HTTPStatus.PARTIAL_CONTENT:
                skip = offset  # it knows no parts: what we have comes once more
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                raise Refused(HTTPStatus.BAD_GATEWAY)
            left = end - offset
            for piece in response.iter_bytes(PIECE_BYTES):
                skip, kept = max(0, skip - len(piece)), piece[skip : skip + left]
                left -= len(kept)
                if kept:
                    yield kept
                if not left:
                    return
        finally:
            response.close()

    def close(self) -> None:
        """See `Backend.close`."""
        self._fs.client.http.close()


class _Checked(httpx.BaseTransport):
    """Connects, at each redirect too, only to what may be reached, and to the very address that was checked.

    Args:
        url: what is read.
        site: says what may be reached.
        own: the address that the site itself has set for it; needs no leave.
    """

    def __init__(self, url: Url, site: Site, own: Url | None) -> None:
        self._url = url
        self._site = site
        self._own = own
        self._tls = ssl.create_default_context(cafile=site.ca_bundle) if site.ca_bundle else True
        self._hosts: dict[str, httpx.HTTPTransport] = {}
        """One each: a connection that was verified for a host is for no other one at the same address."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        asked = request.url
        host = asked.host
        port = asked.port or DEFAULT_PORTS[asked.scheme]
        transport = self._hosts.get(host)
        if transport is None:
            transport = self._hosts[host] = httpx.HTTPTransport(verify=self._tls, trust_env=False)
        if self._own is not None and (host, port) == (self._own.host.strip("[]"), self._own.port):
            return transport.handle_request(request)
        try:
            places = self._site.reach.places(host, port, DEFAULT_PORTS[self._url.scheme])
        except RefusedError as refused:
            raise refused.of(self._url) from None
        error: httpx.TransportError | None = None
        for place in places:
            pinned = httpx.Request(
                request.method,
                asked.copy_with(host=place.address[0]),
                headers=request.headers,
                stream=request.stream,
                extensions=request.extensions | {"sni_hostname": host},
            )
            try:
                return transport.handle_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as failed:
                error = failed
        raise error or httpx.ConnectError("it has no address")

    def close(self) -> None:
        for transport in self._hosts.values():
            transport.close()
