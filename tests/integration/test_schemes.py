"""What is of one scheme alone, and the way from the settings to the bytes; against real servers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from stager.cache.store import FileCache
from stager.errors import (
    AddressRefusedError,
    CancelledError,
    CredentialRequiredError,
    FetchError,
    HostKeyError,
    OriginRefusedError,
    SchemeError,
    SettingsError,
)
from stager.model.checks import Health
from stager.model.fetches import FetchOrder, FetchRequest
from stager.model.urls import parse_url
from stager.settings import Settings
from stager.transfer.decisions import Identity, Request
from stager.transfer.fetcher import Fetcher
from stager.transfer.options import TransferOptions
from stager.transfer.reach import Place, Reach
from stager.transfer.remote.base import Site
from stager.transfer.remote.transport import RemoteTransport
from stager.transfer.tries import SMALL_BYTES
from stager.wiring.schemes import scheme_checks
from tests.support.commandline import Here, command
from tests.support.origin import TLS_DIRECTORY
from tests.support.reach import THIS_MACHINE
from tests.support.remotes import FtpRemote, GsRemote, Remote, S3Remote, SftpRemote, SmbRemote, WebdavRemote
from tests.support.tlsproxy import TlsProxy
from tests.support.vault import Vault

LARGE = Random(8).randbytes(3 * SMALL_BYTES)


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


def started(remote: Remote) -> Iterator[Remote]:
    try:
        remote.start()
        yield remote
    finally:
        remote.stop()


def root(tmp_path: Path, name: str = "remote") -> Path:
    path = tmp_path / name
    path.mkdir()
    return path


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[SftpRemote]:
    remote = SftpRemote(root(tmp_path))
    for _ in started(remote):
        remote.put("a", b"bytes")
        yield remote


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Remote]:
    remote = S3Remote(root(tmp_path))
    for _ in started(remote):
        yield remote


def fetch(
    cache: FileCache,
    remote: Remote,
    url: str = "",
    site: Site | None = None,
    identity: Identity | None = None,
) -> bytes:
    fetcher = Fetcher(cache, remote.transport(identity, site))
    try:
        result = fetcher.fetch(FetchOrder("1", 1, FetchRequest(url or remote.url("a"), refresh=True)))
    finally:
        fetcher.close()
    return Path(result.location).read_bytes()


def test_point_76_a_host_key_that_is_not_known_is_refused_with_its_fingerprint(
    cache: FileCache, sftp: SftpRemote
) -> None:
    known = sftp.root / "known"
    known.unlink()
    with pytest.raises(HostKeyError) as caught:
        fetch(cache, sftp)
    shown = subprocess.run(
        ["ssh-keygen", "-lf", sftp.root / "host.pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert f"not known: ssh-ed25519 {shown}" in caught.value.cause
    assert f"`ssh-keyscan -p {sftp.wire.port} 127.0.0.1 >> {known}`" in caught.value.remedy
    assert not caught.value.transient


def test_point_76_what_the_message_says_makes_the_key_known(cache: FileCache, sftp: SftpRemote) -> None:
    (sftp.root / "known").unlink()
    with pytest.raises(HostKeyError) as caught:
        fetch(cache, sftp)
    command = re.search(r"`(.*)`", caught.value.remedy)
    assert command is not None
    subprocess.run(command[1], shell=True, check=True, capture_output=True, timeout=60)
    assert fetch(cache, sftp) == b"bytes"


def test_point_76_another_key_than_the_known_one_is_refused(cache: FileCache, sftp: SftpRemote) -> None:
    sftp.know("stranger")
    with pytest.raises(HostKeyError, match="another key"):
        fetch(cache, sftp)


def test_a_key_with_a_passphrase_is_opened_with_it(cache: FileCache, sftp: SftpRemote) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", sftp.root / "user"], check=True
    )
    key = (sftp.root / "user").read_text()
    locked = sftp.identity._replace(key=key, passphrase="wrong")
    with pytest.raises(FetchError, match="passphrase is wrong") as caught:
        fetch(cache, sftp, identity=locked)
    assert key not in str(caught.value.to_dict())
    assert fetch(cache, sftp, identity=locked._replace(passphrase="open sesame")) == b"bytes"


def test_only_regular_files_are_read_by_sftp(cache: FileCache, sftp: SftpRemote) -> None:
    (sftp.files / "directory").mkdir()
    with pytest.raises(FetchError, match="not a regular file"):
        fetch(cache, sftp, sftp.url("directory"))


@pytest.mark.parametrize("kind", [FtpRemote, SftpRemote])
def test_point_78_a_host_that_may_not_be_reached_is_not(
    cache: FileCache, tmp_path: Path, kind: type[Remote]
) -> None:
    remote = kind(root(tmp_path))
    with pytest.raises(AddressRefusedError, match="this machine"):
        fetch(cache, remote, site=replace(remote.site(), reach=Reach()))
    remote.stop()


def test_point_78_a_name_is_resolved_once_and_its_checked_address_is_connected_to(
    cache: FileCache, sftp: SftpRemote
) -> None:
    asked = []

    def resolve(host: str, port: int) -> list[Place]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "10.0.0.1"
        return [Place(2, (address, port))]

    known = sftp.root / "known"
    known.write_text(known.read_text().replace("127.0.0.1", "archive.test"))
    url = sftp.url("a").replace("127.0.0.1", "archive.test")
    assert fetch(cache, sftp, url, replace(sftp.site(), reach=Reach(THIS_MACHINE, resolve))) == b"bytes"
    assert asked == ["archive.test"]


def test_point_77_each_range_asks_for_the_version_that_was_begun(cache: FileCache, s3: S3Remote) -> None:
    s3.put("a", LARGE)
    s3.wire.rate = 4 << 20
    fetcher = Fetcher(cache, s3.transport())
    order = FetchOrder("1", 1, FetchRequest(s3.url("a")))
    with pytest.raises(CancelledError):
        fetcher.fetch(order, cancelled=lambda: s3.wire.received > 2 * SMALL_BYTES)
    s3.wire.rate = 0
    result = fetcher.fetch(order)
    fetcher.close()
    assert result.resumed_from > 0
    heads = s3.wire.requests.decode("latin-1").split("GET /")[1:]
    ranges = [re.findall(r"(?im)^range: (\S+)", head)[0] for head in heads]
    last = len(LARGE) - 1
    again = result.resumed_from - TransferOptions().overlap_bytes  # compared with what is in place
    assert ranges == [f"bytes=0-{last}", f"bytes={again}-{last}"]
    tags = {re.findall(r"(?im)^if-match: (\S+)", head)[0] for head in heads}
    assert len(tags) == 1
    assert Path(result.location).read_bytes() == LARGE


def test_point_77_a_version_that_the_url_names_is_read(cache: FileCache, s3: S3Remote) -> None:
    s3.put("a", b"first")
    version = s3.version
    s3.put("a", b"second")
    assert fetch(cache, s3, f"{s3.url('a')}?versionId={version}") == b"first"
    assert fetch(cache, s3) == b"second"


def test_point_75_a_server_without_rest_sends_the_beginning_again(cache: FileCache, tmp_path: Path) -> None:
    remote = FtpRemote(root(tmp_path, "no-rest"))
    remote.slow = True
    remote.start()
    remote.put("a", LARGE)
    fetcher = Fetcher(cache, remote.transport())
    order = FetchOrder("1", 1, FetchRequest(remote.url("a")))
    far: list[int] = []
    try:
        with pytest.raises(CancelledError):
            fetcher.fetch(
                order,
                progress=lambda received, *_: far.append(received),
                cancelled=lambda: bool(far) and far[-1] > SMALL_BYTES,
            )
        result = fetcher.fetch(order)
    finally:
        fetcher.close()
        remote.stop()
    assert "REST" in " ".join(remote.log())
    assert result.resumed_from > SMALL_BYTES
    assert Path(result.location).read_bytes() == LARGE


@pytest.mark.parametrize("kind", [FtpRemote, SftpRemote, S3Remote, GsRemote, WebdavRemote])
def test_a_credential_of_the_vault_is_what_is_logged_in_with(
    cache: FileCache, tmp_path: Path, kind: type[Remote]
) -> None:
    remote = kind(root(tmp_path))
    vault = Vault(tmp_path / "vault")
    try:
        remote.start()
        remote.put("a", b"bytes")
        user, password, key = remote.identity[:3]
        if kind is S3Remote:
            given = vault.give("bucket", "s3", access_key=user, secret_key=password)
        elif kind is GsRemote:
            given = vault.give("bucket", "bearer", token=remote.identity.token)
        elif kind is SftpRemote:
            given = vault.give(remote.place, "ssh", owner="ada", user=user, key=key)
        else:
            given = vault.give(remote.place, "basic", user=user, password=password)
        fetcher = Fetcher(cache, RemoteTransport(remote.site()), wallet=vault.wallet())
        result = fetcher.fetch(FetchOrder("1", 1, FetchRequest(remote.url("a"), owner="ada")))
        assert Path(result.location).read_bytes() == b"bytes"
        assert vault.store.notes(given.id).accepted_at is not None
        vault.service.remove(given.id)
        fetcher.close()
        fetcher = Fetcher(cache, RemoteTransport(remote.site()), wallet=vault.wallet())
        with pytest.raises(CredentialRequiredError, match="stager credentials add"):
            fetcher.fetch(FetchOrder("2", 1, FetchRequest(remote.url("a"), owner="ada", refresh=True)))
        fetcher.close()
    finally:
        remote.stop()


def test_a_scheme_whose_package_is_missing_names_the_extra(
    cache: FileCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "stager.transfer.remote.s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    remote = FtpRemote(root(tmp_path))
    with pytest.raises(SchemeError, match=re.escape("install stager[s3] there")) as caught:
        fetch(cache, remote, "s3://bucket/a")
    assert not caught.value.transient


def test_a_scheme_that_only_fsspec_knows_is_read_where_the_site_names_it(tmp_path: Path) -> None:
    def ask(url: str, site: Site) -> None:
        transport = RemoteTransport(site)
        try:
            transport.open(Request(parse_url(url), {}), lambda _: None).close()
        finally:
            transport.close()

    with pytest.raises(SchemeError, match="unchecked_schemes"):
        ask("ssh://127.0.0.1/a", Site())
    with pytest.raises(AddressRefusedError, match=r"127\.0\.0\.1"):
        ask("ssh://127.0.0.1/a", Site(generic={"ssh": {"username": "ada", "known_hosts": str(tmp_path)}}))
    with pytest.raises(SchemeError, match=r"fsspec has nothing that reads it: .*boxfs"):
        ask("box://folder/a", Site(generic={"box": {}}))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"file": {}}, "names 'file'"),
        ({"zip": {}}, "names 'zip'"),
        ({"abfs": {"sas_token": "canary"}}, "gives sas_token to abfs"),
    ],
)
def test_what_reads_this_host_and_what_is_secret_is_no_setting(
    given: dict[str, dict[str, str]], said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        list(scheme_checks(Settings(unchecked_schemes=given)))
    assert "canary" not in str(caught.value.to_dict())
    first, *_ = scheme_checks(Settings(unchecked_schemes={"ssh": {"username": "ada"}}))
    assert first.finding.endswith("s3, ssh")


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_the_certificates_that_the_site_trusts_hold_for_buckets(tmp_path: Path, scheme: str) -> None:
    remote = {"gs": GsRemote, "s3": S3Remote}[scheme](root(tmp_path))
    remote.start()
    remote.put("a", b"bytes")
    try:
        with TlsProxy(remote.port) as tls:
            for bundle in (str(TLS_DIRECTORY / "ca.pem"), ""):
                endpoints = {scheme: f"https://localhost:{tls.port}"}
                site = replace(remote.site(), endpoints=endpoints, ca_bundle=bundle)
                cache = FileCache(tmp_path / f"cache{len(bundle)}")
                if bundle:
                    assert fetch(cache, remote, site=site) == b"bytes"
                else:
                    with pytest.raises(FetchError, match=r"(?i)certificate|ssl"):
                        fetch(cache, remote, site=site)
    finally:
        remote.stop()


def test_a_directory_of_a_share_or_one_behind_a_backslash_is_no_file(
    cache: FileCache, tmp_path: Path
) -> None:
    remote = SmbRemote(root(tmp_path))
    remote.put("a", b"bytes")
    (remote.files / "below").mkdir()
    remote.start()
    try:
        for name in ("below", ""):
            with pytest.raises(OriginRefusedError, match=r"not a regular file|404"):
                fetch(cache, remote, remote.url(name))
        for name in ("below\\..\\a", "below/..%2Fa", "below//a"):
            with pytest.raises(OriginRefusedError, match="404"):
                fetch(cache, remote, remote.url("") + name.replace("\\", "%5C"))
        with pytest.raises(OriginRefusedError, match="404"):
            fetch(cache, remote, f"smb://{remote.place}/elsewhere/a")
        assert fetch(cache, remote, remote.url("a")) == b"bytes"
    finally:
        remote.stop()


@pytest.mark.parametrize("scheme", ["gs", "smb", "webdav"])
def test_a_scheme_that_the_site_does_not_read_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scheme: str
) -> None:
    monkeypatch.setenv("STAGER_OTHER_SCHEMES", ",".join({"gs", "smb", "webdav"} - {scheme}))
    done = Here(capsys)("fetch", f"{scheme}://bucket/a", "--cache", tmp_path / "cache")
    assert done.code != 0
    assert f'adds "{scheme}" to the setting other_schemes' in " ".join(done.err.split())


@pytest.mark.parametrize("farm", ["threads", "process", "aio"])
def test_a_job_has_an_input_of_another_scheme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], farm: str
) -> None:
    remote = FtpRemote(root(tmp_path))
    remote.identity = Identity()  # anybody
    remote.start()
    remote.put("a.dat", b"bytes")
    for name, value in {
        "ALLOWED_NETWORKS": "127.0.0.0/8", "FARM": farm, "CACHE_DIR": str(tmp_path / "cache"),
        "STATE_DIR": str(tmp_path / "state"),
    }.items():  # fmt: skip
        monkeypatch.setenv(f"STAGER_{name}", value)
    try:
        done = Here(capsys)("run", "--input", remote.url("a.dat"), "--", "cat", "inputs/a.dat")
    finally:
        remote.stop()
    assert (done.code, done.out) == (0, "bytes"), done.err


def test_the_command_line_reads_buckets_at_the_endpoint_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], s3: S3Remote
) -> None:
    s3.put("a", b"bytes")
    monkeypatch.setenv("STAGER_ENDPOINTS", json.dumps({"s3": f"http://{s3.place}"}))
    done = Here(capsys)("fetch", s3.url("a"), "--cache", tmp_path / "cache")
    assert "wants a credential" in done.err
    assert b"bucket" in s3.wire.requests
    for name in ("STATE", "CACHE"):
        monkeypatch.setenv(f"STAGER_{name}_DIR", str(tmp_path / name.lower()))
    user, secret = s3.identity[:2]
    given = command("credentials", "add", "bucket", "--kind", "s3", "--user", user, "--stdin")
    subprocess.run(given, input=secret, text=True, check=True, capture_output=True, timeout=30)
    done = Here(capsys)("fetch", s3.url("a"))
    assert Path(done.out.strip()).read_bytes() == b"bytes", done.err
    assert secret not in done.err


def test_doctor_says_what_can_be_read_and_what_is_missing_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(file_roots=(tmp_path, tmp_path / "gone"), sftp_known_hosts=str(tmp_path / "none"))
    first, *others = scheme_checks(settings)
    assert first.finding == "http, https, file, ftp, sftp, s3"
    assert [(one.name, one.verdict) for one in others] == [
        ("file_roots", Health.WARNING), ("sftp_known_hosts", Health.WARNING),
    ]  # fmt: skip
    monkeypatch.setattr("stager.wiring.schemes.find_spec", lambda name: None if name == "sshfs" else name)
    first, *_ = scheme_checks(Settings())
    assert (first.verdict, first.finding) == (
        Health.OK, "http, https, file, ftp, s3; not installed: stager[sftp]",
    )  # fmt: skip
    first, *_ = scheme_checks(Settings(other_schemes=("gs", "webdav")))
    assert first.finding == "http, https, file, ftp, s3, gs, webdav; not installed: stager[sftp]"
    monkeypatch.setattr("stager.wiring.schemes.find_spec", lambda name: None if name == "gcsfs" else name)
    first, *_ = scheme_checks(Settings(other_schemes=("gs",)))
    assert first.verdict is Health.WARNING
    assert "not installed: stager[gs]" in first.finding
