"""A farm on two hosts: a worker on the data node fetches into a real NFS share, the server's host runs the jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from stager.signals import keys
from tests.support.nfs_farm import LEASE_SECONDS, STORED, NfsFarm, gated
from tests.support.origin import OVERLAP, Origin, content
from tests.support.pair import Pair
from tests.support.until import until
from tests.support.valkey import Valkey

pytestmark = pytest.mark.timeout(400)  # guests are slow where others work too

DATA = Random(5).randbytes(24 << 20)
DIGEST = sha256(DATA).hexdigest()
HALF = 17 << 20
CUT_SECONDS = 2.0 * LEASE_SECONDS
AT_ONCE_SECONDS = 10.0
"""What a slow guest may take; an NFS client holds on to the word that there is no such file for 30 s."""
SCRIPT = "date +%s.%N; sha256sum inputs/*"


@pytest.fixture
def farm(pair: Pair, tmp_path: Path) -> Iterator[NfsFarm]:
    """With a worker on the data node, the first host."""
    with Valkey(tmp_path / "redis", host=pair.hosts.address) as redis, NfsFarm(pair, redis) as farm:
        farm.start_worker(pair.first)
        farm.wait_until_up(pair.first)
        yield farm


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What `gated` waits for; open at the end of the test."""
    gate = threading.Event()
    yield gate
    gate.set()


def clock_offset(pair: Pair) -> float:
    """Seconds by which the second host's clock is ahead of the one here."""
    before = time.time()
    there = pair.second.call("time:time")
    return float(there) - (before + time.time()) / 2


def last_signal_at(farm: NfsFarm) -> float:
    """When the last signal came to Redis, also if it is read and gone; seconds since 1970."""
    with farm.redis.client() as redis:
        number = redis.xinfo_stream(keys.SIGNALS)["last-generated-id"]
    return int(number.decode().partition("-")[0]) / 1000


def test_a_job_runs_at_once_when_another_host_has_fetched_its_input_although_the_server_looked_too_early(
    farm: NfsFarm, origin: Origin
) -> None:
    pair = farm.pair
    for number in range(2):  # a new cache, and one with something in it
        gate = threading.Event()
        data = Random(number).randbytes(1 << 20)
        digest = sha256(data).hexdigest()
        url = origin.serve(f"/{number}.dat", gated(data, 1 << 18, gate))
        job = farm.submit(SCRIPT, url)
        origin.wait_for(f"/{number}.dat", timeout=60)
        assert pair.ask(pair.second, "lookup", url) is None
        assert pair.ask(pair.second, "has_object", digest, len(data)) is False
        gate.set()
        began, read, _ = farm.printed(job)
        assert read == digest
        assert float(began) - clock_offset(pair) - last_signal_at(farm) < AT_ONCE_SECONDS
    farm.check_quiet()


def test_a_data_node_that_is_cut_off_from_everything_in_mid_transfer_finishes_when_it_is_back(
    farm: NfsFarm, origin: Origin, gate: threading.Event
) -> None:
    url = origin.serve("/run.nxs", gated(DATA, HALF, gate), content(DATA, etag='"1"'))
    job = farm.submit(SCRIPT, url)
    farm.wait_for_half()
    farm.pair.hosts.cut_off(farm.pair.first)
    gate.set()
    time.sleep(CUT_SECONDS)  # the fault itself: so long is the host cut off
    assert farm.job(job)["state"] == "waiting"
    farm.pair.hosts.heal()
    assert farm.printed(job)[1] == DIGEST
    assert [path.name for path in farm.pair.objects()] == [DIGEST]
    farm.check_quiet()


def test_a_job_completes_when_the_nfs_server_was_killed_in_mid_transfer_and_started_again(
    farm: NfsFarm, origin: Origin, gate: threading.Event
) -> None:
    url = origin.serve("/run.nxs", gated(DATA, HALF, gate), content(DATA, etag='"1"'))
    job = farm.submit(SCRIPT, url)
    farm.wait_for_half()
    farm.pair.hosts.server.kill()
    gate.set()
    farm.pair.hosts.server.start()
    assert farm.printed(job)[1] == DIGEST
    assert [path.name for path in farm.pair.objects()] == [DIGEST]
    farm.check_quiet()


def test_a_worker_on_another_host_goes_on_when_the_plug_of_the_data_node_is_pulled_in_mid_transfer(
    farm: NfsFarm, origin: Origin, gate: threading.Event
) -> None:
    pair = farm.pair
    url = origin.serve("/run.nxs", gated(DATA, HALF, gate), content(DATA, etag='"1"'))
    job = farm.submit(SCRIPT, url)
    farm.wait_for_half()
    pair.first.kill_hard()
    until(lambda: not pair.is_locked(), "the NFS server gives up the lock of the dead host")
    farm.start_worker(pair.second)
    assert farm.printed(job)[1] == DIGEST
    resumed = origin.seen("/run.nxs")[-1]
    offset = len(DATA) - resumed.sent
    assert resumed.headers["range"] == f"bytes={offset}-"
    assert offset >= STORED - OVERLAP
    assert [path.name for path in pair.objects()] == [DIGEST]
    farm.check_quiet()
