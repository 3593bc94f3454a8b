"""Who may ask, for which host, how much; and how the API describes itself."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stager.errors import ConflictError, SettingsError
from stager.server.guard import MAX_BODY_BYTES
from stager.server.listen import check_users, listen_address, open_socket, url_of
from tests.support.api import TOKEN, Api, running_api


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("guard")) as running:
        yield running


def operations(api: Api) -> list[tuple[str, str, dict[str, Any]]]:
    found = api("GET", "/openapi.json", token=None).json()["paths"]
    return [
        (path, method.upper(), what) for path, methods in found.items() for method, what in methods.items()
    ]


@pytest.mark.parametrize("token", [None, "", "t", TOKEN + "t", TOKEN[:-1], "é"])
def test_a_wrong_token_is_refused_with_a_problem(api: Api, token: str | None) -> None:
    answer = api("GET", "/v1/status", token=token if token is None else token.encode().decode("latin-1"))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "access-denied"
    assert TOKEN not in answer.text


def test_another_way_to_show_the_token_is_refused(api: Api) -> None:
    api.problem("GET", f"/v1/status?token={TOKEN}", 401, token=None)
    api.problem("GET", "/v1/status", 401, token=None, headers={"Authorization": f"Basic {TOKEN}"})


def test_every_call_below_v1_needs_the_token_even_with_a_body_that_makes_no_sense(api: Api) -> None:
    calls = [(path, method) for path, method, _ in operations(api) if path.startswith("/v1")]
    assert len(calls) >= 10
    for path, method in calls:
        there = re.sub(r"\{.*?\}", "x", path)
        if method.upper() == "HEAD":  # its problem is told without words
            assert api(method, there, token=None, data=b"{").status_code == 401
        else:
            api.problem(method, there, 401, token=None, data=b"{")
    api.problem("GET", "/v1/nothing", 401, token=None)
    api.problem("GET", "/v1", 401, token=None)


def test_health_and_description_need_no_token(api: Api) -> None:
    for path in ("/healthz", "/docs", "/openapi.json"):
        assert api("GET", path, token=None).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "localhost.evil"])
def test_a_request_for_another_host_is_refused_whatever_it_shows(api: Api, host: str) -> None:
    assert api.problem("GET", "/v1/status", 421, headers={"Host": host})["code"] == "bad-input"
    api.problem("GET", "/docs", 421, headers={"Host": host})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8717", "[::1]:8717", "127.9.9.9"])
def test_the_machines_own_names_are_served_at_any_port(api: Api, host: str) -> None:
    assert api("GET", "/v1/status", headers={"Host": host}).status_code == 200


def test_a_body_that_is_announced_too_large_is_refused(api: Api) -> None:
    found = api.problem("POST", "/v1/jobs", 413, data=b" " * (MAX_BODY_BYTES + 1))
    assert str(MAX_BODY_BYTES) in found["what"]


def test_a_body_that_turns_out_too_large_is_refused(api: Api) -> None:
    def blocks() -> Iterator[bytes]:
        for _ in range(9):
            yield b" " * (1024 * 1024)

    found = api.problem("POST", "/v1/jobs", 413, data=blocks(), headers={"Content-Type": "application/json"})
    assert str(MAX_BODY_BYTES) in found["what"]


def test_no_answer_is_kept_by_anybody_or_taken_for_another_type(api: Api) -> None:
    headers = api("GET", "/v1/status").headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "server" not in headers


def test_every_call_is_described_with_its_problems(api: Api) -> None:
    described = api("GET", "/openapi.json", token=None).json()
    for path, method, what in operations(api):
        assert what["summary"], (path, method)
        assert what["description"], (path, method)
        if path.startswith("/v1"):
            problem = what["responses"]["401"]["content"]["application/problem+json"]["schema"]
            assert problem == {"$ref": "#/components/schemas/Problem"}
            assert "422" in what["responses"]
            assert what["security"]
    for reference in re.findall(r'"\$ref": ?"([^"]+)"', api("GET", "/openapi.json", token=None).text):
        assert reference.removeprefix("#/components/schemas/") in described["components"]["schemas"]
    assert "HTTPValidationError" not in str(described["paths"])


def test_the_page_shows_every_call_and_asks_nothing_of_any_other_host(api: Api) -> None:
    answer = api("GET", "/docs", token=None)
    page = answer.text
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    for path, method, _ in operations(api):
        assert f">{method}</span> {path}" in page
    links = re.findall(r"""(?:href|src|action|srcset|data)\s*=\s*["']?([^"'\s>]*)""", page)
    assert links
    assert all(link.startswith(("/", "#")) and not link.startswith("//") for link in links)
    assert not re.search(r"(?i)<script|<link|<iframe|<img|url\(|@import", page)
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    for link in links:
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in page


@pytest.mark.parametrize("listen", ["0.0.0.0", "::", "192.168.1.5", "2001:db8::1"])
def test_a_server_that_others_could_reach_is_refused_without_encryption_and_without_users(
    listen: str,
) -> None:
    with pytest.raises(SettingsError, match="other machines could reach it, and nothing is encrypted"):
        listen_address(listen)
    assert listen_address(listen, encrypted=True) == listen_address(listen, plain=True) == listen
    with pytest.raises(SettingsError, match="other machines could reach it, and no user has a token"):
        check_users(listen, there_are=False)
    check_users(listen, there_are=True)


def test_a_name_is_no_address_to_listen_on() -> None:
    with pytest.raises(SettingsError, match="no address"):
        listen_address("example.org")


@pytest.mark.parametrize(
    ("listen", "address"), [("localhost", "127.0.0.1"), ("127.0.0.2", "127.0.0.2"), ("[::1]", "::1")]
)
def test_loopback_addresses_are_listened_on(listen: str, address: str) -> None:
    assert listen_address(listen) == address
    check_users(address, there_are=False)


def test_a_port_that_is_taken_is_a_conflict_with_a_way_out() -> None:
    with open_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConflictError, match="--port"):
            open_socket("127.0.0.1", port)


