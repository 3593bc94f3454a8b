"""Users and tokens: what counts, for how long, and what is kept of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.clock import ManualClock
from stager.errors import ConflictError, ForbiddenError, InputError, NotFoundError
from stager.model.accounts import token_digest
from stager.model.principals import Principal, Role
from stager.model.redaction import redacted_text
from stager.model.roles import RULES, Kind, Reach, check_scopes, rule_of
from stager.service.accounts import AccountService
from stager.service.ids import IdMaker
from stager.state.store import Store


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'state.db'}")
    yield store
    store.close()


@pytest.fixture
def accounts(store: Store, clock: ManualClock) -> AccountService:
    service = AccountService(store.accounts, clock, IdMaker(clock))
    service.add_user("ada", Role.USER)
    return service


def test_whoever_shows_a_token_is_its_user(accounts: AccountService) -> None:
    made = accounts.create_token("ada", "laptop", scopes=["read", "jobs"])
    assert made.secret.startswith("stg_")
    assert len(made.secret) >= 4 + 43, "256 bits"
    principal = accounts.principal(made.secret)
    assert principal == Principal("ada", Role.USER, frozenset({"read", "jobs"}), made.token.id)
    assert principal.owner == "ada"


@pytest.mark.parametrize("secret", ["", "stg_", "stg_" + "A" * 43, "é\ud800"])
def test_any_other_is_nobodys(accounts: AccountService, secret: str) -> None:
    assert accounts.principal(secret) is None


def test_a_digest_is_no_token(accounts: AccountService) -> None:
    secret = accounts.create_token("ada").secret
    assert accounts.principal(token_digest(secret)) is None


def test_a_token_ends_with_its_time(accounts: AccountService, clock: ManualClock) -> None:
    secret = accounts.create_token("ada", seconds=60).secret
    clock.advance(59)
    assert accounts.principal(secret) is not None
    clock.advance(1)
    assert accounts.principal(secret) is None


def test_a_token_makes_none_that_outlives_it(accounts: AccountService, clock: ManualClock) -> None:
    shown = accounts.create_token("ada", seconds=60).token
    for seconds in (None, 3600):
        made = accounts.create_token("ada", seconds=seconds, shown=shown.id)
        assert made.token.expires_at == clock.time() + 60
    assert accounts.create_token("ada", seconds=30, shown=shown.id).token.expires_at == clock.time() + 30
    lasting = accounts.create_token("ada").token
    assert accounts.create_token("ada", shown=lasting.id).token.expires_at is None


def test_a_revoked_token_ends_at_once_and_no_other_does(accounts: AccountService) -> None:
    first, second = accounts.create_token("ada", "one"), accounts.create_token("ada", "two")
    assert accounts.revoke_token("one").id == first.token.id
    assert accounts.principal(first.secret) is None
    assert accounts.principal(second.secret) is not None
    with pytest.raises(NotFoundError):
        accounts.revoke_token(first.token.id)


def test_another_users_token_is_not_there_to_be_revoked(accounts: AccountService) -> None:
    made = accounts.create_token("ada")
    with pytest.raises(NotFoundError):
        accounts.revoke_token(made.token.id, "eve")
    assert accounts.principal(made.secret) is not None


def test_a_name_of_several_tokens_is_not_enough_to_revoke_one(accounts: AccountService) -> None:
    ids = {accounts.create_token("ada", "laptop").token.id for _ in range(2)}
    with pytest.raises(InputError) as caught:
        accounts.revoke_token("laptop")
    assert all(one in caught.value.cause for one in ids)


def test_tokens_of_a_disabled_user_do_not_count_until_he_is_enabled(accounts: AccountService) -> None:
    secret = accounts.create_token("ada").secret
    accounts.change_user("ada", disabled=True)
    assert accounts.principal(secret) is None
    accounts.change_user("ada", disabled=False)
    assert accounts.principal(secret) is not None


def test_tokens_of_a_removed_user_are_gone_also_when_he_comes_back(accounts: AccountService) -> None:
    secret = accounts.create_token("ada").secret
    accounts.remove_user("ada")
    assert accounts.principal(secret) is None
    accounts.add_user("ada", Role.USER)
    assert accounts.principal(secret) is None
    assert accounts.tokens() == []


def test_another_role_counts_at_once(accounts: AccountService) -> None:
    secret = accounts.create_token("ada").secret
    accounts.change_user("ada", role=Role.OPERATOR)
    found = accounts.principal(secret)
    assert found is not None
    assert found.role is Role.OPERATOR


def test_all_of_it_survives_a_restart(accounts: AccountService, store: Store, clock: ManualClock) -> None:
    secret = accounts.create_token("ada", "laptop", scopes=["read"], seconds=60).secret
    again = AccountService(store.accounts, clock, IdMaker(clock))
    assert again.tokens() == list(store.accounts.tokens().values())
    assert again.principal(secret) == accounts.principal(secret) is not None


def test_the_database_has_no_secret(accounts: AccountService, tmp_path: Path) -> None:
    secret = accounts.create_token("ada").secret
    connection = sqlite3.connect(tmp_path / "state.db")
    dump = "\n".join(connection.iterdump())
    connection.close()
    assert token_digest(secret) in dump
    assert secret not in dump
    assert secret.removeprefix("stg_") not in dump


def test_the_last_use_is_written_at_most_once_a_minute(
    accounts: AccountService, store: Store, clock: ManualClock
) -> None:
    made = accounts.create_token("ada")

    def written() -> float | None:
        (token,) = store.accounts.tokens().values()
        return token.last_used_at

    accounts.principal(made.secret)
    assert written() is None, "who asks waits for no writing"
    first = clock.time()
    accounts.tend()
    assert written() == first
    clock.advance(59)
    accounts.principal(made.secret)
    accounts.tend()
    assert written() == first
    clock.advance(1)
    accounts.principal(made.secret)
    accounts.tend()
    assert written() == first + 60


def test_another_server_of_the_same_database_learns_of_a_change(
    accounts: AccountService, store: Store, clock: ManualClock
) -> None:
    store.accounts.is_shared = True
    other = AccountService(store.accounts, clock, IdMaker(clock))
    made = accounts.create_token("ada")
    other.tend()
    assert other.principal(made.secret) is not None
    accounts.revoke_token(made.token.id)
    other.tend()
    assert other.principal(made.secret) is None


@pytest.mark.parametrize("name", ["", "server", "-x", "a b", "a/b", "x" * 65, "é", "a\n"])
def test_what_can_be_no_name_is_refused(accounts: AccountService, name: str) -> None:
    with pytest.raises(InputError):
        accounts.add_user(name, Role.USER)


def test_a_name_is_given_once(accounts: AccountService) -> None:
    with pytest.raises(ConflictError):
        accounts.add_user("ada", Role.ADMIN)
    assert [user.role for user in accounts.users()] == [Role.USER]


@pytest.mark.parametrize("seconds", [0, -1, 1e12, float("nan")])
def test_a_time_that_makes_no_sense_is_refused(accounts: AccountService, seconds: float) -> None:
    with pytest.raises(InputError):
        accounts.create_token("ada", seconds=seconds)


def test_nobody_gets_a_token_who_is_no_user(accounts: AccountService) -> None:
    with pytest.raises(NotFoundError):
        accounts.create_token("eve")
    with pytest.raises(NotFoundError):
        accounts.change_user("eve", role=Role.ADMIN)
    with pytest.raises(NotFoundError):
        accounts.remove_user("eve")


def test_a_token_is_redacted_wherever_it_comes_up(accounts: AccountService) -> None:
    secret = accounts.create_token("ada").secret
    assert secret not in redacted_text(f"refused {secret}, sent by 127.0.0.1")


# -- the table -----------------------------------------------------------------------------------


def test_a_reader_changes_nothing_but_his_own_tokens_and_logins() -> None:
    writes = [rule for rule in RULES.values() if rule.kind in {Kind.WRITE, Kind.NOTE}]
    assert {rule.action for rule in writes if rule.reach[Role.READER] is not Reach.NONE} == {
        "POST /v1/logins",
        "POST /v1/tokens",
        "DELETE /v1/tokens/{token}",
    }


def test_bytes_that_are_somebodys_are_for_him_and_the_administrator() -> None:
    for rule in RULES.values():
        if rule.kind in {Kind.BYTES, Kind.CONTENT}:
            assert rule.reach[Role.ADMIN] is Reach.ANY
            assert {rule.reach[role] for role in (Role.READER, Role.USER, Role.OPERATOR)} == {Reach.OWN}


def test_the_administrator_may_do_everything() -> None:
    assert {rule.reach[Role.ADMIN] for rule in RULES.values()} == {Reach.ANY}


def test_a_call_that_the_table_does_not_have_is_for_nobody() -> None:
    with pytest.raises(ForbiddenError):
        rule_of("GET /v1/secrets")


@pytest.mark.parametrize(
    ("scope", "action", "allowed"),
    [
        ("jobs", "POST /v1/jobs", True),
        ("jobs", "GET /v1/jobs", True),
        ("jobs", "GET /v1/stage", False),
        ("jobs:read", "GET /v1/jobs", True),
        ("jobs:read", "POST /v1/jobs", False),
        ("read", "GET /v1/jobs/{job}/logs/{stream}", True),
        ("read", "DELETE /v1/jobs/{job}/results", False),
        ("cache:read", "POST /v1/cache/accesses", False),
    ],
)
def test_a_token_is_for_what_its_scopes_say(scope: str, action: str, allowed: bool) -> None:
    admin = Principal("ada", Role.ADMIN, frozenset({scope}))
    if allowed:
        assert rule_of(action).permit(admin).only is None
    else:
        with pytest.raises(ForbiddenError, match=scope):
            rule_of(action).permit(admin)


@pytest.mark.parametrize("scopes", [[], ["nonsense"], ["jobs", "jobs:write"]])
def test_scopes_that_there_are_not_are_refused(scopes: list[str]) -> None:
    with pytest.raises(InputError):
        check_scopes(scopes)
