"""`stager credentials`, without a server and with one; how a fetch ends that wants one; the API."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.credentials.files import FileStore
from stager.credentials.keys import KeyFiles
from tests.support.commandline import Here, command
from tests.support.origin import Answer, Origin, content, status
from tests.support.processes import ServerProcess
from tests.support.vault import basic, guarded, place

DATA = b"behind a login"
HOST = "data.example.org"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STAGER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STAGER_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "state"


@pytest.fixture
def stager(capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(capsys)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


def opened(state: Path) -> list[dict[str, str]]:
    root = state / "credentials"
    opener = KeyFiles(root / "key", root / "key.pub").opener()
    return [opener.open(row.sealed, row.key)["parts"] for row in FileStore(root).rows()]


def give(*arguments: object, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("credentials", *arguments), input=said, env=os.environ.copy(), capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip


def test_a_fetch_without_one_ends_with_a_status_of_its_own_and_goes_once_it_is_given(
    stager: Here, origin: Origin
) -> None:
    url = origin.serve("/a", guarded(DATA, lambda h: h.get("authorization") == basic()))
    here = place(origin.base)
    failed = stager("fetch", url)
    assert failed.code == 8
    assert f"stager credentials add {here}" in failed.error
    (facts,) = map(json.loads, stager("fetch", "--json", url).lines)
    assert facts["error"]["code"] == "credential-required"
    assert (
        give("add", here, "--user", "ada", "--allow-http", "--stdin", said="canary-password\n").returncode
        == 0
    )
    fetched = stager("fetch", url)
    assert (fetched.code, Path(fetched.lines[0]).read_bytes()) == (0, DATA)
    tested = stager("credentials", "test", url)
    assert (tested.code, "opens with basic" in tested.out) == (0, True)
    (listed,) = map(json.loads, stager("credentials", "ls", "--json").lines)
    assert (listed["host"], listed["user"], listed["state"]) == (here, "ada", "accepted")
    assert listed["used_at"] is not None
    assert "canary" not in stager("credentials", "ls").out


def test_a_refused_one_is_told_by_test_and_by_ls_and_rotated(stager: Here, origin: Origin) -> None:
    url = origin.serve("/a", guarded(DATA, lambda h: h.get("authorization") == basic()))
    here = place(origin.base)
    given = give("add", here, "--user", "ada", "--allow-http", "--stdin", said="canary-wrong")
    refused = stager("credentials", "test", url)
    assert refused.code == 8
    assert f"stager credentials rotate {given.stdout.strip()}" in refused.error
    assert "\trefused\t" in stager("credentials", "ls").out
    assert give("rotate", here, "--stdin", said="canary-password").returncode == 0
    assert stager("fetch", url).code == 0


@pytest.mark.parametrize(
    ("arguments", "said", "parts"),
    [
        (("--stdin",), "canary-t\n", {"token": "canary-t"}),
        (("--user", "ada", "--stdin"), "canary-p", {"user": "ada", "password": "canary-p"}),
        (
            ("--kind", "basic", "--stdin"),
            '{"user": "ada", "password": "p"}',
            {"user": "ada", "password": "p"},
        ),
        (("--kind", "header", "--set", "name=X-Key", "--stdin"), "v", {"name": "X-Key", "value": "v"}),
        (("--kind", "s3", "--user", "AK", "--stdin"), "sk", {"access_key": "AK", "secret_key": "sk"}),
        (
            ("--kind", "oauth2-client", "--user", "me", "--set", "token_url=https://h.example/t", "--stdin"),
            "cs",
            {"client_id": "me", "client_secret": "cs", "token_url": "https://h.example/t"},
        ),
        (
            ("--kind", "ssh", "--user", "ada", "--stdin"),
            "line\nline\n",
            {"user": "ada", "key": "line\nline\n"},
        ),
    ],
)
def test_the_secret_comes_from_stdin(
    state: Path, arguments: tuple[str, ...], said: str, parts: dict[str, str]
) -> None:
    done = give("add", HOST, *arguments, said=said)
    assert done.returncode == 0, done.stderr
    assert opened(state) == [parts]


def test_the_secret_comes_from_a_file_or_netrc(stager: Here, state: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("canary-token\n")
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {HOST} login ada password canary-netrc\n")
    netrc.chmod(0o600)
    assert stager("credentials", "add", HOST, "--from-file", tmp_path / "token").code == 0
    assert stager("credentials", "add", HOST, "--netrc", netrc, "--site").code == 0
    assert sorted(map(str, opened(state))) == sorted(
        ["{'token': 'canary-token'}", "{'user': 'ada', 'password': 'canary-netrc'}"]
    )
    rows = [json.loads(line) for line in stager("credentials", "ls", "--json").lines]
    assert {(row["kind"], row["owner"] == "") for row in rows} == {("bearer", False), ("basic", True)}


def test_the_secret_is_asked_for_hidden_at_a_terminal(state: Path) -> None:
    ours, theirs = pty.openpty()
    arguments = command("credentials", "add", HOST, "--user", "ada")
    with subprocess.Popen(
        arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ.copy(), start_new_session=True
    ) as asking:
        os.close(theirs)
        shown = b""
        while f"password of ada for {HOST}: ".encode() not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, b"canary-typed\n")
        with contextlib.suppress(OSError):  # that is how a terminal ends
            while data := os.read(ours, 4096):
                shown += data
    os.close(ours)
    assert asking.returncode == 0, shown
    assert b"canary" not in shown
    assert opened(state) == [{"user": "ada", "password": "canary-typed"}]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("add", "https://h.example/x", "--stdin"), "is no host"),
        (("add", "*.org", "--stdin"), "covers too much"),
        (("add", HOST), "nobody to ask"),
        (("add", HOST, "--kind", "magic", "--stdin"), "the kinds are"),
        (("add", HOST, "--set", "password=canary", "--stdin"), "was given as an argument"),
        (("add", HOST, "--site", "--owner", "ann", "--stdin"), "give one"),
        (("add", HOST, "--stdin", "--from-file", "x"), "several places"),
        (("add", HOST, "--from-file", "/nowhere"), "can't be read"),
        (("add", HOST, "--netrc", "/nowhere"), "can't be read"),
        (("add", HOST, "--kind", "ssh", "--user", "ada"), "--from-file"),
        (("add", HOST, "--prefix", "x", "--stdin"), "no prefix"),
        (("add", HOST, "--expires", "soon", "--stdin"), "no length of time"),
        (
            ("add", HOST, "--kind", "basic", "--stdin"),
            "needs user: it is empty or missing; give it with --user",
        ),
        (("add", HOST, "--kind", "header", "--stdin"), "give it with --set name=VALUE"),
    ],
)
def test_nonsense_is_refused_without_being_repeated_and_nothing_is_kept(
    state: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    done = give(*arguments, said="canary-secret")
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "canary-secret" not in done.stderr
    assert not (state / "credentials" / "rows").exists()


def test_a_private_key_that_others_can_read_is_refused(stager: Here, tmp_path: Path) -> None:
    key = tmp_path / "id"
    key.write_text("canary-key")
    key.chmod(0o644)
    done = stager("credentials", "add", HOST, "--kind", "ssh", "--user", "ada", "--from-file", key)
    assert done.code == 2
    assert "chmod 600" in done.error
    key.chmod(0o600)
    assert stager("credentials", "add", HOST, "--kind", "ssh", "--user", "ada", "--from-file", key).code == 0


@pytest.mark.parametrize(
    ("url", "code", "complaint"),
    [
        ("file:///etc/hostname", 1, "file_roots"),
        ("ftp://127.0.0.1:1/x", 1, "may not be fetched"),
        ("sftp://127.0.0.1:1/x", 8, "add 127.0.0.1:1 --user NAME`"),
    ],
)
def test_other_schemes_are_tested_as_they_are_fetched(
    stager: Here, url: str, code: int, complaint: str
) -> None:
    done = stager("credentials", "test", url)
    assert (done.code, complaint in done.error) == (code, True), done.error


def test_a_file_of_another_scheme_is_tested(
    stager: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots/a").write_text("a")
    monkeypatch.setenv("STAGER_FILE_ROOTS", json.dumps([str(tmp_path / "roots")]))
    assert stager("credentials", "test", f"file://{tmp_path}/roots/a").lines == ["opens without a credential"]


def test_what_is_not_there_is_told(stager: Here) -> None:
    assert stager("credentials", "rm", HOST).code == 3
    assert stager("credentials", "rotate", HOST).code == 3
    assert stager("credentials", "ls", "--json").out == ""


def test_keys_are_rotated_and_what_can_not_be_opened_is_named(stager: Here, state: Path) -> None:
    give("add", HOST, "--stdin", said="canary-1")
    before = (state / "credentials" / "key").read_text()
    done = stager("credentials", "rotate-keys")
    assert (done.code, done.out) == (0, "1 credentials are sealed for a new key\n")
    assert (state / "credentials" / "key").read_text() != before
    assert opened(state) == [{"token": "canary-1"}]
    for name in ("key", "key.pub"):
        (state / "credentials" / name).unlink()
    lost = stager("credentials", "rotate-keys")
    assert lost.code == 1
    assert "stager credentials rotate" in lost.error


def test_a_refresh_token_is_granted_in_a_browser(stager: Here, state: Path, origin: Origin) -> None:
    def said(code: int, **values: object) -> Answer:
        return status(code, {"Content-Type": "application/json"}, json.dumps(values).encode())

    page = "https://portal.example/device"
    device = origin.serve(
        "/device", said(200, device_code="canary-d", user_code="ABCD", verification_uri=page, interval=0)
    )
    pending, done = (
        said(400, error="authorization_pending"),
        said(200, access_token="a", refresh_token="canary-r"),
    )
    token = origin.serve("/token", pending, pending, done)
    given = stager(
        "credentials", "add", HOST, "--kind", "oauth2-refresh", "--user", "me", "--allow-http",
        "--set", f"device_url={device}", "--set", f"token_url={token}",
    )  # fmt: skip
    assert given.code == 0, given.err
    assert f"open {page} and enter ABCD" in given.err
    assert "canary" not in given.out + given.err
    assert [parts["refresh_token"] for parts in opened(state)] == ["canary-r"]
    origin.serve("/token", said(400, error="access_denied"))
    denied = stager(
        "credentials", "add", HOST, "--kind", "oauth2-refresh", "--user", "me", "--allow-http",
        "--set", f"device_url={device}", "--set", f"token_url={token}",
    )  # fmt: skip
    assert denied.code == 8
    asked = len(origin.seen())
    plain = stager(
        "credentials", "add", HOST, "--kind", "oauth2-refresh", "--user", "me",
        "--set", f"device_url={device}", "--set", f"token_url={token}",
    )  # fmt: skip
    assert (plain.code, "not https" in plain.error, len(origin.seen())) == (2, True, asked)
    assert len(opened(state)) == 1


def test_doctor_says_what_is_wrong_with_them(stager: Here, state: Path) -> None:
    def found() -> tuple[str, str]:
        lines = [json.loads(line) for line in stager("doctor", "--json").lines]
        (one,) = [line for line in lines if line["check"] == "credentials"]
        return one["verdict"], one["finding"]

    assert found() == ("skipped", "none were given")
    give("add", HOST, "--stdin", said="canary-1")
    assert found() == ("ok", "1, sealed, and opened here")
    (state / "credentials" / "key").chmod(0o644)
    assert found()[0] == "failed"
    assert "open to others" in found()[1]


def test_a_configured_server_takes_them_and_its_api_says_the_same(
    stager: Here, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.serve("/a", content(DATA))
    server = ServerProcess(tmp_path / "there")
    try:
        monkeypatch.setenv("STAGER_SERVER", server.url)
        monkeypatch.setenv("STAGER_TOKEN_FILE", str(tmp_path / "there" / "state" / "token"))
        added = give(
            "add", HOST, "--user", "ada", "--owner", "ann", "--expires", "90d", "--stdin", said="canary-p"
        )
        assert added.returncode == 0, added.stderr
        assert opened(tmp_path / "there" / "state") == [{"user": "ada", "password": "canary-p"}]
        (listed,) = map(json.loads, stager("credentials", "ls", "--json").lines)
        assert (listed["id"], listed["owner"], listed["state"]) == (added.stdout.strip(), "ann", "given")
        with server.client() as client:
            (one,) = client.credentials.list(HOST, "ann")
            assert one.expires_at == listed["expires_at"]
            assert client.credentials.list(owner="bob") == []
            client.credentials.rotate(HOST, {"password": "canary-2"})
        assert opened(tmp_path / "there" / "state") == [{"user": "ada", "password": "canary-2"}]
        assert stager("credentials", "rm", HOST).code == 0
        assert stager("credentials", "ls", "--json").out == ""
        assert stager("credentials", "rm", HOST).code == 3
    finally:
        server.end()
    assert "canary" not in "\n".join(server.said)


def test_a_key_file_in_the_home_directory_is_named_as_a_shell_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    """In `--from-file=~/key` no shell replaces the tilde."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text("canary-key")
    (tmp_path / "key").chmod(0o600)
    done = give("add", HOST, "--kind", "ssh", "--user", "ada", "--from-file=~/key")
    assert (done.returncode, done.stderr) == (0, "")
    assert opened(state) == [{"user": "ada", "key": "canary-key"}]
