"""Jobs from the command line, with a real server, as people and scripts use it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from stager.cli.login import login_name
from tests.support.commandline import Here, on_terminal
from tests.support.origin import Origin, content, status
from tests.support.processes import ServerProcess, environment


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture
def stager(
    server: ServerProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Here:
    for name, value in environment(server.root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return Here(capsys)


def submitted(stager: Here, *arguments: object) -> str:
    ended = stager("submit", *arguments)
    assert (ended.code, ended.err) == (0, "")
    (job,) = ended.lines
    assert re.fullmatch(r"[0-9a-z]{13}", job)
    return job


def ids(stager: Here) -> list[str]:
    return [line.split("\t")[0] for line in stager("jobs", "--limit", 1000).lines]


def test_a_job_file_is_submitted_waited_for_and_shown(stager: Here, origin: Origin) -> None:
    url = origin.serve("/run7.dat", content(b"1 2 3\n"))
    Path("job.toml").write_text(
        f"""
        name = "reduce-7"
        command = ["sh", "-c", "wc -w < inputs/run7.dat > results/count; echo $LEVEL; echo hm >&2"]
        inputs = ["{url}"]
        environment = {{ LEVEL = "high" }}
        results = ["count"]
        """
    )
    job = submitted(stager, "job.toml")
    assert stager("wait", job).lines == [f"{job} done"]
    assert stager("logs", "reduce-7").out == "high\n"
    assert stager("logs", "reduce-7", "--stderr").out == "hm\n"
    assert json.loads(stager("logs", job, "--json").out) == {"stdout": "high\n", "stderr": "hm\n"}
    page = stager("job", job[-8:]).out
    for words in (
        f"job {job}  reduce-7  done, status 0",
        "run7.dat",
        url,
        "6 B transferred",
        "LEVEL=high",
        "count",
    ):
        assert words in page
    assert json.loads(stager("job", job, "--json").out)["inputs"][0]["transferred"] == 6


def test_a_job_is_given_by_options_and_a_command_that_keeps_its_own_options(
    stager: Here, origin: Origin
) -> None:
    url = origin.serve("/f?a=b", content(b"query\n"))
    digest = hashlib.sha256(b"query\n").hexdigest()
    job = submitted(
        stager, "--input", f"{url}=in.txt", "--sha256", f"in.txt={digest}", "--env", "A=1=2", "--name", "opts",
        "--priority", "7", "--result", "*", "--", "sh", "-c", 'echo "$A" "$@"; cp inputs/in.txt results/', "-", "--json", "--", "x",
    )  # fmt: skip
    assert stager("wait", job).code == 0
    assert stager("logs", job).out == "1=2 --json -- x\n"
    shown = json.loads(stager("job", job, "--json").out)
    assert (shown["name"], shown["priority"]) == ("opts", 7)
    assert shown["inputs"][0]["sha256"] == digest


def test_several_files_with_several_jobs_are_submitted_together(stager: Here) -> None:
    Path("two.toml").write_text('[[jobs]]\ncommand = ["true"]\nname = "t1"\n[[jobs]]\ncommand = ["true"]\n')
    Path("one.toml").write_text('command = ["true"]\n')
    ended = stager("submit", "two.toml", "one.toml", "--json")
    assert [json.loads(line)["name"] for line in ended.lines] == ["t1", "", ""]
    ids = [json.loads(line)["id"] for line in ended.lines]
    assert [line.split()[0] for line in stager("wait", *ids).lines] == ids


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("command = [", "is not TOML"),
        ('comand = ["x"]', "unknown key 'comand'; did you mean 'command'?"),
        ('command = "ls"', "command is text: a list is needed"),
        ("inputs = []", "no 'command'"),
        ('command = ["x"]\ninputs = ["gopher://h/f"]', "unknown scheme in URL 'gopher://h/f'"),
        ('command = ["x"]\ninputs = [{url = "http://h/f", sha265 = "x"}]', "did you mean 'sha256'?"),
        ('command = ["x"]\ninputs = [{url = "http://h/f", name = "../f"}]', "it contains a slash"),
        ('command = ["x"]\ninputs = ["http://h/f", "http://g/f"]', "two inputs are named 'f'"),
        ('command = ["x"]\nenvironment = {N = 4}', "environment.N is a number: text is needed"),
        ('command = ["x"]\npriority = "high"', "priority is text: a whole number is needed"),
        ('command = ["x"]\n[[jobs]]\ncommand = ["y"]', "key 'command' beside [[jobs]]"),
        ("jobs = []", "there is no job"),
    ],
)
def test_a_bad_job_file_is_one_line_that_names_file_and_key(stager: Here, text: str, words: str) -> None:
    before = ids(stager)
    Path("bad.toml").write_text(text)
    for command in ("submit", "run"):
        ended = stager(command, "bad.toml")
        assert (ended.code, ended.out) == (2, "")
        assert ended.error.startswith("stager: job file bad.toml")
        assert words in ended.error
    assert ids(stager) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["submit"], "no job was given"),
        (["submit", "missing.toml"], "missing.toml can't be read: No such file"),
        (["submit", "job.toml", "--name", "x"], "it is one or the other"),
        (["submit", "job.toml", "--", "ls"], "it is one or the other"),
        (["submit", "--"], "the job has no command"),
        (["submit", "--input", "nonsense", "--", "ls"], "malformed URL 'nonsense'"),
        (["submit", "--input", "http://h/", "--", "ls"], "needs a name"),
        (["submit", "--sha256", "x=00", "--", "ls"], "names no input"),
        (["submit", "--env", "A", "--", "ls"], "write --env NAME=VALUE"),
        (["submit", "--after", "a b", "--", "ls"], "not the name of a precondition"),
        (["submit", "--priority", "5000", "--", "ls"], "out of range"),
        (["met", "a/b"], "not the name of a precondition"),
        (["jobs", "--state", "over"], "the states are waiting, ready"),
        (["wait", "x", "--timeout", "-1"], "--timeout"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_status_2(stager: Here, arguments: list[str], words: str) -> None:
    Path("job.toml").write_text('command = ["ls"]')
    ended = stager(*arguments)
    assert ended.code == 2
    assert words in ended.error


def test_wait_tells_failed_from_late_from_done(stager: Here) -> None:
    good = submitted(stager, "--", "true")
    bad = submitted(stager, "--", "sh", "-c", "exit 9")
    late = submitted(stager, "--after", "later", "--", "true")
    ended = stager("wait", good, bad)
    assert (ended.code, ended.lines) == (1, [f"{good} done", f"{bad} failed"])
    assert "status 9" in ended.error
    ended = stager("wait", bad, late, "--timeout", "0.1")
    assert ended.code == 7
    assert f"time is up: job {late} waits for later" in ended.err
    ended = stager("wait", late, "--timeout", "0", "--json")
    assert json.loads(ended.out) == {
        "id": late, "name": "", "state": "waiting", "exit_code": None, "error": None
    }  # fmt: skip
    assert stager("met", "later").err == ""
    assert stager("wait", late).code == 0
    assert "met already" in stager("met", "later").error
    assert any(line.startswith("later\t") for line in stager("met").lines)


def test_a_cancelled_job_never_runs(stager: Here, tmp_path: Path) -> None:
    job = submitted(stager, "--after", "cancel-me", "--", "touch", str(tmp_path / "ran"))
    assert stager("cancel", job).code == 0
    assert "cancelled already" in stager("cancel", job).error
    stager("met", "cancel-me")
    assert stager("wait", job).code == 1
    assert not (tmp_path / "ran").exists()
    done = submitted(stager, "--", "true")
    stager("wait", done)
    ended = stager("cancel", done)
    assert ended.code == 6
    assert "is done" in ended.error


def test_jobs_are_listed_as_columns_for_programs(stager: Here) -> None:
    job = submitted(stager, "--name", "listed", "--after", "nobody-meets-this", "--", "true")
    row = stager("jobs", "--limit", 1).lines[0].split("\t")
    assert row[:3] == [job, "listed", "waiting"]
    assert row[-2] == login_name()
    assert row[-1] == "nobody-meets-this"
    assert json.loads(stager("jobs", "--state", "waiting", "--limit", 1, "--json").out)["id"] == job


def test_an_input_that_is_wrong_for_good_fails_the_job_and_says_what_to_do(
    stager: Here, origin: Origin
) -> None:
    url = origin.serve("/gone.dat", status(404))
    job = submitted(stager, "--input", url, "--", "true")
    ended = stager("wait", job)
    assert ended.code == 1
    assert url in ended.error
    assert "404" in ended.error
    page = stager("job", job).out
    assert "what went wrong" in page
    assert "way out" in page


def test_an_unknown_job_is_status_3_everywhere(stager: Here) -> None:
    for command in (["job"], ["wait"], ["cancel"], ["logs"], ["results", "ls"], ["results", "get"]):
        ended = stager(*command, "nobody")
        assert ended.code == 3
        assert ended.error == "stager: no job 'nobody'; see `stager jobs`"


class TestResults:
    @pytest.fixture
    def job(self, stager: Here) -> str:
        script = "mkdir results/fits; echo a > results/a.txt; echo b > results/fits/b.txt"
        job = submitted(stager, "--", "sh", "-c", script)
        assert stager("wait", job).code == 0
        return job

    def test_results_are_listed_with_size_and_digest(self, stager: Here, job: str) -> None:
        found = [json.loads(line) for line in stager("results", "ls", job, "--json").lines]
        assert [(r["name"], r["size"]) for r in found] == [("a.txt", 2), ("fits/b.txt", 2)]
        assert found[0]["sha256"] == hashlib.sha256(b"a\n").hexdigest()
        assert stager("results", "ls", job).lines[0].split("\t")[2] == "a.txt"

    def test_all_results_go_below_a_directory(self, stager: Here, job: str) -> None:
        assert stager("results", "get", job, "-o", "out").lines == ["out/a.txt", "out/fits/b.txt"]
        assert Path("out/fits/b.txt").read_text() == "b\n"
        assert sorted(p.name for p in Path("out").iterdir()) == ["a.txt", "fits"]

    def test_one_result_goes_to_a_file_or_to_stdout(self, stager: Here, job: str) -> None:
        assert stager("results", "get", job, "fits/b.txt", "-o", "mine.txt").lines == ["mine.txt"]
        assert Path("mine.txt").read_text() == "b\n"
        assert stager("results", "get", job, "a.txt", "-o", "-").out == "a\n"
        assert "it takes one" in stager("results", "get", job, "-o", "-").error

    def test_nothing_is_overwritten_without_force(self, stager: Here, job: str) -> None:
        Path("fits").mkdir()
        Path("fits/b.txt").write_text("precious")
        ended = stager("results", "get", job)
        assert ended.code == 6
        assert "fits/b.txt exists" in ended.error
        assert not Path("a.txt").exists()
        assert Path("fits/b.txt").read_text() == "precious"
        assert stager("results", "get", job, "--force").code == 0
        assert Path("fits/b.txt").read_text() == "b\n"

    def test_that_there_is_none_is_said(self, stager: Here) -> None:
        job = submitted(stager, "--", "true")
        assert stager("wait", job).code == 0
        ended = stager("results", "get", job)
        assert (ended.code, ended.out) == (0, "")
        assert f"job {job} left no results" in ended.error

    def test_an_unknown_result_is_named_with_those_there_are(self, stager: Here, job: str) -> None:
        ended = stager("results", "get", job, "c.txt")
        assert ended.code == 3
        assert "a.txt, fits/b.txt" in ended.error

    def test_a_result_that_arrives_damaged_is_not_written(
        self, stager: Here, job: str, server: ServerProcess
    ) -> None:
        with server.client() as client:
            sha256 = client.results.list(job)[0].sha256
        path = server.root / "cache" / "objects" / sha256[:2] / sha256[2:4] / sha256
        path.chmod(0o600)
        path.write_text("x\n")
        try:
            ended = stager("results", "get", job, "a.txt")
            assert ended.code == 1
            assert "digest" in ended.error
            assert list(Path().iterdir()) == []
        finally:
            path.write_text("a\n")
            path.chmod(0o444)


def test_the_way_into_the_page_is_a_link_that_is_good_once(
    stager: Here, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = stager("ui").lines[0]
    assert link.startswith(f"{server.url}/login?once=")
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Sec-Fetch-Site"] = "none"  # as a browser says of what somebody typed
        assert "Overview" in session.get(link, timeout=60).text
    opened: list[str] = []

    def open_(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", open_)
    ended = stager("ui", "--open")
    assert (ended.code, ended.lines) == (0, [])
    path = Path(opened[0].removeprefix("file://"))  # the link itself would be an argument, which others see
    assert path.stat().st_mode & 0o777 == 0o600
    assert f"{server.url}/login?once=" in path.read_text()
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    assert stager("ui", "--open").lines[0].startswith(f"{server.url}/login?once=")
    assert json.loads(stager("ui", "--json").lines[0])["url"].startswith(server.url)


class TestTheServerItself:
    def test_a_wrong_token_is_one_line_and_status_4(
        self, stager: Here, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STAGER_TOKEN", "wrong" * 10)
        ended = stager("jobs")
        assert ended.code == 4
        assert "did not accept the token" in ended.error
        assert "set STAGER_TOKEN" in ended.error

    def test_no_server_is_one_line_and_status_4(
        self, stager: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("STAGER_STATE_DIR", str(tmp_path / "empty"))
        ended = stager("jobs")
        assert ended.code == 4
        assert "start it with `stager serve`" in ended.error
        assert not (tmp_path / "empty").exists()

    def test_a_configured_server_that_is_not_there_is_named(
        self, stager: Here, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STAGER_SERVER", "http://127.0.0.1:9/")
        ended = stager("jobs")
        assert ended.code == 4
        assert ended.error == (
            "stager: no server answers at http://127.0.0.1:9: Connection refused; start it with `stager serve`"
        )

    def test_what_is_no_stager_server_is_told_from_one(
        self, stager: Here, monkeypatch: pytest.MonkeyPatch, origin: Origin
    ) -> None:
        monkeypatch.setenv("STAGER_SERVER", origin.base)
        assert "is not a Stager server" in stager("jobs").error

    def test_a_second_server_on_the_same_state_is_refused(self, stager: Here, server: ServerProcess) -> None:
        ended = stager("serve", "--port", "0")
        assert ended.code == 6
        assert f"process {server.pid}" in ended.error

    def test_an_address_that_others_can_reach_is_refused(self, stager: Here) -> None:
        ended = stager("serve", "--listen", "0.0.0.0")
        assert ended.code == 2
        assert "other machines could reach it" in ended.error

    def test_the_server_says_where_it_is_and_logs_the_rest(self, server: ServerProcess) -> None:
        notes = [line for line in server.said if line.startswith("stager: ")]
        assert notes == [
            f"stager: the administrator's token is in {server.root / 'state' / 'token'}",
            f"stager: ready at {server.url}",
        ]
        assert all("event" in json.loads(line) for line in server.said if line not in notes)


def test_tables_and_pages_fit_a_terminal(stager: Here, origin: Origin) -> None:
    url = origin.serve("/bad.dat", status(404))
    job = submitted(stager, "--name", "on-terminal", "--input", url, "--", "true")
    stager("wait", job)
    code, drawn = on_terminal("jobs", "--limit", "5")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
    assert code == 0
    assert "waits for, or what went wrong" in plain
    assert job in plain
    assert max(len(line.rstrip()) for line in plain.splitlines()) <= 100
    code, drawn = on_terminal("job", job)
    assert code == 0
    assert "404" in drawn


def test_control_characters_of_a_job_never_reach_the_terminal(stager: Here) -> None:
    job = submitted(stager, "--", "printf", "\x1b[2J")
    stager("wait", job)
    assert "\x1b" not in stager("job", job).out
    assert os.linesep in stager("job", job).out
