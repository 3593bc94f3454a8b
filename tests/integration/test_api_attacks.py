"""What hostile requests get: guesses, floods, slow and oversized ones, paths and headers that try to be something else."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from stager.cli.exit_codes import Exit
from stager.model.principals import Role
from stager.server import guard, protocol
from stager.server.gate import Gate
from tests.support.commandline import Here
from tests.support.until import until
from tests.support.world import PATIENCE, TOKEN, World, world

WRONG = "stg_" + "A" * 43


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("attacks")) as made:
        yield made


def written(running: World) -> None:
    """All that was noted is in the audit log."""
    until(lambda: not running.server.audit._waiting, "the audit log is written")


def raw(running: World, text: bytes) -> bytes:
    """What a connection answers to these bytes, to its end."""
    with connection(running) as client:
        client.sendall(text)
        return whole(client)


def connection(running: World) -> socket.socket:
    host, port = running.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def whole(client: socket.socket) -> bytes:
    found = b""
    while block := client.recv(65536):
        found += block
    return found


def head(method: str, path: str, *lines: str) -> bytes:
    common = ("Host: localhost", f"Authorization: Bearer {TOKEN}")
    return "\r\n".join([f"{method} {path} HTTP/1.1", *common, *lines, "", ""]).encode()


# -- guesses and floods ----------------------------------------------------------------------------


def test_who_guesses_is_told_to_wait_and_whoever_has_a_token_is_not(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        ada = made.user("ada", Role.USER)
        tries = 0
        while (answer := made("GET", "/v1/status", WRONG)).status_code == 401:
            tries += 1
            assert tries < 500
        assert answer.status_code == 429
        assert tries >= 20
        assert answer.json()["code"] == "too-many-requests"
        assert int(answer.headers["Retry-After"]) >= 1
        for _ in range(100):
            assert made("GET", "/v1/status", WRONG).status_code in {401, 429}
        page = made("POST", "/login", None, data={"token": WRONG, "to": "/"}, headers={"Origin": made.url})
        assert page.status_code in {401, 429}, "the page's guesses are counted with them"
        assert made("GET", "/v1/status", ada).status_code == 200
        assert made("GET", "/v1/status", TOKEN).status_code == 200
        written(made)
        refused = [one for one in made.server.audit.entries(limit=1000) if one.status in {401, 429}]
        assert 20 <= len(refused) < tries + 100, "a flood of guesses does not fill the log"
        assert {one.address for one in refused} == {"127.0.0.1"}
        assert WRONG not in str(refused)


def test_a_user_who_asks_too_often_is_told_to_wait_and_no_other_is(tmp_path: Path) -> None:
    with world(tmp_path, requests_per_second=1.0) as made:
        ada, bob = made.user("ada", Role.USER), made.user("bob", Role.USER)
        tries = 0
        while (answer := made("GET", "/v1/whoami", ada)).status_code == 200:
            tries += 1
            assert tries < 5000
        assert tries >= 4
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) >= 1
        assert made("GET", "/v1/whoami", bob).status_code == 200
        for _ in range(50):
            assert made("GET", "/v1/whoami", TOKEN).status_code == 200


def test_no_limit_costs_nothing() -> None:
    async def app(*_: object) -> None:
        raise AssertionError

    assert Gate(app, None)._rates is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("user", "change"), [("una", {"disabled": True}), ("uma", {"role": Role.USER})])
def test_a_stream_of_events_ends_with_what_the_token_that_was_shown_for_it_says(
    running: World, user: str, change: dict[str, Any]
) -> None:
    token = running.user(user, Role.READER)
    headers = {"Authorization": f"Bearer {token}"}
    with requests.get(f"{running.url}/v1/events", headers=headers, stream=True, timeout=PATIENCE) as stream:
        lines = stream.iter_lines(chunk_size=1)
        assert any(b"hello" in line for line in lines)
        assert running("PUT", f"/v1/preconditions/before-{user}", TOKEN).status_code == 200
        assert any(b"before-" in line for line in lines)
        running.server.accounts.change_user(user, **change)
        assert running("PUT", f"/v1/preconditions/after-{user}", TOKEN).status_code == 200
        assert not any(b"after-" in line for line in lines), "and the stream ends"


# -- who did what ----------------------------------------------------------------------------------


def test_who_did_what_is_in_the_audit_log_and_who_only_looked_is_not(running: World) -> None:
    ada = running.user("ada", Role.USER)
    jobs = [{"command": ["/bin/true"], "after": ["never"]}] * 2
    ids = running("POST", "/v1/jobs", ada, json=jobs).json()["ids"]
    asked = running("POST", f"/v1/jobs/{ids[0]}/cancel", ada, headers={"X-Request-Id": "mine-1"})
    assert asked.status_code == 200
    assert running("GET", "/v1/jobs", ada).status_code == 200
    assert running("POST", "/v1/users", ada, json={"name": "eve"}).status_code == 403
    written(running)
    answer = running("GET", "/v1/audit?user=ada", TOKEN).json()
    found = [(one["action"], one["subject"], one["status"]) for one in answer["entries"]]
    assert found == [
        ("POST /v1/users", "/v1/users", 403),
        ("POST /v1/jobs/{job}/cancel", f"/v1/jobs/{ids[0]}/cancel", 200),
        ("POST /v1/jobs", " ".join(ids), 201),
    ]
    assert answer["entries"][1]["request"] == "mine-1"
    assert {one["role"] for one in answer["entries"]} == {"user"}
    assert all(one["token"] and one["address"] == "127.0.0.1" for one in answer["entries"])


def test_what_is_for_everybody_is_read_unnoted_and_what_is_not_is_noted(running: World) -> None:
    zoe = running.user("zoe", Role.USER)
    public, restricted = running.put("somebody"), running.restricted("zoe")
    for key in (public, restricted):
        assert running("GET", f"/v1/cache/content/{quote(key, safe='')}", zoe).status_code == 200
    written(running)
    assert [one.subject.rpartition("-")[0] for one in running.server.audit.entries(who="zoe")] == [
        "/v1/cache/content/http://data.example.org/restricted"
    ]


def test_no_secret_that_is_given_or_made_is_in_the_audit_log(running: World) -> None:
    secret = "canary-" + "x" * 20
    body = {"host": "h.example.org", "kind": "bearer", "parts": {"token": secret}}
    assert running("POST", "/v1/credentials", TOKEN, json=body).status_code == 201
    running.server.accounts.add_user("tim", Role.USER)
    made = running("POST", "/v1/tokens", TOKEN, json={"user": "tim"}).json()
    written(running)
    entries = str(running.server.audit.entries(limit=1000))
    assert "h.example.org" in entries
    assert made["id"] in entries
    assert secret not in entries
    assert made["secret"] not in entries


def test_the_command_shows_it(
    running: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGER_SERVER", running.url)
    monkeypatch.setenv("STAGER_TOKEN", TOKEN)
    running.user("ann", Role.OPERATOR)
    running("PUT", "/v1/preconditions/shown", TOKEN)
    written(running)
    lines = Here(capsys)("audit", "--user", "server", "--json", "--since", "1d").lines
    assert json.loads(lines[0])["action"] == "PUT /v1/preconditions/{name}"
    assert "/v1/preconditions/shown" in Here(capsys)("audit").out
    monkeypatch.setenv("STAGER_TOKEN", running.server.accounts.create_token("ann").secret)
    assert Here(capsys)("audit").code == Exit.SERVER


# -- slow and oversized ----------------------------------------------------------------------------


def test_a_head_that_does_not_end_is_not_waited_for(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    with connection(running) as nothing, connection(running) as some, connection(running) as second:
        some.sendall(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        second.sendall(head("GET", "/healthz"))
        answer = b""
        while not answer.endswith(b"}"):
            answer += second.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        second.sendall(b"GET /v1/status HTTP/1.1\r\n")
        for client in (nothing, some, second):
            assert whole(client) == b""


def test_a_body_that_stops_is_not_waited_for(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SILENCE_SECONDS", 0.3)
    for method, path in (("POST", "/v1/jobs"), ("PUT", "/v1/cache/files/slow")):
        answer = raw(
            running, head(method, path, "Content-Length: 100", "Content-Type: application/json") + b"["
        )
        assert answer.startswith(b"HTTP/1.1 408"), answer
        assert b"application/problem+json" in answer
    assert running("GET", "/v1/cache/content/slow", TOKEN).status_code == 404


def test_a_body_that_drips_has_an_end(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.5)
    answered = threading.Event()
    with connection(running) as client:
        client.sendall(head("POST", "/v1/jobs", "Content-Length: 1000000"))

        def drip() -> None:
            while not answered.wait(0.02):
                try:
                    client.sendall(b" ")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert client.recv(65536).startswith(b"HTTP/1.1 408")
        finally:
            answered.set()
            thread.join(PATIENCE)


def test_a_head_that_is_too_large_is_refused(running: World) -> None:
    with closing(connection(running)) as client:
        try:
            client.sendall(head("GET", "/v1/status", "X-Large: " + "x" * 200_000))
            answer = whole(client)
        except OSError:  # it did not even read all of it
            return
        assert answer.startswith(b"HTTP/1.1 4"), answer


# -- what tries to be something else ---------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/{job}/results/../../../../etc/passwd",
        "/v1/jobs/{job}/results/..%2f..%2f..%2fstdout",
        "/v1/jobs/{job}/results/%2fetc%2fpasswd",
        "/v1/jobs/..%2f..%2fetc/logs/stdout",
        "/v1/jobs/{job}/logs/..%2f..%2fetc%2fpasswd",
        "/v1/jobs/%2e%2e/logs/stdout",
        "/v1/cache/content/../../../../etc/passwd",
        "/v1/cache/content/%2fetc%2fpasswd",
        "/v1/cache/content/file:%2f%2f%2fetc%2fpasswd",
        "/v1/objects/..%2f..%2fetc%2fpasswd",
        "/v1/../../etc/passwd",
        "/static/..%2f..%2f..%2fetc%2fpasswd",
        "/static/%2e%2e/%2e%2e/app.py",
    ],
)
def test_a_path_leads_nowhere_but_to_what_it_names(running: World, path: str) -> None:
    job = running.done("somebody", "read")
    answer = raw(running, head("GET", path.replace("{job}", job), "Connection: close"))
    assert answer.split(b" ", 2)[1] in {b"401", b"404", b"405", b"422"}, answer
    assert b"root:" not in answer
    assert b"printed" not in answer


def test_a_key_with_dots_is_a_key(running: World, tmp_path: Path) -> None:
    key = quote("../../" + "../" * 20 + str(tmp_path / "outside"), safe="")
    assert running("PUT", f"/v1/cache/files/{key}", TOKEN, data=b"x").status_code == 201
    assert running("GET", f"/v1/cache/content/{key}", TOKEN).content == b"x"
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    "text", ["a\r\nSet-Cookie: stolen=1", 'a"; Set-Cookie: stolen=1', "a\nX: y", "é\r\n\r\n<p>"]
)
def test_no_header_of_an_answer_is_anothers_text(running: World, text: str) -> None:
    word = quote(text, safe="")
    assert running("PUT", f"/v1/cache/files/x{word}", TOKEN, data=b"x").status_code in {201, 404, 422}
    calls = (
        ("GET", f"/v1/cache/content/x{word}"),
        ("GET", f"/v1/jobs/{word}"),
        ("PUT", f"/v1/preconditions/{word}"),
        ("GET", f"/v1/objects/{word}"),
        ("GET", f"/login?to={word}"),
    )
    for method, path in calls:
        answer = running(method, path, TOKEN, allow_redirects=False)
        assert "set-cookie" not in answer.headers, path
        assert "x" not in answer.headers, path
        assert not any("\n" in value or "\r" in value for value in answer.headers.values())


@pytest.mark.parametrize("given", ["a b", "<script>", "x" * 65, "a\tb", ""])
def test_a_request_id_that_is_no_id_is_not_repeated(running: World, given: str) -> None:
    answer = running("GET", "/v1/status", TOKEN, headers={"X-Request-Id": given})
    assert answer.headers["X-Request-Id"] != given


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_another_sites_page_can_send_changes_nothing(running: World, kind: str) -> None:
    """A page can make a browser send a form, with the cookies of this site; it can't make it show a token."""
    before = running.server.jobs.counts()
    form = {"token": TOKEN, "to": "/"}
    login = running("POST", "/login", None, data=form, headers={"Origin": running.url}, allow_redirects=False)
    cookies = dict(login.cookies)
    assert cookies
    body = '{"command": ["/bin/true"]}'
    headers = {"Content-Type": kind, "Origin": "http://evil.example"}
    for more in ({}, {"cookies": cookies}, {"cookies": {"token": TOKEN, "Authorization": f"Bearer {TOKEN}"}}):
        answer = running("POST", "/v1/jobs", None, data=body, headers=headers, **more)
        assert answer.status_code in {401, 429}
    assert running.server.jobs.counts() == before
