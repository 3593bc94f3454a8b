"""Two hosts fetch into one cache on a real NFS share, with no server between them, and parts of it fail."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from random import Random
from typing import Any

import pytest

from tests.support.guests import Done, Guest, Running
from tests.support.hosts import STAGER
from tests.support.origin import OVERLAP, Answer, Exchange, Origin, content
from tests.support.pair import Pair
from tests.support.until import until

pytestmark = pytest.mark.timeout(300)  # guests are slow where others work too

DATA = Random(4).randbytes(24 << 20)
"""More than a transfer hands on to the NFS server at a time (8 MiB), so that a part of it is there early."""
HALF = 17 << 20
STORED = 8 << 20
CUT_SECONDS = 10.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What `gated` waits for; open at the end of the test."""
    gate = threading.Event()
    yield gate
    gate.set()


def gated(gate: threading.Event) -> Answer:
    """`DATA`, with a pause at half of it until the gate is open."""

    def answer(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": str(len(DATA)), "Etag": '"1"'})
        exchange.body(DATA[:HALF])
        assert gate.wait(100)
        exchange.body(DATA[HALF:])

    return answer


def begin(pair: Pair, guest: Guest, url: str) -> Running:
    return guest.start([*STAGER, "fetch", "--json", "--cache", pair.root, url])


def answered(done: Done) -> dict[str, Any]:
    """What a fetch that went well printed."""
    assert done.status == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def wait_for_half(pair: Pair, fetch: Running) -> None:
    """Until the transfer stands at the gate, and the NFS server has a good part of what it got."""

    def is_stored() -> bool:
        return any(path.stat().st_size >= STORED for path in pair.truth.glob("partial/*/*.part"))

    until(lambda: is_stored() or fetch.wait(0).status is not None, "the transfer is half done")
    assert is_stored(), fetch.wait(0)


def check_whole(pair: Pair, url: str) -> None:
    """One intact object, read by both hosts, and nothing else is left."""
    digest = sha256(DATA).hexdigest()
    for guest in (pair.first, pair.second):
        assert pair.ask(guest, "lookup", url) == digest
        assert pair.ask(guest, "digest", url) == digest
    assert [path.name for path in pair.objects()] == [digest]
    assert pair.partials() == []


def test_both_hosts_fetch_one_url_at_the_same_time_and_one_object_results(pair: Pair, origin: Origin) -> None:
    both = threading.Barrier(2)

    def together(exchange: Exchange) -> None:
        both.wait(60)
        content(DATA, etag='"1"')(exchange)

    url = origin.serve("/run.nxs", together, together, content(DATA, etag='"1"'))
    fetches = [begin(pair, guest, url) for guest in (pair.first, pair.second)]
    for fetch in fetches:
        assert answered(fetch.wait(60))["sha256"] == sha256(DATA).hexdigest()
    check_whole(pair, url)


def test_a_host_that_comes_while_the_other_is_at_it_disturbs_nothing(
    pair: Pair, origin: Origin, gate: threading.Event
) -> None:
    url = origin.serve("/run.nxs", gated(gate), content(DATA, etag='"1"'))
    early = begin(pair, pair.first, url)
    wait_for_half(pair, early)
    assert answered(begin(pair, pair.second, url).wait(60))["sha256"] == sha256(DATA).hexdigest()
    gate.set()
    assert answered(early.wait(60))["sha256"] == sha256(DATA).hexdigest()
    check_whole(pair, url)


def test_what_a_host_left_whose_plug_was_pulled_is_gone_on_with_by_the_other(
    pair: Pair, origin: Origin, gate: threading.Event
) -> None:
    url = origin.serve("/run.nxs", gated(gate), content(DATA, etag='"1"'))
    pair.ask(pair.second, "put", "k", "other")
    assert pair.ask(pair.second, "has_partial", url) is False  # too early
    pair.ask(pair.second, "remove", "k")
    wait_for_half(pair, begin(pair, pair.first, url))
    pair.first.kill_hard()
    gate.set()
    until(lambda: not pair.is_locked(), "the NFS server gives up the lock of the dead host")
    answered(begin(pair, pair.second, url).wait(60))
    resumed = origin.seen("/run.nxs")[-1]
    offset = len(DATA) - resumed.sent
    assert resumed.headers["range"] == f"bytes={offset}-"
    assert offset >= STORED - OVERLAP
    pair.first.boot()
    pair.first.mount(pair.protocol)
    check_whole(pair, url)


def test_a_host_that_is_cut_off_from_the_share_in_mid_transfer_finishes_when_it_is_back(
    pair: Pair, origin: Origin, gate: threading.Event
) -> None:
    url = origin.serve("/run.nxs", gated(gate))
    fetch = begin(pair, pair.first, url)
    wait_for_half(pair, fetch)
    pair.hosts.partition(pair.first)
    gate.set()
    time.sleep(CUT_SECONDS)  # the fault itself: so long is the host cut off
    assert fetch.wait(0).status is None
    assert pair.objects() == []
    pair.hosts.heal()
    assert answered(fetch.wait(90))["sha256"] == sha256(DATA).hexdigest()
    assert len(origin.seen("/run.nxs")) <= 2  # again, where the server took its lock from it meanwhile
    check_whole(pair, url)


def test_a_transfer_goes_on_when_the_nfs_server_was_killed_and_started_again(
    pair: Pair, origin: Origin, gate: threading.Event
) -> None:
    url = origin.serve("/run.nxs", gated(gate))
    fetch = begin(pair, pair.first, url)
    wait_for_half(pair, fetch)
    pair.hosts.server.kill()
    gate.set()
    pair.hosts.server.start()
    assert answered(fetch.wait(90))["sha256"] == sha256(DATA).hexdigest()
    check_whole(pair, url)
