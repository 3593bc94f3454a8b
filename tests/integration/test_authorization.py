"""The whole matrix: each role at each call, with its own thing and with another's, as the one table says."""

# ruff: noqa: ARG005 - calls take a world and an owner, whether they need them or not
from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from stager.model.principals import Role
from stager.model.roles import RULES, Reach
from tests.support.world import TOKEN, World, world

OTHER = "somebody"


class Call(NamedTuple):
    """A call that is about a thing.

    Attributes:
        path: below the server's URL.
        shows: what the answer has in it if the thing is there for who asks; empty: nothing to look for.
        refused: the status when the thing is not there for him.
        more: for the request.
    """

    path: str
    shows: str = ""
    refused: int = 404
    more: dict[str, Any] = {}  # noqa: RUF012 - not changed


def body(**values: Any) -> dict[str, Any]:
    return {"json": values}


def listed(path: str, shows: str) -> Call:
    """A list has the thing in it, or not."""
    return Call(path, shows, 200)


def named(path: str, **values: Any) -> Call:
    """Something is made for an owner that is named."""
    return Call(path, "", 403, body(**values))


def part(text: str) -> str:
    return quote(text, safe="")


def digest(key: str) -> str:
    """Of what the world keeps under a restricted key."""
    return sha256(f"bytes of {key}".encode()).hexdigest()


