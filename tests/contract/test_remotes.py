"""What holds for every scheme that is read through a backend, against a real server of each."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from stager.cache.store import FileCache
from stager.errors import (
    CancelledError,
    ConnectionFailedError,
    CredentialError,
    FetchError,
    IncompleteError,
    OriginChangedError,
    OriginRefusedError,
)
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult
from stager.transfer.options import TransferOptions
from stager.transfer.remote.transport import NOBODY
from stager.transfer.tries import SMALL_BYTES
from tests.support.drivers import DRIVERS, AnyFetcher
from tests.support.remotes import LONG_AGO, REMOTES, Remote

LARGE = Random(5).randbytes(4 * SMALL_BYTES + 777)
OTHER = Random(6).randbytes(4 * SMALL_BYTES + 777)
OVERHEAD = 0.1
"""What a protocol adds to the bytes, at most."""
_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=REMOTES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    remote = REMOTES[request.param](tmp_path_factory.mktemp("remote"))
    try:
        remote.start()
        yield remote
    finally:
        remote.stop()


@pytest.fixture
def remote(server: Remote) -> Remote:
    """It runs, as fast as it can."""
    if not server.is_running:
        server.start()
    server.go_on()
    server.pace(slow=False)
    return server


class Client:
    """Fetches from `remote` with a cache of its own."""

    def __init__(self, remote: Remote, cache: FileCache, driver: str = "requests", **options: Any) -> None:
        self.remote = remote
        self.fetcher: AnyFetcher = DRIVERS[driver](
            cache, others=remote.transport(), options=TransferOptions(**options)
        )

    def __call__(self, name: str, *, refresh: bool = False, **more: Any) -> FetchResult:
        order = FetchOrder(str(next(_numbers)), 1, FetchRequest(self.remote.url(name), refresh=refresh))
        return self.fetcher.fetch(order, **more)


@pytest.fixture
def fetch(remote: Remote, tmp_path: Path) -> Iterator[Client]:
    client = Client(remote, FileCache(tmp_path / "cache"))
    yield client
    client.fetcher.close()


def bytes_of(result: FetchResult) -> bytes:
    return Path(result.location).read_bytes()


@pytest.mark.parametrize("data", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_a_file_is_fetched_once_and_asked_for_when_it_is_to_be_fresh(
    remote: Remote, fetch: Client, data: bytes
) -> None:
    remote.put("run 7%ä.dat", data)
    first = fetch("run 7%ä.dat")
    assert (bytes_of(first), first.cached, first.unproven) == (data, False, False)
    before = remote.sent()
    assert fetch("run 7%ä.dat").cached
    assert remote.sent() == before
    again = fetch("run 7%ä.dat", refresh=True)
    assert (again.cached, again.received) == (True, 0)
    assert remote.sent() - before < 50_000
    remote.put("run 7%ä.dat", data + b"!", LONG_AGO + 60)
    changed = fetch("run 7%ä.dat", refresh=True)
    assert (bytes_of(changed), changed.cached) == (data + b"!", False)


def test_the_event_loop_reads_it_too(remote: Remote, tmp_path: Path) -> None:
    remote.put("a", LARGE)
    client = Client(remote, FileCache(tmp_path / "cache"), "asyncio")
    assert bytes_of(client("a")) == LARGE
    assert client("a", refresh=True).cached
    client.fetcher.close()


@pytest.mark.parametrize("how", ["killed", "cancelled"])
def test_a_transfer_that_was_broken_off_goes_on_where_it_was(remote: Remote, fetch: Client, how: str) -> None:
    remote.put("a", LARGE)
    remote.pace(slow=True)
    reached = threading.Event()

    def progress(received: int, _total: int | None, _resumed: int) -> None:
        if received > SMALL_BYTES and not reached.is_set():
            reached.set()
            if how == "killed":
                remote.kill()

    with pytest.raises((IncompleteError, CancelledError)):
        fetch("a", progress=progress, cancelled=lambda: how == "cancelled" and reached.is_set())
    remote.kill()  # what was on its way when it was cancelled is not to be counted
    remote.start()
    remote.pace(slow=False)
    before = remote.sent()
    result = fetch("a")
    assert bytes_of(result) == LARGE
    assert result.resumed_from > SMALL_BYTES
    rest = len(LARGE) - result.resumed_from
    assert result.received - rest in {0, TransferOptions().overlap_bytes}
    assert rest <= remote.sent() - before < rest * (1 + OVERHEAD) + TransferOptions().overlap_bytes + 50_000


@pytest.mark.parametrize("size", [len(OTHER), SMALL_BYTES // 2], ids=["as large", "shorter"])
def test_a_file_that_changes_in_mid_transfer_is_fetched_anew(
    remote: Remote, fetch: Client, size: int
) -> None:
    remote.put("a", LARGE)
    remote.pace(slow=True)
    changed = threading.Event()

    def progress(received: int, _total: int | None, _resumed: int) -> None:
        if received > SMALL_BYTES and not changed.is_set():
            changed.set()
            remote.put("a", OTHER[:size], LONG_AGO + 60)

    if remote.replaces:  # it goes on with the old one, whole
        assert bytes_of(fetch("a", progress=progress)) == LARGE
    else:
        with pytest.raises(OriginChangedError):
            fetch("a", progress=progress)
        assert bytes_of(fetch("a")) == OTHER[:size]
    assert changed.is_set()
    assert bytes_of(fetch("a", refresh=True)) == OTHER[:size]


def test_a_change_between_two_tries_begins_anew(remote: Remote, fetch: Client) -> None:
    remote.put("a", LARGE)
    remote.pace(slow=True)
    reached = threading.Event()

    def progress(received: int, _total: int | None, _resumed: int) -> None:
        if received > SMALL_BYTES:
            reached.set()

    with pytest.raises(CancelledError):
        fetch("a", progress=progress, cancelled=reached.is_set)
    remote.put("a", OTHER, LONG_AGO + 60)
    result = fetch("a")
    assert (bytes_of(result), result.resumed_from) == (OTHER, 0)


@pytest.mark.usefixtures("remote")
def test_what_is_not_there_is_refused_for_good(fetch: Client) -> None:
    with pytest.raises(OriginRefusedError) as caught:
        fetch("nothing")
    assert caught.value.details["status"] == 404
    assert not caught.value.transient


@pytest.mark.parametrize("who", ["wrong", "nobody"])
def test_who_may_not_read_it_is_told_that_a_credential_is_wanted(
    remote: Remote, fetch: Client, tmp_path: Path, who: str
) -> None:
    remote.put("a", b"secret")
    fetch("a")  # a connection of who may is there, and is nobody else's
    given = remote.wrong if who == "wrong" else NOBODY
    if remote.is_of_site:  # it looks at nobody's credential
        other = Client(remote, FileCache(tmp_path / "other"))
        assert bytes_of(other("a")) == b"secret"
        other.fetcher.close()
        return
    fetcher = DRIVERS["requests"](FileCache(tmp_path / "other"), others=remote.transport(given))
    with pytest.raises(CredentialError) as caught:
        fetcher.fetch(FetchOrder("1", 1, FetchRequest(remote.url("a"))))
    assert caught.value.details["status"] in {401, 403}
    for secret in (given.password, given.key):
        assert not secret or secret not in str(caught.value.to_dict())
    fetcher.close()


def test_a_server_that_is_not_there_is_tried_again_later(remote: Remote, fetch: Client) -> None:
    remote.kill()
    with pytest.raises(ConnectionFailedError) as caught:
        fetch("a")
    assert caught.value.transient


def test_a_connection_that_is_idle_and_was_closed_meanwhile_is_made_anew(
    remote: Remote, fetch: Client
) -> None:
    remote.put("a", b"one")
    remote.put("b", b"two")
    fetch("a")
    remote.kill()
    remote.start()
    assert bytes_of(fetch("b")) == b"two"


def test_a_server_that_falls_silent_is_given_up_and_a_cancel_is_noticed(
    remote: Remote, tmp_path: Path
) -> None:
    remote.put("a", LARGE)
    remote.pace(slow=True)
    client = Client(remote, FileCache(tmp_path / "cache"), read_timeout_seconds=4.0)
    silent = threading.Event()

    def progress(received: int, _total: int | None, _resumed: int) -> None:
        if received > SMALL_BYTES and not silent.is_set():
            remote.pause()
            silent.set()

    with pytest.raises(FetchError) as caught:
        client("a", progress=progress)
    assert caught.value.transient
    assert silent.is_set()
    patient = Client(remote, FileCache(tmp_path / "cache"), read_timeout_seconds=50.0)
    began = time.monotonic()
    with pytest.raises(CancelledError):
        patient("a", cancelled=lambda: time.monotonic() - began > 0.3)
    assert time.monotonic() - began < 40.0
    remote.go_on()
    assert bytes_of(patient("a")) == LARGE
    client.fetcher.close()
    patient.fetcher.close()
