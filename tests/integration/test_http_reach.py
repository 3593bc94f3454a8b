"""HTTP points 78 to 81, and what an origin may cost: where a fetch connects to, on both drivers."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_network
from random import Random
from typing import Any

import pytest

from stager.cache.store import FileCache
from stager.errors import AddressRefusedError, ConnectionFailedError, TlsError
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult
from stager.transfer.addresses import AddressPolicy, OriginRule
from stager.transfer.reach import Place, Reach
from tests.support.drivers import Driver
from tests.support.origin import CA_BUNDLE, Exchange, Origin, content, redirect
from tests.support.reach import THIS_MACHINE

DATA = Random(5).randbytes(50_000)
NAMES = "portal.example"
ONE, TWO = "127.0.0.1", "127.0.0.2"
ONLY_TWO = AddressPolicy([ip_network(TWO)])
"""127.0.0.2 stands for an address outside, 127.0.0.1 for one inside: no test leaves this machine."""

_numbers = itertools.count(1)


class Names:
    """A resolver that says what the test says: each answer once, and the last one for ever."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[Place]:
        self.asked.append(host)
        left = self._answers.get(host)
        if left is None:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            return [Place(family, address) for family, _, _, _, address in found]
        addresses = left.pop(0) if len(left) > 1 else left[0]
        kinds = (socket.AF_INET6 if ":" in one else socket.AF_INET for one in addresses)
        return [Place(kind, (one, port)) for kind, one in zip(kinds, addresses, strict=True)]


Fetch = Callable[..., FetchResult]


@pytest.fixture
def reaching(cache: FileCache, driver: Driver) -> Iterator[Callable[..., Fetch]]:
    """Makes what fetches under a policy and a resolver."""
    with ExitStack() as made:

        def make(*given: Any, **wanted: Any) -> Fetch:
            fetcher = driver(cache, reach=Reach(*given), connect_timeout_seconds=5, **wanted)
            made.callback(fetcher.close)

            def fetch(url: str, *, refresh: bool = False) -> FetchResult:
                request = FetchRequest(url, refresh=refresh)
                return fetcher.fetch(FetchOrder(f"f{next(_numbers)}", 1, request))

            return fetch

        yield make


ODD_FORMS = [
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "127.1",
    "127.0.0.1.",
    "localhost",
    "127.0.0.1",
]


@pytest.mark.parametrize(
    "host", [*ODD_FORMS, "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "0.0.0.0", "[::]"]
)
def test_points_78_and_79_this_machine_is_not_reached_however_it_is_written(
    reaching: Callable[..., Fetch], origin: Origin, cache: FileCache, host: str
) -> None:
    origin.serve("/a", content(DATA))
    with pytest.raises(AddressRefusedError, match="is not allowed here") as caught:
        reaching()(f"http://{host}:{origin.port}/a")
    assert not caught.value.transient
    assert caught.value.details["port"] == origin.port
    assert caught.value.remedy.endswith((' "127.0.0.0/8"', f' {origin.port}"'))
    assert origin.connections == 0
    assert [path for path in cache.root.rglob("*") if path.is_file() and "partial" in path.parts] == []


@pytest.mark.parametrize("host", ODD_FORMS)
def test_this_machine_is_reached_however_it_is_written_once_it_is_allowed(
    reaching: Callable[..., Fetch], origin: Origin, host: str
) -> None:
    origin.serve("/a", content(DATA))
    assert reaching(THIS_MACHINE)(f"http://{host}:{origin.port}/a").path.read_bytes() == DATA


def test_point_78_a_name_whose_second_answer_is_another_address_does_not_lead_there(
    reaching: Callable[..., Fetch],
) -> None:
    def once(exchange: Exchange) -> None:
        content(DATA)(exchange)
        exchange.close()

    with Origin(host=TWO) as outside, Origin(port=outside.port) as inside:
        outside.serve("/a", content(DATA))
        outside.serve("/b", once)
        names = Names(portal_example=[[TWO], [ONE]])
        fetch = reaching(ONLY_TWO, names)
        url = f"http://{NAMES}:{outside.port}"
        for _ in range(5):
            fetch(f"{url}/a", refresh=True)
        assert names.asked == [NAMES]  # the connection was kept: nobody was asked again
        fetch(f"{url}/b")
        assert names.asked == [NAMES]
        with pytest.raises(AddressRefusedError, match=f"{NAMES} is at {ONE}; this machine"):
            fetch(f"{url}/a", refresh=True)
        assert names.asked == [NAMES, NAMES]
        assert (outside.connections, inside.connections) == (1, 0)


@pytest.mark.parametrize("answer", [[TWO, ONE], [ONE, TWO], [TWO, "::ffff:127.0.0.2"]])
def test_point_78_a_host_with_one_address_that_is_refused_is_refused(
    reaching: Callable[..., Fetch], answer: list[str]
) -> None:
    with Origin(host=TWO) as outside, Origin(port=outside.port) as inside:
        outside.serve("/a", content(DATA))
        with pytest.raises(AddressRefusedError):
            reaching(ONLY_TWO, Names(portal_example=[answer]))(f"http://{NAMES}:{outside.port}/a")
        assert outside.connections == inside.connections == 0


def test_point_78_the_next_of_several_addresses_is_tried_when_one_does_not_answer(
    reaching: Callable[..., Fetch],
) -> None:
    with Origin(host=TWO) as origin:
        origin.serve("/a", content(DATA))
        fetch = reaching(THIS_MACHINE, Names(portal_example=[["127.0.0.3", TWO]]))
        assert fetch(f"http://{NAMES}:{origin.port}/a").path.read_bytes() == DATA


def test_point_78_each_redirect_is_resolved_and_checked(
    reaching: Callable[..., Fetch], origin: Origin
) -> None:
    with Origin(host=TWO) as outside:
        outside.serve("/a", redirect(f"http://files.example:{outside.port}/b"))
        outside.serve("/b", redirect(f"http://inner.example:{origin.port}/c"))
        origin.serve("/c", content(DATA))
        names = Names(portal_example=[[TWO]], files_example=[[TWO]], inner_example=[[ONE]])
        url = f"http://{NAMES}:{outside.port}/a"
        with pytest.raises(AddressRefusedError, match=f"inner.example is at {ONE}") as caught:
            reaching(ONLY_TWO, names)(url)
        assert names.asked == [NAMES, "files.example", "inner.example"]
        assert origin.connections == 0
        assert caught.value.what.startswith(f"{url} can't be fetched: it leads to http://inner.example:")
        assert caught.value.details["url"] == url


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/",
        "http://keys.example/latest/",
    ],
)
def test_point_81_a_redirect_to_a_clouds_keys_is_refused_even_when_the_first_host_is_allowed(
    reaching: Callable[..., Fetch], origin: Origin, target: str
) -> None:
    url = origin.serve("/a", redirect(target))
    fetch = reaching(THIS_MACHINE, Names(keys_example=[["169.254.169.254"]]))
    with pytest.raises(AddressRefusedError, match=r"hands? out keys is not allowed here") as caught:
        fetch(url)
    assert caught.value.details["url"] == url
    assert caught.value.details["address"] in {"169.254.169.254", "fd00:ec2::254"}