CREDENTIAL = {"host": "data.example.org", "kind": "basic", "parts": {"user": "u", "password": "p"}}
CALLS: dict[str, Callable[[World, str], Call]] = {
    "GET /v1/status": lambda w, o: Call("/v1/status"),
    "GET /v1/workers": lambda w, o: Call("/v1/workers"),
    "GET /v1/origins": lambda w, o: Call("/v1/origins"),
    "GET /v1/jobs": lambda w, o: listed("/v1/jobs?limit=1000", w.job(o)),
    "GET /v1/jobs/{job}": lambda w, o: Call(f"/v1/jobs/{w.job(o)}"),
    "POST /v1/jobs": lambda w, o: named("/v1/jobs", command=["/bin/true"], after=["never"], owner=o),
    "POST /v1/jobs/{job}/cancel": lambda w, o: Call(f"/v1/jobs/{w.job(o)}/cancel"),
    "POST /v1/jobs/{job}/retry": lambda w, o: Call(f"/v1/jobs/{w.cancelled(o)}/retry"),
    "GET /v1/jobs/{job}/logs/{stream}": lambda w, o: Call(
        f"/v1/jobs/{w.done(o, 'read')}/logs/stdout", "printed"
    ),
    "GET /v1/jobs/{job}/results": lambda w, o: Call(f"/v1/jobs/{w.done(o, 'read')}/results"),
    "GET /v1/jobs/{job}/results/{name}": lambda w, o: Call(
        f"/v1/jobs/{w.done(o, 'read')}/results/result.txt", "data"
    ),
    "DELETE /v1/jobs/{job}/results": lambda w, o: Call(f"/v1/jobs/{w.done(o, 'remove')}/results"),
    "DELETE /v1/jobs/{job}/results/{name}": lambda w, o: Call(
        f"/v1/jobs/{w.done(o, 'remove')}/results/result.txt"
    ),
    "GET /v1/preconditions": lambda w, o: Call("/v1/preconditions"),
    "PUT /v1/preconditions/{name}": lambda w, o: Call(f"/v1/preconditions/{w.name('p')}"),
    "DELETE /v1/preconditions/{name}": lambda w, o: Call(f"/v1/preconditions/{w.name('p')}"),
    "GET /v1/events": lambda w, o: listed("/v1/events?after=0&wait=0", w.job(o)),
    "POST /v1/runs/{job}/{epoch}": lambda w, o: Call(f"/v1/runs/{w.job(o)}/1", more=body(state="started")),
    "POST /v1/runs/{job}/{epoch}/claim": lambda w, o: Call(
        f"/v1/runs/{w.job(o)}/1/claim", more=body(node="node1")
    ),
    "GET /v1/runs/{job}/{epoch}/claim": lambda w, o: Call(f"/v1/runs/{w.job(o)}/1/claim"),
    "GET /v1/runs/{job}/{epoch}/files/{name}": lambda w, o: Call(
        f"/v1/runs/{w.job(o)}/1/files/stdout?sha256={'0' * 64}&size=1"
    ),
    "PUT /v1/runs/{job}/{epoch}/files/{name}": lambda w, o: Call(
        f"/v1/runs/{w.job(o)}/1/files/stdout?sha256={'0' * 64}&size=1&offset=0", more={"data": b"x"}
    ),
    "POST /v1/archiveinfo": lambda w, o: Call("/v1/archiveinfo", "DISK", 200, body(paths=[w.restricted(o)])),
    "POST /v1/stage": lambda w, o: named("/v1/stage", files=["http://127.0.0.1:9/x"], owner=o),
    "GET /v1/stage": lambda w, o: listed("/v1/stage?limit=1000", w.stage(o)),
    "GET /v1/stage/{stage}": lambda w, o: Call(f"/v1/stage/{w.stage(o)}"),
    "POST /v1/stage/{stage}/cancel": lambda w, o: Call(f"/v1/stage/{w.stage(o)}/cancel"),
    "POST /v1/stage/{stage}/release": lambda w, o: Call(f"/v1/stage/{w.stage(o)}/release"),
    "DELETE /v1/stage/{stage}": lambda w, o: Call(f"/v1/stage/{w.stage(o)}"),
    "GET /v1/cache/files": lambda w, o: listed("/v1/cache/files?limit=10000", w.put(o)),
    "GET /v1/cache/files/{word}": lambda w, o: Call(f"/v1/cache/files/{part(w.restricted(o))}"),
    "GET /v1/cache/totals": lambda w, o: listed("/v1/cache/totals", w.put(o) and f'"{o}"'),
    "GET /v1/cache/content/{key}": lambda w, o: Call(
        f"/v1/cache/content/{part(w.restricted(o))}", "bytes of http://data.example.org/restricted"
    ),
    "GET /v1/objects/{sha256}": lambda w, o: Call(f"/v1/objects/{digest(w.restricted(o))}", "bytes of http"),
    "PUT /v1/cache/files/{key}": lambda w, o: Call(
        f"/v1/cache/files/{w.put(o)}", refused=403, more={"data": b"x"}
    ),
    "POST /v1/cache/remove": lambda w, o: Call("/v1/cache/remove", more=body(keys=[])),
    "POST /v1/cache/purge": lambda w, o: Call("/v1/cache/purge", more=body(to_size=0, dry_run=True)),
    "POST /v1/cache/rebuild": lambda w, o: Call("/v1/cache/rebuild"),
    "POST /v1/cache/verify": lambda w, o: Call("/v1/cache/verify", more=body(sample=0.01)),
    "GET /v1/cache/verify": lambda w, o: Call("/v1/cache/verify"),
    "GET /v1/cache/limits": lambda w, o: Call("/v1/cache/limits"),
    "POST /v1/cache/accesses": lambda w, o: Call("/v1/cache/accesses", more=body(accesses={})),
    "GET /v1/cache/pins": lambda w, o: listed("/v1/cache/pins", w.pin(o)),
    "POST /v1/cache/pins": lambda w, o: named("/v1/cache/pins", file=w.put(o), owner=o),
    "DELETE /v1/cache/pins/{word}": lambda w, o: Call(f"/v1/cache/pins/{w.pin(o)}"),
    "GET /v1/credentials": lambda w, o: listed("/v1/credentials", w.credential(o)),
    "POST /v1/credentials": lambda w, o: named("/v1/credentials", **CREDENTIAL, owner=o),
    "PUT /v1/credentials/{word}": lambda w, o: Call(
        f"/v1/credentials/{w.credential(o)}", more=body(parts={"password": "q"})
    ),
    "DELETE /v1/credentials/{word}": lambda w, o: Call(f"/v1/credentials/{w.credential(o)}"),
    "GET /v1/grants": lambda w, o: listed("/v1/grants", w.grant(o)),
    "DELETE /v1/grants": lambda w, o: Call(f"/v1/grants?grant={w.grant(o)}"),
    "GET /v1/audit": lambda w, o: Call("/v1/audit"),
    "GET /v1/whoami": lambda w, o: Call("/v1/whoami"),
    "POST /v1/logins": lambda w, o: Call("/v1/logins"),
    "GET /v1/users": lambda w, o: listed("/v1/users", f'"{o}"'),
    "POST /v1/users": lambda w, o: Call("/v1/users", more=body(name=w.name("new"))),
    "PATCH /v1/users/{name}": lambda w, o: Call(f"/v1/users/{victim(w)}", more=body(role="reader")),
    "DELETE /v1/users/{name}": lambda w, o: Call(f"/v1/users/{victim(w)}"),
    "GET /v1/tokens": lambda w, o: listed("/v1/tokens", w.token(o)),
    "POST /v1/tokens": lambda w, o: named("/v1/tokens", user=o),
    "DELETE /v1/tokens/{token}": lambda w, o: Call(f"/v1/tokens/{w.token(o)}"),
}
"""By method and path: the call, for a thing of that owner."""

