"""A proxy that says who asks: believed from where it is, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stager.errors import SettingsError
from stager.model.principals import Role
from tests.support.until import until
from tests.support.world import TOKEN, World, world

HEADER = "X-Remote-User"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, proxy_networks=("127.0.0.0/8",), proxy_user_header=HEADER) as made:
        made.server.accounts.add_user("ada", Role.OPERATOR)
        yield made


def asked(made: World, method: str = "GET", path: str = "/v1/whoami", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return made(method, path, None, headers=named)


def test_a_user_whom_the_proxy_names_has_his_role(running: World) -> None:
    answer = asked(running, X_Remote_User="ada")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["name"], answer.json()["role"]) == ("ada", "operator")


def test_who_is_not_known_disabled_or_no_name_is_refused(running: World) -> None:
    running.server.accounts.add_user("eve", Role.ADMIN)
    running.server.accounts.change_user("eve", disabled=True)
    for name in ("bob", "eve", "server", "", "a b", "../x"):
        assert asked(running, X_Remote_User=name).status_code == 401, name
    assert asked(running).status_code == 401


def test_a_token_goes_before_what_the_proxy_says(running: World) -> None:
    answer = running("GET", "/v1/whoami", TOKEN, headers={HEADER: "ada"})
    assert answer.json()["name"] == "server"
    assert running("GET", "/v1/whoami", "stg_" + "A" * 43, headers={HEADER: "ada"}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_another_sites_page_changes_nothing_through_the_proxy(
    running: World, headers: dict[str, str]
) -> None:
    call = ("PUT", "/v1/preconditions/forged")
    assert asked(running, *call, X_Remote_User="ada", **headers).status_code == 401
    assert not running.server.jobs.preconditions()
    own = {"Origin": running.url, "Sec_Fetch_Site": "same-origin", "X_Remote_User": "ada"}
    assert asked(running, *call, **own).status_code == 200


def test_nobody_else_is_believed(tmp_path: Path) -> None:
    with world(tmp_path, proxy_networks=("192.0.2.0/24",), proxy_user_header=HEADER) as made:
        made.server.accounts.add_user("ada", Role.ADMIN)
        assert asked(made, X_Remote_User="ada").status_code == 401
        made("PUT", "/v1/preconditions/x", TOKEN, headers={"X-Forwarded-For": "203.0.113.9"})
        until(lambda: made.server.audit.entries(who="server"), "the audit log is written")
        assert {one.address for one in made.server.audit.entries()} == {"127.0.0.1"}


def test_a_header_without_proxies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="proxy_networks"), world(tmp_path, proxy_user_header=HEADER):
        pass


def test_whom_the_proxy_alone_knows_has_the_role_that_is_set(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "proxy_networks": ("127.0.0.1/32",),
        "proxy_user_header": HEADER,
        "proxy_unknown_role": "reader",
    }
    with world(tmp_path, **given) as made:
        assert asked(made, X_Remote_User="bob").json()["role"] == "reader"


def test_where_a_request_came_from_is_what_the_proxy_met(running: World) -> None:
    forwarded = {"X_Forwarded_For": "198.51.100.1, 203.0.113.9", "X_Remote_User": "ada"}
    assert asked(running, "PUT", "/v1/preconditions/x", **forwarded).status_code == 200
    until(lambda: running.server.audit.entries(who="ada"), "the audit log is written")
    (entry,) = running.server.audit.entries(who="ada")
    assert entry.address == "203.0.113.9", "what the client itself says does not count"