def test_point_79_a_rule_opens_one_host_in_one_network_on_one_port(
    reaching: Callable[..., Fetch], origin: Origin
) -> None:
    origin.serve("/a", content(DATA))
    policy = AddressPolicy(origins=[OriginRule.parse(f"*.example 127.0.0.0/30 {origin.port}")])
    fetch = reaching(policy, Names(portal_example=[[ONE]], portal_other=[[ONE]]))
    assert fetch(f"http://{NAMES}:{origin.port}/a").path.read_bytes() == DATA
    for url in (f"http://portal.other:{origin.port}/a", f"http://127.0.0.1:{origin.port}/a"):
        with pytest.raises(AddressRefusedError):
            fetch(url)
    with Origin() as another, pytest.raises(AddressRefusedError):
        fetch(f"http://{NAMES}:{another.port}/a")


def test_point_80_a_port_that_is_not_listed_is_not_connected_to(
    reaching: Callable[..., Fetch], origin: Origin
) -> None:
    origin.serve("/a", content(DATA))
    policy = AddressPolicy.of(THIS_MACHINE.networks, (), "443")
    with pytest.raises(AddressRefusedError, match=f"port {origin.port} is not allowed here"):
        reaching(policy)(origin.url("/a"))
    with pytest.raises(AddressRefusedError, match="port 22 is not allowed here"):
        reaching(THIS_MACHINE)("http://127.0.0.1:22/a")
    assert origin.connections == 0


def test_point_80_no_proxy_of_the_environment_is_asked(
    reaching: Callable[..., Fetch], origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Origin() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.base)
        reaching(THIS_MACHINE)(origin.serve("/a", content(DATA)))
        with pytest.raises(AddressRefusedError):
            reaching()(origin.url("/b"))
        assert proxy.connections == 0


def test_point_78_over_tls_the_checked_address_still_has_to_prove_the_hosts_name(
    reaching: Callable[..., Fetch],
) -> None:
    with Origin(tls=True) as origin:
        shown: list[str | None] = []
        assert origin.tls is not None
        origin.tls.sni_callback = lambda _socket, name, _context: shown.append(name)
        origin.serve("/a", content(DATA))
        fetch = reaching(THIS_MACHINE, Names(localhost=[[ONE]], portal_example=[[ONE]]), ca_bundle=CA_BUNDLE)
        assert fetch(f"https://localhost:{origin.port}/a").path.read_bytes() == DATA
        with pytest.raises(TlsError, match=f"the certificate of {NAMES} is not accepted"):
            fetch(f"https://{NAMES}:{origin.port}/a")
        assert shown == ["localhost", NAMES]
        assert origin.seen()[0].headers["host"] == f"localhost:{origin.port}"


def test_a_name_that_has_no_address_may_have_one_later(reaching: Callable[..., Fetch]) -> None:
    def nobody(_host: str, _port: int) -> list[Place]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(ConnectionFailedError, match=r"host name portal\.example can't be resolved"):
        reaching(THIS_MACHINE, nobody)(f"http://{NAMES}/a")


def test_a_hit_resolves_nothing(reaching: Callable[..., Fetch], origin: Origin) -> None:
    origin.serve("/a", content(DATA))
    names = Names(portal_example=[[ONE]])
    url = f"http://{NAMES}:{origin.port}/a"
    reaching(THIS_MACHINE, names)(url)
    assert names.asked == [NAMES]
    assert reaching(AddressPolicy(), names)(url).cached
    assert names.asked == [NAMES]
