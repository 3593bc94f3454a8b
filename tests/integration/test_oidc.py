"""Tokens of an issuer: a small one, scripted, whose keys are read as any URL is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from stager.clock import ManualClock
from stager.errors import SettingsError
from stager.model.principals import Principal, Role
from stager.service.oidc import KEPT_SECONDS, KEYS_SECONDS, LEEWAY_SECONDS, SOONEST_SECONDS, Issuer, Oidc
from stager.settings import Settings
from stager.wiring.oidc import build_oidc
from tests.support.origin import Origin, content
from tests.support.world import World, world

NOW = 1_800_000_000.0
URL = "https://login.example.org/realm"


class Login:
    """An issuer: its documents by URL, and what was read of them."""

    def __init__(self, url: str = URL) -> None:
        self.url = url
        self.read: list[str] = []
        self.keys = {"a": RSAKey.generate_key(2048, {"kid": "a"}, private=True)}
        self.is_down = False

    def __call__(self, url: str) -> dict[str, Any]:
        self.read.append(url)
        if self.is_down:
            raise ValueError("down")
        return self.documents()[url]

    def documents(self) -> dict[str, dict[str, Any]]:
        published: Any = KeySet(list(self.keys.values())).as_dict(private=False)
        return {
            f"{self.url}/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
            },
            f"{self.url}/keys": published,
        }

    def token(self, *, key: Any = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        common = {"iss": self.url, "aud": "stager", "exp": NOW + 300, "preferred_username": "ada"}
        given = {name: value for name, value in (common | claims).items() if value is not None}
        shown = {"alg": "RS256", "kid": "a"} | (header or {})
        return jwt.encode(shown, given, key or self.keys["a"], algorithms=[shown["alg"]])


@pytest.fixture(scope="module")
def shared() -> Login:
    return Login()


@pytest.fixture
def login(shared: Login) -> Login:
    made = Login.__new__(Login)
    made.url, made.read, made.keys, made.is_down = URL, [], dict(shared.keys), False
    return made


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


def oidc(login: Login, clock: ManualClock, **more: Any) -> Oidc:
    given = {"default_role": Role.USER} | more
    return Oidc(Issuer(URL, "stager", **given), login, clock)


def test_whoever_the_issuer_says_is_let_in_and_its_keys_are_read_once(
    login: Login, clock: ManualClock
) -> None:
    taken = oidc(login, clock)
    assert taken.known(login.token()) is None
    for _ in range(3):
        assert taken.principal(login.token()) == Principal("ada", Role.USER)
    assert len(login.read) == 2
    assert taken.known(login.token()) == Principal("ada", Role.USER)
    assert taken.principal(login.token(aud=["other", "stager"])) is not None


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": None},
        {"exp": NOW - LEEWAY_SECONDS - 1},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"nbf": NOW + LEEWAY_SECONDS + 1},
        {"preferred_username": None},
        {"preferred_username": "server"},
        {"preferred_username": "../x"},
        {"preferred_username": ["ada"]},
    ],
)
def test_a_token_that_is_not_for_us_now_lets_nobody_in(
    login: Login, clock: ManualClock, claims: dict[str, Any]
) -> None:
    taken = oidc(login, clock)
    token = login.token(**claims)
    assert taken.principal(token) is None
    assert taken.known(token) is None


def unsigned(_login: Login) -> str:
    import base64

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"iss": URL, "aud": "stager", "exp": NOW + 300, "preferred_username": "ada"}
    return f"{part({'alg': 'none', 'kid': 'a'})}.{part(claims)}."


def with_the_public_key_as_a_secret(login: Login) -> str:
    """What a library takes for good that lets the token choose how it is verified."""
    import base64
    import hmac

    head, claims = (part.encode() for part in unsigned(login).split(".")[:2])
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"a"}').rstrip(b"=")
    secret = login.keys["a"].as_pem(private=False)
    mac = hmac.digest(secret, head + b"." + claims, "sha256")
    return (head + b"." + claims + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def by_another_key(login: Login) -> str:
    return login.token(key=RSAKey.generate_key(2048, {"kid": "a"}, private=True))


def changed(login: Login) -> str:
    head, claims, signature = login.token().split(".")
    _, others, _ = login.token(preferred_username="root").split(".")
    assert claims != others
    return f"{head}.{others}.{signature}"


@pytest.mark.parametrize("forge", [unsigned, with_the_public_key_as_a_secret, by_another_key, changed])
def test_what_the_issuer_did_not_sign_lets_nobody_in(
    login: Login, clock: ManualClock, forge: Callable[[Login], str]
) -> None:
    assert oidc(login, clock).principal(forge(login)) is None


@pytest.mark.parametrize(
    "token", ["", "a.b", "a.b.c", "..", "é.é.é", "stg_" + "A" * 43, "a" * 100_000 + ".b.c"]
)
def test_what_is_no_such_token_lets_nobody_in(login: Login, clock: ManualClock, token: str) -> None:
    assert oidc(login, clock).principal(token) is None


def test_a_new_key_of_the_issuer_is_found_and_an_invented_one_is_not_looked_for_all_the_time(
    login: Login, clock: ManualClock
) -> None:
    taken = oidc(login, clock)
    assert taken.principal(login.token()) is not None
    login.keys["b"] = ECKey.generate_key("P-256", {"kid": "b"}, private=True)  # type: ignore[assignment]
    token = login.token(key=login.keys["b"], header={"alg": "ES256", "kid": "b"})
    assert taken.principal(token) is None, "the keys were read just now"
    assert len(login.read) == 2
    clock.advance(SOONEST_SECONDS)
    assert taken.principal(token) is not None
    assert len(login.read) == 4
    for _ in range(10):
        assert taken.principal(login.token(key=login.keys["b"], header={"alg": "ES256", "kid": "x"})) is None
    assert len(login.read) == 4


def test_an_issuer_that_is_down_harms_nobody_whose_key_is_known(login: Login, clock: ManualClock) -> None:
    taken = oidc(login, clock)
    assert taken.principal(login.token()) is not None
    login.is_down = True
    clock.advance(KEYS_SECONDS + 1)
    assert taken.principal(login.token(exp=NOW + 10_000)) is not None


def test_a_token_that_was_seen_ends_with_its_time(login: Login, clock: ManualClock) -> None:
    taken = oidc(login, clock)
    token = login.token(exp=NOW + 1)
    assert taken.principal(token) is not None
    clock.advance(KEPT_SECONDS + 1)
    assert taken.known(token) is None
    clock.advance(LEEWAY_SECONDS)
    assert taken.principal(token) is None


def test_the_role_is_what_the_groups_say_the_highest_of_several(login: Login, clock: ManualClock) -> None:
    roles = {"staff": Role.USER, "ops": Role.OPERATOR, "audit": Role.READER}
    taken = oidc(login, clock, role_claim="realm.groups", roles=roles, default_role=None)

    def role(groups: Any) -> Role | None:
        found = taken.principal(login.token(realm={"groups": groups}))
        return None if found is None else found.role

    assert role(["staff", "ops", "audit"]) is Role.OPERATOR
    assert role("audit") is Role.READER
    assert role(["strangers", 7, None]) is None
    assert taken.principal(login.token(realm="ops")) is None
    assert taken.principal(login.token()) is None


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


def served(login: Login, origin: Origin) -> Login:
    """The same issuer, at a real address."""
    login.url = f"{origin.base}/realm"
    for url, document in login.documents().items():
        origin.serve(url.removeprefix(origin.base), content(json.dumps(document).encode()))
    return login


def site(login: Login, **more: Any) -> dict[str, Any]:
    return {"oidc_issuer": login.url, "oidc_audience": "stager", "oidc_default_role": "user", **more}


def now() -> dict[str, Any]:
    return {"exp": time.time() + 300}


def test_a_user_of_the_issuer_has_what_is_his_and_ends_when_he_is_disabled_here(
    login: Login, origin: Origin, tmp_path: Path
) -> None:
    served(login, origin)
    with world(tmp_path, allowed_networks=("127.0.0.0/8",), **site(login)) as made:
        token = login.token(**now())
        assert who(made, token) == ("ada", "user")
        job = made("POST", "/v1/jobs", token, json={"command": ["/bin/true"], "after": ["never"]}).json()
        assert made.server.jobs.job(job["ids"][0]).owner == "ada"
        assert made("GET", "/v1/users", login.token(preferred_username="bob", **now())).status_code == 200
        made.server.accounts.add_user("ada", Role.USER)
        made.server.accounts.change_user("ada", disabled=True)
        assert made("GET", "/v1/whoami", token).status_code == 401
        assert made("GET", "/v1/whoami", login.token(aud="other", **now())).status_code == 401


def who(made: World, token: str) -> tuple[str, str]:
    answer = made("GET", "/v1/whoami", token)
    assert answer.status_code == 200, answer.text
    return answer.json()["name"], answer.json()["role"]


def test_an_issuer_where_fetches_may_not_reach_is_not_asked(
    login: Login, origin: Origin, tmp_path: Path
) -> None:
    served(login, origin)
    with world(tmp_path, allowed_networks=(), **site(login)) as made:
        assert made("GET", "/v1/whoami", login.token(**now())).status_code == 401
    assert not origin.seen()


def test_an_issuer_without_an_audience_is_refused(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, oidc_issuer=URL)
    with pytest.raises(SettingsError, match="oidc_audience"):
        build_oidc(settings, lambda _: None)
