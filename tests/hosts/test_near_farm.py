"""Jobs on nodes with a cache of their own: their inputs are brought there first, through kills."""

from __future__ import annotations

import random
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from stager.model.jobs import JobInput, JobSpec, JobState
from stager.signals import keys
from tests.support.farm import Farm, until
from tests.support.origin import Exchange, Origin, content

DATA = random.Random(12).randbytes(3 << 20)
DIGEST = sha256(DATA).hexdigest()
PATH = f"/v1/objects/{DIGEST}"
SCRIPT = "readlink inputs/a.dat; sha256sum < inputs/a.dat"


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    with Farm(tmp_path, STAGER_DISPATCH="celery", STAGER_FARM="threads") as running:
        yield running


def node(root: Path, server: str) -> dict[str, Any]:
    return {
        "STAGER_NODE": "node1",
        "STAGER_NODE_CACHE_DIR": str(root / "near"),
        "STAGER_NODE_SOURCES": "server",
        "STAGER_SERVER": server,
    }


def spec(url: str) -> JobSpec:
    return JobSpec(("/bin/sh", "-c", SCRIPT), (JobInput(url),))


def test_a_job_reads_its_inputs_from_its_nodes_own_disk_and_the_server_knows_what_is_there(
    farm: Farm, tmp_path: Path, origin: Origin
) -> None:
    url = origin.serve("/a.dat", content(DATA, etag='"a"'))
    farm.start_worker(queue="work", **node(tmp_path, farm.server.url))
    with farm.server.client() as client, farm.redis.client() as redis:
        jobs = client.jobs.submit([spec(url) for _ in range(3)])
        for one in jobs:
            assert client.jobs.wait(one, 60).state is JobState.DONE
            link, digest = b"".join(client.jobs.log(one, "stdout")).decode().split("\n")[:2]
            assert link.startswith(str(tmp_path / "near"))
            assert digest.split()[0] == DIGEST
        assert redis.sismember(f"{keys.HOLDINGS}node1", DIGEST)
    assert len(origin.seen("/a.dat")) == 1


def test_a_node_that_is_killed_while_it_brings_an_input_goes_on_and_the_job_runs_once(
    farm: Farm, tmp_path: Path, origin: Origin
) -> None:
    def half(exchange: Exchange) -> None:
        exchange.head(
            200, {"Content-Length": str(len(DATA)), "ETag": f'"{DIGEST}"', "Accept-Ranges": "bytes"}
        )
        exchange.body(DATA[: 2 << 20])
        exchange.hold()

    url = origin.serve("/a.dat", content(DATA, etag='"a"'))
    origin.serve(PATH, half, content(DATA, etag=f'"{DIGEST}"'))
    mine = node(tmp_path, origin.base)
    worker = farm.start_worker(queue="work", **mine)
    with farm.server.client() as client:
        (one,) = client.jobs.submit([spec(url)])
        partial = tmp_path / "near" / "partial"
        until(
            lambda: any(path.stat().st_size >= 1 << 20 for path in partial.rglob("*.part")),
            "half of it is on the node",
        )
        worker.kill()
        farm.start_worker(queue="work", **mine)
        assert client.jobs.wait(one, 60).state is JobState.DONE
        link, digest = b"".join(client.jobs.log(one, "stdout")).decode().split("\n")[:2]
    assert link.startswith(str(tmp_path / "near"))
    assert digest.split()[0] == DIGEST
    first, second = origin.seen(PATH)
    assert "range" not in first.headers
    assert second.headers["range"].startswith("bytes=")