def test_the_url_of_an_ipv6_address_is_one() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with open_socket("::1", 0) as listening:
        assert url_of(listening).startswith("http://[::1]:")


def test_the_token_reaches_no_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    api("GET", "/v1/status")
    assert "GET /v1/status 200" in caplog.text
    assert TOKEN not in caplog.text


def test_the_server_makes_its_token_once(tmp_path: Path) -> None:
    from stager.server.token import ensure_token, read_token

    path = tmp_path / "state" / "token"
    token = ensure_token(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(token) >= 43
    assert ensure_token(path) == token == read_token(path)
    assert [p.name for p in path.parent.iterdir()] == ["token"]


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    from stager.server.token import ensure_token

    path = tmp_path / "token"
    ensure_token(path)
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="open to others"):
        ensure_token(path)


@pytest.mark.parametrize("content", ["", "short\n", "\0" * 40])
def test_a_file_that_holds_no_token_is_refused(tmp_path: Path, content: str) -> None:
    from stager.server.token import ensure_token

    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="holds no token"):
        ensure_token(path)


def test_a_body_that_is_no_text_is_bad_input_like_any_other(api: Api) -> None:
    headers = {"Content-Type": "application/json"}
    found = api.problem("POST", "/v1/jobs", 422, data=b"\x81#~\xff\r.", headers=headers)
    assert (found["code"], found["what"]) == ("bad-input", "the body can't be read")


def test_a_number_that_no_database_holds_is_bad_input(api: Api) -> None:
    api.problem("GET", f"/v1/cache/files?offset={10**22}", 422)
    job = api("POST", "/v1/jobs", json={"command": ["true"]}).json()["ids"][0]
    api.problem("GET", f"/v1/jobs/{job}/logs/stdout?offset={10**22}", 422)
