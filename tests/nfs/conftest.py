"""Two hosts for all tests of this directory, by NFS 3 and by NFS 4.1."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tests.support.hosts import Hosts
from tests.support.origin import Origin
from tests.support.pair import Pair

_numbers = count()


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with Hosts(tmp_path_factory.mktemp("nfs"), "alpha", "beta") as hosts:
        yield hosts


@pytest.fixture(params=["3", "4.1"], ids=["nfs3", "nfs4.1"])
def pair(request: pytest.FixtureRequest, hosts: Hosts) -> Iterator[Pair]:
    """Both up, the share mounted, a cache of the test's own; what a test broke is mended afterwards."""
    protocol: str = request.param
    first, second = hosts.guests
    (share,) = {guest.mount(protocol) for guest in hosts.guests}
    name = f"cache{next(_numbers)}"
    yield Pair(hosts, protocol, first, second, f"{share}/{name}", hosts.export / name)
    hosts.mend()


@pytest.fixture
def origin(hosts: Hosts) -> Iterator[Origin]:
    with Origin(host=hosts.address) as origin:
        yield origin
