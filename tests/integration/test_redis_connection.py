"""Getting into Redis: passwords, TLS, and what is said when it does not work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.errors import ServerBusyError, SettingsError, SignalsError
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.signals.connection import RedisAddress
from stager.signals.keys import SERVER_SECONDS
from stager.signals.stream import StreamReader
from tests.support.farm import Farm
from tests.support.origin import CA_BUNDLE, Origin, content
from tests.support.ports import free_port
from tests.support.tlsproxy import TlsProxy
from tests.support.valkey import PASSWORD, Valkey


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("redis")) as running:
        yield running


def ping(address: RedisAddress) -> None:
    client = address.connect()
    try:
        with address.speaking():
            client.ping()
    finally:
        client.close()


def refused(address: RedisAddress) -> str:
    with pytest.raises(SignalsError) as caught:
        ping(address)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


def test_a_password_file_goes_before_the_password_in_the_address(redis: Valkey, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\nnot this line\n")
    address = RedisAddress(
        f"redis://:wrong@{redis.host}:{redis.port}/3", password_file=str(file), ca_bundle=""
    )
    ping(address)
    assert address.shown == f"127.0.0.1:{redis.port}/3"


def test_a_wrong_password_and_none_are_told_from_each_other_in_one_line(redis: Valkey) -> None:
    place = f"127.0.0.1:{redis.port}"
    wrong = refused(RedisAddress(f"redis://:wrong@{place}/0"))
    none = refused(RedisAddress(f"redis://{place}/0"))
    assert wrong.startswith(f"Redis at {place}/0 can't be used: ")
    assert "check redis_url and redis_password_file" in wrong
    assert "check redis_url and redis_password_file" in none
    assert "wrong" not in wrong.replace("WRONGPASS", "")
    assert "\n" not in wrong + none


def test_a_port_where_nobody_listens_is_named() -> None:
    port = free_port()
    assert f"127.0.0.1:{port}/0" in refused(RedisAddress(f"redis://127.0.0.1:{port}/0"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://redis/0", "has the scheme 'http'; write redis://, rediss://, unix://"),
        ("redis://host:port/0", "is no URL"),
        ("redis://:se/cret@host/0", "is no URL: its port is no number, or a password in it"),
    ],
)
def test_an_address_that_makes_no_sense_is_refused(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        RedisAddress(url)


def test_a_password_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"redis_password_file .*/none can't be read: No such file"):
        RedisAddress("redis://127.0.0.1/0", password_file=str(tmp_path / "none"))


def test_a_certificate_has_to_be_of_an_authority_that_is_trusted(redis: Valkey) -> None:
    with TlsProxy(redis.port) as proxy:
        url = f"rediss://:{PASSWORD}@127.0.0.1:{proxy.port}/0"
        ping(RedisAddress(url, ca_bundle=CA_BUNDLE))
        assert "check redis_ca_bundle" in refused(RedisAddress(url))


def test_a_farm_works_over_tls(tmp_path: Path) -> None:
    with Valkey(tmp_path / "redis") as behind, TlsProxy(behind.port) as proxy, Origin() as origin:
        url = origin.serve("/a.dat", content(b"a", etag='"a"'))
        password = tmp_path / "secret"
        password.write_text(PASSWORD)
        settings = {
            "STAGER_REDIS_URL": f"rediss://127.0.0.1:{proxy.port}/0",
            "STAGER_REDIS_PASSWORD_FILE": str(password),
            "STAGER_REDIS_CA_BUNDLE": CA_BUNDLE,
        }
        with Farm(tmp_path, redis=behind, **settings) as farm, farm.server.client() as client:
            farm.start_worker()
            (job,) = client.jobs.submit([JobSpec(("true",), (JobInput(url),))])
            assert client.jobs.wait(job, 30).state is JobState.DONE, farm.log()


def test_the_place_of_a_server_is_free_again_when_it_has_ended_or_been_silent(redis: Valkey) -> None:
    address = RedisAddress(redis.url)

    def reader(name: str) -> StreamReader:
        return StreamReader(address, server=name, on_progress=lambda *_: None, on_emptied=lambda: None)

    first, second = reader("first"), reader("second")
    try:
        first.claim()
        first.claim()
        with pytest.raises(ServerBusyError, match=r"another server uses Redis at .*: first"):
            second.claim()
        with redis.client() as client:
            assert 0 < client.ttl("stager:server") <= SERVER_SECONDS
        first.close()
        second.claim()
    finally:
        first.close()
        second.close()
