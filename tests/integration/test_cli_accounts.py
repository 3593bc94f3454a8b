"""`stager user` and `stager token`, and what a user's own token lets his commands do."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.cli.exit_codes import Exit
from stager.model.principals import Role
from tests.support.commandline import PATIENCE, Here, command
from tests.support.processes import environment
from tests.support.world import TOKEN, World, world


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world(tmp_path) as made:
        monkeypatch.setenv("STAGER_SERVER", made.url)
        monkeypatch.setenv("STAGER_TOKEN", TOKEN)
        yield made


@pytest.fixture
def stager(capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(capsys)


@pytest.mark.usefixtures("running")
def test_users_are_added_listed_changed_and_removed(stager: Here) -> None:
    assert stager("user", "add", "ada", "--role", "operator").lines == ["ada"]
    assert stager("user", "add", "bob").code == Exit.OK
    assert stager("user", "add", "bob").code == Exit.CONFLICT
    assert stager("user", "disable", "bob").code == Exit.OK
    assert stager("user", "role", "ada", "admin").code == Exit.OK
    rows = [line.split("\t")[:3] for line in stager("user", "ls").lines]
    assert rows == [["ada", "admin", "enabled"], ["bob", "user", "disabled"]]
    assert stager("user", "enable", "bob").code == Exit.OK
    assert json.loads(stager("user", "rm", "bob", "--json").out)["disabled"] is False
    assert stager("user", "rm", "bob").code == Exit.NOT_FOUND


def test_a_secret_is_printed_once_and_never_again(stager: Here, running: World) -> None:
    stager("user", "add", "ada")
    ended = stager(
        "token", "create", "--user", "ada", "--name", "laptop", "--scope", "jobs", "--expires", "1d"
    )
    (secret,) = ended.lines
    assert secret.startswith("stg_")
    assert secret not in ended.err
    (row,) = stager("token", "ls", "--json").lines
    found = json.loads(row)
    assert (found["user"], found["name"], found["scopes"]) == ("ada", "laptop", ["jobs"])
    assert secret not in row
    principal = running.server.accounts.principal(secret)
    assert principal is not None
    assert stager("token", "revoke", "laptop").lines == [found["id"]]
    assert running.server.accounts.principal(secret) is None


def test_a_users_commands_are_about_what_is_his(
    stager: Here, running: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = running.job("somebody")
    monkeypatch.setenv("STAGER_TOKEN", running.user("ada", Role.USER))
    (job,) = stager("submit", "--after", "never", "--", "true").lines
    assert running.server.jobs.job(job).owner == "ada", "and not the login name"
    (stage,) = stager("stage", "http://127.0.0.1:9/x").lines
    assert running.server.stages.staged(stage).owner == "ada"
    assert [line.split("\t")[0] for line in stager("jobs").lines] == [job]
    assert stager("job", others).code == Exit.NOT_FOUND
    assert stager("cancel", others).code == Exit.NOT_FOUND
    assert stager("submit", "--owner", "eve", "--", "true").code == Exit.SERVER
    assert stager("user", "add", "eve").code == Exit.SERVER
    assert stager("cancel", job).code == Exit.OK


def test_a_user_makes_and_ends_his_own_tokens(
    stager: Here, running: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGER_TOKEN", running.user("ada", Role.USER))
    (secret,) = stager("token", "create", "--name", "second").lines
    monkeypatch.setenv("STAGER_TOKEN", secret)
    assert stager("token", "revoke", "second").code == Exit.OK
    refused = stager("jobs")
    assert refused.code == Exit.SERVER
    assert secret not in refused.err


def test_a_token_makes_none_that_is_for_more(running: World) -> None:
    running.user("ada", Role.USER)
    made = running.server.accounts.create_token("ada", scopes=["accounts", "jobs"])
    for scopes in (None, ["jobs", "read"]):
        answer = running("POST", "/v1/tokens", made.secret, json={"scopes": scopes})
        assert answer.status_code == 403, answer.text
    assert running("POST", "/v1/tokens", made.secret, json={"scopes": ["jobs"]}).status_code == 201


def test_a_credential_is_by_default_of_whoever_gives_it(
    stager: Here, running: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("tokenfororigin\n")
    secret.chmod(0o600)
    monkeypatch.setenv("STAGER_TOKEN", running.user("ada", Role.ADMIN))
    given = stager("credentials", "add", "data.example.org", "--kind", "bearer", "--from-file", secret)
    assert given.code == Exit.OK, given.err
    assert [one.owner for one in running.server.credentials.list()] == ["ada"]


def test_a_terminal_is_shown_the_administrators_token_at_the_first_start_and_no_log_ever(
    tmp_path: Path,
) -> None:
    def started() -> str:
        """All that a server draws on its terminal until it is ready."""
        ours, theirs = os.openpty()
        variables = os.environ | environment(tmp_path)
        process = subprocess.Popen(command("serve", "--port", "0"), stderr=theirs, env=variables)
        with process, os.fdopen(ours, "rb", buffering=0) as terminal:
            os.close(theirs)
            drawn = b""
            try:
                while b"ready at" not in drawn:
                    drawn += terminal.read(4096)
            finally:
                process.terminate()
                process.wait(PATIENCE)
        return drawn.decode()

    first, second = started(), started()
    token = (tmp_path / "state" / "token").read_text().strip()
    assert token in first
    assert token not in second
