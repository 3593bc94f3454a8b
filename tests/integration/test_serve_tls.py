"""The server with a certificate: who trusts it, what is refused, and another certificate while it runs."""

from __future__ import annotations

import asyncio
import signal
import ssl
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from stager.client import AsyncClient, Client
from stager.errors import ServerUnreachableError, SettingsError
from stager.server.tls import Certificate
from tests.support import commandline
from tests.support.authority import Authority
from tests.support.processes import ServerProcess, environment
from tests.support.until import until
from tests.support.world import TOKEN, world


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def issued(authority: Authority, directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, in files."""
    paths = directory / "server.pem", directory / "server.key"
    for path, text in zip(paths, authority.issue("server", ExtendedKeyUsageOID.SERVER_AUTH), strict=True):
        path.write_text(text)
    return paths


def shown(port: int) -> str:
    """The certificate that a new connection meets."""
    return ssl.get_server_certificate(("127.0.0.1", port))


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_who_trusts_the_authority_is_served_and_who_does_not_sends_nothing(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key = issued(authority, tmp_path)
    data = b"bytes " * 500_000
    with world(tmp_path, tls=Certificate(str(certificate), str(key))) as made:
        made.server.cache.put("large", data)
        with Client(made.url, TOKEN, ca_bundle=str(authority.bundle)) as client:
            assert client.site.status()["jobs"]["waiting"] == 0
        answer = made("GET", "/v1/cache/content/large", TOKEN, verify=str(authority.bundle))
        assert sha256(answer.content).digest() == sha256(data).digest()

        async def ask(ca_bundle: str) -> int:
            async with AsyncClient(made.url, TOKEN, ca_bundle=ca_bundle) as client:
                return int((await client.site.status())["jobs"]["waiting"])

        assert asyncio.run(ask(str(authority.bundle))) == 0
        for refused in (
            Client(made.url, TOKEN).site.status,
            lambda: asyncio.run(ask("")),
            Client(made.url.replace("https", "http"), TOKEN).site.status,
        ):
            with pytest.raises(ServerUnreachableError):
                refused()
        with pytest.raises(ServerUnreachableError, match="server_ca_bundle"):
            Client(made.url, TOKEN).site.status()


def test_another_certificate_is_for_new_connections_and_a_broken_one_changes_nothing(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key = issued(authority, tmp_path)
    tls = Certificate(str(certificate), str(key))
    with world(tmp_path, tls=tls) as made:
        port = port_of(made.url)
        first = shown(port)
        assert not tls.look()
        certificate.write_text("nonsense")
        assert not tls.look()
        assert shown(port) == first
        issued(authority, tmp_path)
        assert tls.look()
        assert shown(port) == certificate.read_text() != first


def test_a_server_takes_the_new_certificate_at_sighup(authority: Authority, tmp_path: Path) -> None:
    certificate, key = issued(authority, tmp_path)
    variables = {
        "STAGER_TLS_CERTIFICATE": str(certificate),
        "STAGER_TLS_KEY": str(key),
        "STAGER_SERVER_CA_BUNDLE": str(authority.bundle),
    }
    with ServerProcess(tmp_path, **variables) as server:
        assert server.url.startswith("https://127.0.0.1:")
        first = shown(port_of(server.url))
        issued(authority, tmp_path)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: shown(port_of(server.url)) != first, "another certificate")
        assert shown(port_of(server.url)) == certificate.read_text()
        token = (tmp_path / "state" / "token").read_text().strip()
        with Client(server.url, token, ca_bundle=str(authority.bundle)) as client:
            assert client.site.status()["jobs"]["waiting"] == 0
        assert server.end() == 0
    assert not any(token in line for line in server.said), "no log has it"


@pytest.mark.parametrize("missing", ["key", "certificate"])
def test_half_of_a_pair_is_refused(authority: Authority, tmp_path: Path, missing: str) -> None:
    certificate, key = map(str, issued(authority, tmp_path))
    with pytest.raises(SettingsError, match=f"tls_{missing} is not set"):
        Certificate("" if missing == "certificate" else certificate, "" if missing == "key" else key)


def test_a_key_of_another_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    certificate, _ = issued(authority, tmp_path)
    (tmp_path / "other").mkdir()
    _, key = issued(authority, tmp_path / "other")
    with pytest.raises(SettingsError, match="can't be used"):
        Certificate(str(certificate), str(key))
    with pytest.raises(SettingsError, match="No such file"):
        Certificate(str(tmp_path / "none"), str(key))


def test_a_server_that_others_reach_does_not_start_without_tls_nor_without_users(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    ended = commandline.run("serve", "--listen", "0.0.0.0", "--port", "0")
    assert ended.code == 2
    assert "nothing is encrypted" in ended.error
    assert not (tmp_path / "state").exists(), "it has changed nothing"
    certificate, key = issued(authority, tmp_path)
    monkeypatch.setenv("STAGER_TLS_CERTIFICATE", str(certificate))
    monkeypatch.setenv("STAGER_TLS_KEY", str(key))
    ended = commandline.run("serve", "--listen", "0.0.0.0", "--port", "0")
    assert ended.code == 2
    assert "no user has a token" in ended.error


def test_names_that_are_set_are_served_and_no_others(tmp_path: Path) -> None:
    with world(tmp_path, host_names=("stager.example.org",)) as made:
        for host, status in (("Stager.example.org:8717", 200), ("evil.example", 421), ("10.0.0.1", 421)):
            assert made("GET", "/v1/status", TOKEN, headers={"Host": host}).status_code == status
