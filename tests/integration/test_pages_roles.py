"""What each role sees and may do in the page: what the API would let it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stager.model.audit import AuditEntry
from stager.model.principals import Role
from tests.support.until import until
from tests.support.visitor import Visitor, words
from tests.support.world import TOKEN, World, world


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("roles")) as made:
        yield made


@pytest.fixture(scope="module")
def tokens(running: World) -> dict[Role, str]:
    return {role: running.user(role.value, role) for role in Role}


@pytest.fixture
def visitor(running: World) -> Iterator[Visitor]:
    with Visitor(running.url) as visitor:
        yield visitor


def test_a_user_sees_his_own_jobs_and_finds_no_others(
    running: World, tokens: dict[Role, str], visitor: Visitor
) -> None:
    mine, other = running.job("user"), running.job("somebody")
    visitor.log_in(tokens[Role.USER])
    for path in ("/", "/jobs"):
        page = visitor.get(path).text
        assert mine in page
        assert other not in page
    assert visitor.get(f"/jobs/{mine}").status_code == 200
    assert visitor.get(f"/jobs/{other}").status_code == 404
    assert visitor.get(f"/jobs?find={other}").status_code == 404
    assert visitor.send(f"/jobs/{other}/cancel").status_code == 404
    assert running.server.jobs.state(other) == "waiting"
    assert visitor.send(f"/jobs/{mine}/cancel").status_code == 303
    assert running.server.jobs.state(mine) == "cancelled"


def test_a_reader_sees_all_and_changes_nothing(
    running: World, tokens: dict[Role, str], visitor: Visitor
) -> None:
    job = running.job("somebody")
    visitor.log_in(tokens[Role.READER])
    page = visitor.get(f"/jobs/{job}")
    assert page.status_code == 200
    assert "Cancel the job" not in words(page)
    assert "It is met" not in words(page)
    refused = visitor.send(f"/jobs/{job}/cancel")
    assert refused.status_code == 403
    assert "reader may not do that" in words(refused)
    assert visitor.send(f"/jobs/{job}/meet", {"name": "never"}).status_code == 403
    assert running.server.jobs.state(job) == "waiting"


def test_what_a_job_printed_and_left_is_for_its_owner_and_for_administrators(
    running: World, tokens: dict[Role, str], visitor: Visitor
) -> None:
    job = running.done("user", "page")
    for role, sees in ((Role.USER, True), (Role.ADMIN, True), (Role.OPERATOR, False), (Role.READER, False)):
        visitor.session.cookies.clear()
        visitor.log_in(tokens[role])
        page = visitor.get(f"/jobs/{job}")
        assert (">printed\n</pre>" in page.text) is sees
        assert (f'href="/jobs/{job}/results/result.txt"' in page.text) is sees
        for path in ("logs/stdout", "results/result.txt"):
            assert (visitor.get(f"/jobs/{job}/{path}").status_code == 200) is sees


def test_a_revoked_token_ends_the_logins_that_were_made_with_it(running: World, visitor: Visitor) -> None:
    secret = running.user("leaver", Role.USER)
    visitor.log_in(secret)
    assert visitor.get("/").status_code == 200
    running.server.accounts.change_user("leaver", role=Role.READER)
    assert "role: reader" in visitor.get("/").text
    running.server.accounts.change_user("leaver", disabled=True)
    assert visitor.get("/").status_code == 303
    running.server.accounts.change_user("leaver", disabled=False)
    assert visitor.get("/").status_code == 200
    (token,) = running.server.accounts.tokens("leaver")
    running.server.accounts.revoke_token(token.id)
    assert visitor.get("/").status_code == 303


def test_a_login_link_is_for_who_asks_for_it(
    running: World, tokens: dict[Role, str], visitor: Visitor
) -> None:
    link = running("POST", "/v1/logins", tokens[Role.OPERATOR]).json()["path"]
    visitor.get(link, Sec_Fetch_Site="none")
    assert "role: operator" in visitor.get("/").text


def test_a_token_for_one_thing_shows_no_page_of_another(
    running: World, tokens: dict[Role, str], visitor: Visitor
) -> None:
    assert tokens
    secret = running.server.accounts.create_token("admin", scopes=["cache:read"]).secret
    visitor.log_in(secret)
    refused = visitor.get("/jobs")
    assert refused.status_code == 403
    assert "its scopes are cache:read" in words(refused)
    visitor.log_in(TOKEN)
    assert visitor.get("/jobs").status_code == 200


def test_what_is_done_in_the_page_is_in_the_audit_log_as_if_by_the_api(
    running: World, tokens: dict[Role, str], visitor: Visitor
) -> None:
    job = running.job("user")
    visitor.log_in(tokens[Role.OPERATOR])
    assert visitor.get(f"/jobs/{job}").status_code == 200
    assert visitor.get("/cache/purge").status_code == 200
    assert visitor.send(f"/jobs/{job}/cancel").status_code == 303

    def about_it() -> list[AuditEntry]:
        return [entry for entry in running.server.audit.entries(limit=500) if job in entry.subject]

    until(about_it, "it is written down")
    found = about_it()
    assert [(one.who, one.action, one.status) for one in found] == [
        ("operator", "POST /v1/jobs/{job}/cancel", 303)
    ]
    actions = {entry.action for entry in running.server.audit.entries(limit=500, who="operator")}
    assert "POST /v1/cache/purge" not in actions, "it was only looked at"