NOBODYS = {action for action in CALLS if action.split()[1] in {"/v1/whoami", "/v1/users/{name}"}} | {
    "POST /v1/users"
}
"""There is no other's thing to ask for, or nobody has one of his own."""


def victim(world: World) -> str:
    name = world.name("victim")
    world.server.accounts.add_user(name, Role.USER)
    return name


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("matrix")) as made:
        made.user(OTHER, Role.USER)
        yield made


@pytest.fixture(scope="module")
def tokens(running: World) -> dict[Role, str]:
    """By role the token of a user who is called like it."""
    return {role: running.user(role.value, role) for role in Role}


def described(running: World) -> set[str]:
    paths = running("GET", "/openapi.json", None).json()["paths"]
    return {
        f"{method.upper()} {path}"
        for path, methods in paths.items()
        for method in methods
        if path.startswith("/v1/") and method != "head"
    }


def test_the_table_has_every_call_and_no_others_and_each_is_tried_here(running: World) -> None:
    assert described(running) == set(RULES) == set(CALLS)


@pytest.mark.parametrize("action", sorted(RULES))
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("whose", ["own", "other"])
def test_a_role_reaches_what_the_table_says(
    action: str, role: Role, whose: str, running: World, tokens: dict[Role, str]
) -> None:
    reach = RULES[action].reach[role]
    call = CALLS[action](running, role.value if whose == "own" else OTHER)
    answer = running(action.partition(" ")[0], call.path, tokens[role], **call.more)
    shown = bool(call.shows) and call.shows in answer.text
    if reach is Reach.NONE:
        assert answer.status_code == 403, answer.text
        assert answer.json()["code"] == "forbidden"
    elif reach is Reach.ANY or whose == "own" or action in NOBODYS:
        assert answer.status_code in {200, 201, 409}, answer.text
        assert (answer.status_code == 409) == ("/v1/runs/" in action), answer.text
        assert shown or not call.shows, answer.text
    else:
        assert answer.status_code == call.refused, answer.text
        assert not shown, answer.text


@pytest.mark.parametrize("action", sorted(RULES))
def test_whoever_shows_no_token_or_a_wrong_one_reaches_nothing(action: str, running: World) -> None:
    call = CALLS[action](running, OTHER)
    for token in (None, "stg_" + "A" * 43):
        answer = running(action.partition(" ")[0], call.path, token, **call.more)
        assert answer.status_code == 401 if token is None else answer.status_code in {401, 429}
        assert not call.shows or call.shows not in answer.text


@pytest.mark.parametrize("action", sorted(RULES))
def test_the_servers_own_token_reaches_everything(action: str, running: World) -> None:
    call = CALLS[action](running, OTHER)
    answer = running(action.partition(" ")[0], call.path, TOKEN, **call.more)
    assert answer.status_code in {200, 201, 409}, answer.text
