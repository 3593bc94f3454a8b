"""https as a site has it: an authority of its own, and client certificates, against nginx."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from stager.cache.store import FileCache
from stager.errors import CredentialRequiredError, FetchError, TlsError
from stager.model.fetches import FetchOrder, FetchRequest
from tests.support.authority import Authority
from tests.support.drivers import DRIVERS, Driver
from tests.support.needs import needs
from tests.support.ports import free_port
from tests.support.vault import Vault

PATIENCE = 60.0


class Portal:
    """nginx, which shows a certificate of `authority`; below /members it asks for one of the client's."""

    def __init__(self, root: Path, authority: Authority) -> None:
        certificate, key = authority.issue("portal", ExtendedKeyUsageOID.SERVER_AUTH)
        (root / "cert.pem").write_text(certificate)
        (root / "key.pem").write_text(key)
        for place in ("open", "members"):
            (root / "www" / place).mkdir(parents=True)
            (root / "www" / place / "a").write_text(place)
        self.port = free_port()
        user = "user root;" if os.geteuid() == 0 else ""
        (root / "nginx.conf").write_text(
            f"""daemon off; master_process off; {user} pid {root}/pid; error_log {root}/errors;
            events {{}}
            http {{
                access_log off; client_body_temp_path {root}/t1; proxy_temp_path {root}/t2;
                fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
                server {{
                    listen 127.0.0.1:{self.port} ssl; root {root}/www;
                    ssl_certificate {root}/cert.pem; ssl_certificate_key {root}/key.pem;
                    ssl_client_certificate {authority.bundle}; ssl_verify_client optional;
                    location /members {{ if ($ssl_client_verify != SUCCESS) {{ return 403; }} }}
                }}
            }}"""
        )
        command = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert command is not None
        self._process = subprocess.Popen([command, "-c", root / "nginx.conf", "-e", root / "errors"])
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
            except OSError:
                assert time.monotonic() < deadline, (root / "errors").read_text()
                time.sleep(0.02)
            else:
                return

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Portal]:
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    needs(found, "nginx; scripts/system-packages installs it")
    portal = Portal(tmp_path_factory.mktemp("portal"), authority)
    yield portal
    portal.close()


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    return DRIVERS[request.param]


def fetched(cache: Path, driver: Driver, url: str, bundle: Path | str, vault: Vault | None = None) -> str:
    wallet = None if vault is None else vault.wallet()
    fetcher = driver(FileCache(cache), ca_bundle=str(bundle), wallet=wallet)
    try:
        result = fetcher.fetch(FetchOrder("1", 1, FetchRequest(url, owner="ada")))
    finally:
        fetcher.close()
    return Path(result.location).read_text()


def test_the_sites_own_authority_is_trusted_when_it_is_set_and_no_other(
    tmp_path: Path, driver: Driver, portal: Portal, authority: Authority
) -> None:
    url = portal.url("/open/a")
    for bundle in ("", Authority(tmp_path, "Other").bundle):
        with pytest.raises(TlsError, match="ca_bundle"):
            fetched(tmp_path / "cache", driver, url, bundle)
    assert fetched(tmp_path / "cache", driver, url, authority.bundle) == "open"


def test_a_client_certificate_opens_what_is_for_its_owner(
    tmp_path: Path, driver: Driver, portal: Portal, authority: Authority
) -> None:
    url = portal.url("/members/a")
    with pytest.raises(CredentialRequiredError):
        fetched(tmp_path / "cache", driver, url, authority.bundle)
    vault = Vault(tmp_path / "vault")
    certificate, key = authority.issue("ada", ExtendedKeyUsageOID.CLIENT_AUTH)
    vault.give(f"127.0.0.1:{portal.port}", "certificate", owner="ada", certificate=certificate, key=key)
    assert fetched(tmp_path / "cache", driver, url, authority.bundle, vault) == "members"


def test_a_client_certificate_of_another_authority_is_refused(
    tmp_path: Path, driver: Driver, portal: Portal, authority: Authority
) -> None:
    vault = Vault(tmp_path / "vault")
    certificate, key = Authority(tmp_path, "Other").issue("ada", ExtendedKeyUsageOID.CLIENT_AUTH)
    vault.give(f"127.0.0.1:{portal.port}", "certificate", certificate=certificate, key=key)
    with pytest.raises(FetchError) as caught:
        fetched(tmp_path / "cache", driver, portal.url("/members/a"), authority.bundle, vault)
    assert not caught.value.transient
