"""What is of WebDAV alone: where its requests go, and what its servers may leave out."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from stager.errors import AddressRefusedError
from stager.model.urls import parse_url
from stager.transfer.decisions import Identity
from stager.transfer.reach import Place, Reach
from stager.transfer.remote.base import Refused, Site
from stager.transfer.remote.webdav import WebdavBackend
from stager.transfer.source import Version
from tests.support.reach import THIS_MACHINE

BODY = bytes(range(200))
VERSION = Version(len(BODY), "")
TLS = Path(__file__).parents[1] / "support" / "tls"
NOBODY = Identity()


class Origin(ThreadingHTTPServer):
    """Answers a GET with all of `BODY`, knowing no ranges, or by the path: ``/PORT`` leads to this port there."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.shown: list[str | None] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Answer(BaseHTTPRequestHandler):
    server: Origin

    def do_GET(self) -> None:
        self.server.shown.append(self.headers["Authorization"])
        kind = self.path.rpartition("/")[2]
        if kind.startswith("to-"):
            self.send_response(302)
            self.send_header("Location", f"http://{kind[3:]}/all")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif kind == "other":
            self.send_response(206)
            self.send_header("Content-Range", f"bytes 0-9/{len(BODY)}")
            self.send_header("Content-Length", "10")
            self.end_headers()
            self.wfile.write(BODY[:10])
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(origin: Origin) -> Iterator[Origin]:
    thread = threading.Thread(target=origin.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield origin
    finally:
        origin.shutdown()
        thread.join()
        origin.server_close()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with served(Origin()) as running:
        yield running


def at(origin: Origin, reach: Reach | None = None) -> Site:
    return Site(endpoints={"webdav://dav.test": f"http://127.0.0.1:{origin.port}/"}, reach=reach or Reach())


def read(site: Site, name: str, offset: int = 0, end: int = len(BODY), who: Identity = NOBODY) -> bytes:
    url = parse_url(f"webdav://dav.test/{name}")
    with closing(WebdavBackend(url, who, site)) as backend:
        return b"".join(backend.read(url, VERSION, offset, end))


@pytest.mark.parametrize(("offset", "end"), [(0, 200), (150, 200), (3, 10)])
def test_a_server_that_knows_no_ranges_sends_what_we_have_once_more(
    origin: Origin, offset: int, end: int
) -> None:
    assert read(at(origin), "all", offset, end) == BODY[offset:end]


def test_another_range_than_was_asked_for_is_not_taken(origin: Origin) -> None:
    with pytest.raises(Refused) as caught:
        read(at(origin), "other", 20, 30)
    assert caught.value.status == 502


def test_a_redirect_leads_only_to_what_may_be_reached(origin: Origin) -> None:
    with served(Origin()) as other:
        with pytest.raises(AddressRefusedError):
            read(at(origin), f"to-127.0.0.1:{other.port}")
        assert other.shown == []
        allowed = at(origin, Reach(THIS_MACHINE))
        assert read(allowed, f"to-127.0.0.1:{other.port}") == BODY


@pytest.mark.parametrize(
    "who", [Identity("ada", "lovelace"), Identity(token="secret")], ids=["basic", "bearer"]
)
def test_a_credential_stays_with_its_host(origin: Origin, who: Identity) -> None:
    with served(Origin()) as other:
        assert read(at(origin, Reach(THIS_MACHINE)), f"to-127.0.0.1:{other.port}", who=who) == BODY
        assert origin.shown[0]
        assert other.shown == [None]


def _names(name: str) -> Callable[[str, int], list[Place]]:
    def resolve(host: str, port: int) -> list[Place]:
        assert host == name
        return [Place(2, ("127.0.0.1", port))]

    return resolve


@pytest.mark.parametrize("name", ["localhost", "another.test"])
def test_a_certificate_is_of_the_name_though_the_address_is_connected_to(origin: Origin, name: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    origin.socket = context.wrap_socket(origin.socket, server_side=True)
    url = parse_url(f"webdav://{name}:{origin.port}/all")
    site = Site(ca_bundle=str(TLS / "ca.pem"), reach=Reach(THIS_MACHINE, _names(name)))
    with closing(WebdavBackend(url, NOBODY, site)) as backend:
        if name == "localhost":
            assert b"".join(backend.read(url, VERSION, 0, len(BODY))) == BODY
        else:
            with pytest.raises(httpx.ConnectError, match=r"(?i)certificate verify failed"):
                list(backend.read(url, VERSION, 0, len(BODY)))
