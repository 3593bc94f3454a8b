"""The kinds of cluster, each with its nodes on hosts of their own: network namespaces that see of the server's disk what that kind sees.

Nodes that have nothing but a share are tested over real NFS, in tests/nfs.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from stager.client import Client
from stager.errors import NotFoundError
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.model.principals import Role
from tests.support.farm import Farm, until
from tests.support.hosts_network import Network
from tests.support.needs import needs
from tests.support.origin import Origin, content
from tests.support.processes import ServerProcess
from tests.support.valkey import Valkey

DATA = random.Random(14).randbytes(3 << 20)
DIGEST = sha256(DATA).hexdigest()
_HIDING = (
    'mount --make-rprivate / && for d in $HIDDEN; do mount -t tmpfs tmpfs "$d" || exit 9; done && exec "$@"'
)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    needs(os.geteuid() == 0, "root, for network namespaces")
    needs(all(map(shutil.which, ("ip", "iptables", "unshare", "curl"))), "ip, iptables, unshare and curl")
    made = Network()
    yield made
    made.close()


@pytest.fixture(scope="module")
def node(network: Network) -> list[str]:
    """What runs a command on the node."""
    return network.add_host("node")


@pytest.fixture
def farm(network: Network, tmp_path: Path) -> Iterator[Farm]:
    root = tmp_path / "server"
    with ServerProcess(root) as first, first.client() as client:  # a server that others reach needs users
        client.accounts.add_user("nodes", Role.OPERATOR)
        token = client.accounts.create_token("nodes").secret
    with (
        Valkey(root / "redis", host=network.host) as redis,
        Farm(
            root,
            redis=redis,
            STAGER_DISPATCH="celery",
            STAGER_FARM="threads",
            STAGER_LISTEN=network.host,
            STAGER_LISTEN_PLAIN="true",
            STAGER_ALLOWED_NETWORKS="127.0.0.0/8,10.77.0.0/16",
        ) as running,
    ):
        running.settings["STAGER_TOKEN"] = token  # of the workers that come
        yield running


def hiding(node: Sequence[str], *paths: Path) -> list[str]:
    """What runs a command on the node, where nothing is at these paths."""
    hidden = " ".join(map(str, paths))
    return [*node, "env", f"HIDDEN={hidden}", "unshare", "-m", "sh", "-c", _HIDING, "node"]


def settings(farm: Farm, tmp_path: Path, **more: str) -> dict[str, Any]:
    (tmp_path / "node").mkdir()
    password = shutil.copy(farm.redis.environment()["STAGER_REDIS_PASSWORD_FILE"], tmp_path / "node")
    return {
        "STAGER_REDIS_PASSWORD_FILE": str(password),
        "STAGER_NODE": "node1",
        "STAGER_STATE_DIR": str(tmp_path / "node" / "state"),
        "STAGER_NODE_CACHE_DIR": str(tmp_path / "node" / "near"),
        "STAGER_SERVER": farm.server.url,
        **more,
    }


def reached(node: Sequence[str], url: str) -> bool:
    done = subprocess.run([*node, "curl", "-s", "-o", "/dev/null", "--max-time", "20", url], check=False)
    return done.returncode == 0


def is_listed(client: Client) -> bool:
    try:
        return client.cache.show(DIGEST).url is not None
    except NotFoundError:
        return False


def runs_a_job(farm: Farm, url: str, near: Path) -> None:
    script = "readlink -f inputs/a.dat; cat inputs/a.dat > results/b"
    with farm.server.client() as client:
        (one,) = client.jobs.submit([JobSpec(("/bin/sh", "-c", script), (JobInput(url),), after=("listed",))])
        until(lambda: is_listed(client), "the server says where the file came from")
        client.preconditions.meet("listed")
        done = client.jobs.wait(one, 90)
        assert (done.state, done.error) == (JobState.DONE, None), farm.log()
        place = b"".join(client.jobs.log(one, "stdout")).decode()
        assert place.startswith(str(near)), "it read its input from the node's own disk"
        assert sha256(b"".join(client.results.read(one, "b"))).hexdigest() == DIGEST


@pytest.mark.parametrize("sources", ["share", "server"])
def test_local_disk_and_no_internet(farm: Farm, node: list[str], tmp_path: Path, sources: str) -> None:
    with Origin() as origin:  # on the server's own loopback: the node can't reach it
        url = origin.serve("/a.dat", content(DATA, etag='"a"'))
        there = hiding(node, farm.root / "state", farm.root / "redis")
        assert not reached(node, url)
        assert reached(node, f"{farm.server.url}/healthz")
        farm.start_worker(queue="work", before=there, **settings(farm, tmp_path, STAGER_NODE_SOURCES=sources))
        runs_a_job(farm, url, tmp_path / "node" / "near")
        assert len(origin.seen("/a.dat")) == 1


def test_local_disk_and_internet(farm: Farm, network: Network, node: list[str], tmp_path: Path) -> None:
    with Origin(host=network.host) as origin:
        url = origin.serve("/a.dat", content(DATA, etag='"a"'))
        assert reached(node, url)
        there = hiding(node, farm.root / "state", farm.root / "redis")
        before = len(origin.seen("/a.dat"))
        more = settings(farm, tmp_path, STAGER_NODE_SOURCES="origin,server")
        farm.start_worker(queue="work", before=there, **more)
        runs_a_job(farm, url, tmp_path / "node" / "near")
        asked = origin.seen("/a.dat")[before:]
        assert len(asked) == 2, "the server and the node"
        assert all("authorization" not in one.headers for one in asked)


def test_no_share_at_all(farm: Farm, node: list[str], tmp_path: Path) -> None:
    with Origin() as origin:
        url = origin.serve("/a.dat", content(DATA, etag='"a"'))
        there = hiding(node, farm.root)
        seen = subprocess.run([*there, "ls", farm.root], capture_output=True, text=True, check=True).stdout
        assert seen == "", "nothing of the server's disk"
        more = settings(
            farm,
            tmp_path,
            STAGER_CACHE_DIR=str(tmp_path / "node" / "nothing"),
            STAGER_NODE_SOURCES="server",
            STAGER_NODE_SHARE="false",
        )
        farm.start_worker(queue="work", before=there, **more)
        runs_a_job(farm, url, tmp_path / "node" / "near")
        assert len(origin.seen("/a.dat")) == 1
