from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.commandline import Here, command, end, on_terminal, run, running
from tests.support.origin import OVERLAP, Origin, content, raw, status

DATA = bytes(range(256)) * 40
LARGE = bytes(range(251)) * 8000
MANY = 50


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def stager(capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(capsys)


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def test_paths_of_verified_files_are_printed_in_the_order_of_the_urls(
    stager: Here, origin: Origin, cache: Path
) -> None:
    one = origin.serve("/one", content(b"1" * 9))
    two = origin.serve("/two", content(b"2"))
    done = stager("fetch", "--cache", cache, one, two, one)
    assert (done.code, done.err) == (0, "")
    assert [Path(line).read_bytes() for line in done.lines] == [b"1" * 9, b"2", b"1" * 9]
    assert len(origin.seen("/one")) == 1


def test_a_second_call_is_a_hit_and_touches_no_network(stager: Here, origin: Origin, cache: Path) -> None:
    url = origin.serve("/f", content(DATA, headers={"Cache-Control": "max-age=60"}))
    first = stager("fetch", "--cache", cache, url)
    second = stager("fetch", "--cache", cache, url)
    assert first == second
    assert len(origin.seen()) == 1


def test_refresh_asks_the_origin_which_need_not_send_the_bytes_again(
    stager: Here, origin: Origin, cache: Path
) -> None:
    url = origin.serve("/f", content(DATA, etag='"1"'))
    stager("fetch", "--cache", cache, url)
    fact = json.loads(stager("fetch", "--cache", cache, "--refresh", "--json", url).out)
    assert fact["cached"] is True
    assert origin.seen()[1].headers["if-none-match"] == '"1"'
    assert origin.sent() == len(DATA)


def test_json_is_one_object_per_url_with_what_a_program_needs(
    stager: Here, origin: Origin, cache: Path
) -> None:
    good = origin.serve("/good", content(DATA))
    done = stager("fetch", "--json", "--cache", cache, good, origin.url("/none"))
    facts = {fact["url"]: fact for fact in map(json.loads, done.lines)}
    fact = facts[good]
    assert fact.keys() == {"url", "path", "sha256", "size", "cached", "seconds"}
    assert (fact["sha256"], fact["size"], fact["cached"]) == (digest(DATA), len(DATA), False)
    assert Path(fact["path"]).read_bytes() == DATA
    error = facts[origin.url("/none")]["error"]
    assert (error["code"], error["transient"]) == ("origin-refused", False)
    assert done.code == 1


def test_a_failure_is_one_line_that_names_url_and_cause_and_costs_no_other_file(
    stager: Here, origin: Origin, cache: Path
) -> None:
    good = origin.serve("/good", content(DATA))
    done = stager("fetch", "--cache", cache, origin.url("/none"), good)
    assert done.code == 1
    assert re.fullmatch(rf"stager: .*{re.escape(origin.url('/none'))}.*404.*; .+", done.error)
    assert [Path(line).read_bytes() for line in done.lines] == [DATA]


def test_secrets_in_a_url_are_not_shown(stager: Here, origin: Origin, cache: Path) -> None:
    done = stager("fetch", "--json", "--cache", cache, origin.url("/f?token=hush"))
    assert "hush" not in done.out + done.err
    assert "token=***" in done.out


@pytest.mark.parametrize(
    "url", ["gopher://origin.test/x", "http://", "not a url", "http://me:pw@origin.test/"]
)
def test_one_bad_url_stops_all_before_anything_is_changed(
    stager: Here, origin: Origin, cache: Path, url: str
) -> None:
    good = origin.serve("/good", content(DATA))
    done = stager("fetch", "--cache", cache, good, url)
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith("stager: ")
    assert "pw" not in done.err
    assert not origin.seen()
    assert not cache.exists()


def test_a_digest_is_checked_and_a_wrong_one_leaves_nothing_behind(
    stager: Here, origin: Origin, cache: Path
) -> None:
    url = origin.serve("/f", content(DATA))
    wrong = stager("fetch", "--cache", cache, "--sha256", "0" * 64, url)
    assert (wrong.code, wrong.out) == (1, "")
    assert "0" * 64 in wrong.error
    assert not [path for path in (cache / "objects").rglob("*") if path.is_file()]
    assert stager("fetch", "--cache", cache, "--sha256", f"SHA256:{digest(DATA).upper()}", url).code == 0


@pytest.mark.parametrize(
    "arguments", [["--sha256", "12"], ["--sha256", "0" * 64, "http://other.test/"], ["--bad"]]
)
def test_wrong_usage_is_one_line_and_says_where_help_is(
    stager: Here, cache: Path, arguments: list[str]
) -> None:
    done = stager("fetch", "--cache", cache, "http://origin.test/", *arguments)
    assert (done.code, done.out) == (2, "")
    assert ";" in done.error
    assert not cache.exists()


def test_no_url_at_all_is_wrong_usage(stager: Here) -> None:
    assert stager("fetch").code == 2


def test_a_directory_that_is_no_cache_is_refused_and_left_alone(stager: Here, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    done = stager("fetch", "--cache", tmp_path, "http://origin.test/")
    assert done.code == 5
    assert str(tmp_path) in done.error
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_setting_that_makes_no_sense_is_refused(stager: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGER_FETCH_THREADS", "none")
    done = stager("fetch", "http://origin.test/")
    assert done.code == 2
    assert "fetch_threads" in done.error


def test_many_urls_are_spread_over_processes_with_the_same_answers(origin: Origin, cache: Path) -> None:
    urls = [origin.serve(f"/{n}", content(b"%d" % n)) for n in range(MANY)]
    urls[7] = origin.url("/none")
    first = run("fetch", "--cache", cache, *urls)
    expected = [b"%d" % n for n in range(MANY) if n != 7]
    assert [Path(line).read_bytes() for line in first.lines] == expected
    assert first.code == 1
    assert "/none" in first.error
    assert len(origin.seen()) == MANY
    second = run("fetch", "--cache", cache, *urls)
    assert second == first
    assert len(origin.seen()) == MANY + 1  # the one that is not there is asked for again


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("more", [0, MANY], ids=["in threads", "in processes"])
def test_an_interrupt_keeps_what_came_and_the_next_call_resumes(
    origin: Origin, cache: Path, number: signal.Signals, more: int
) -> None:
    cut = len(LARGE) // 2
    url = origin.serve("/f", content(LARGE, etag='"1"', cut=cut, end="hold"), content(LARGE, etag='"1"'))
    others = [origin.serve(f"/{n}", content(b"%d" % n)) for n in range(more)]
    arguments = ("fetch", "--cache", cache, url, *others)
    with running(*arguments) as process:
        for path in ["/f", *(f"/{n}" for n in range(more))]:
            origin.wait_for(path, timeout=30)
        wait_for_partial(cache, cut)
        done = end(process, number, group=True)
    assert (done.code, done.out) == (130, "")
    assert done.error == (
        "stager: interrupted: what was transferred is kept, and the same command goes on from there"
    )
    again = run(*arguments)
    assert again.code == 0
    assert Path(again.lines[0]).read_bytes() == LARGE
    assert origin.seen("/f")[1].headers["range"] == f"bytes={cut - OVERLAP}-"
    assert origin.sent("/f") == len(LARGE) + OVERLAP


def wait_for_partial(cache: Path, size: int) -> None:
    """The transfer writes the file in another process; nothing there can tell us."""
    import time

    until = time.monotonic() + 20
    while not any(path.stat().st_size == size for path in cache.glob("partial/*/*") if path.is_file()):
        assert time.monotonic() < until, list(cache.glob("partial/*/*"))
        time.sleep(0.01)


def test_a_dropped_connection_is_resumed_within_one_call(
    stager: Here, origin: Origin, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGER_RETRY_FIRST_SECONDS", "0.01")
    url = origin.serve("/f", content(LARGE, etag='"1"', cut=700_000), status(503), content(LARGE, etag='"1"'))
    done = stager("fetch", "--cache", cache, url)
    assert Path(done.lines[0]).read_bytes() == LARGE
    assert origin.sent("/f") == len(LARGE) + OVERLAP


def test_what_never_gets_better_is_given_up_with_the_number_of_tries(
    stager: Here, origin: Origin, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGER_RETRY_FIRST_SECONDS", "0.001")
    monkeypatch.setenv("STAGER_RETRY_ATTEMPTS", "3")
    done = stager("fetch", "--cache", cache, origin.serve("/f", raw(b"")))
    assert done.code == 1
    assert "tried 3 times" in done.error
    assert len(origin.seen()) == 3


def test_a_reader_that_goes_away_is_no_reason_to_complain(origin: Origin, cache: Path) -> None:
    urls = [origin.serve(f"/{n}", content(b"%d" % n)) for n in range(3)]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command("fetch", "--cache", cache, *urls),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=buffered,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_terminal_sees_a_bar_per_file_and_the_paths(origin: Origin, cache: Path) -> None:
    urls = [origin.serve(f"/run-{n}.nxs", content(DATA)) for n in range(3)]
    code, drawn = on_terminal("fetch", "--cache", cache, *urls)
    assert code == 0
    assert all(f"run-{n}.nxs" in drawn for n in range(3))
    assert "3 of 3 files" in drawn
    assert drawn.count(str(cache)) == 3


def test_a_terminal_sees_no_more_than_a_few_bars_for_many_files(origin: Origin, cache: Path) -> None:
    urls = [origin.serve(f"/run-{n}.nxs", content(DATA)) for n in range(MANY)]
    code, drawn = on_terminal("fetch", "--cache", cache, *urls, environment={"NO_COLOR": "1"})
    assert code == 0
    assert f"{MANY} of {MANY} files" in drawn
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", drawn), "colour in spite of NO_COLOR"


def test_this_machine_is_read_only_where_the_environment_an_option_or_the_settings_file_allows_it(
    stager: Here, origin: Origin, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = origin.serve("/f", content(DATA))
    ask = ("fetch", "--cache", cache, "--refresh", url)
    assert stager(*ask).code == 0
    monkeypatch.delenv("STAGER_ALLOWED_NETWORKS")
    refused = stager(*ask, "--json")
    assert refused.code == 1
    error = json.loads(refused.out)["error"]
    assert error["code"] == "address-refused"
    assert error["details"]["address"] == "127.0.0.1"
    assert not error["transient"]
    assert error["remedy"].endswith('allowed_networks = "127.0.0.0/8"')
    assert len(origin.seen()) == 1
    assert stager(*ask, "--allowed-networks", "127.0.0.0/8").code == 0
    config = tmp_path / "config.toml"
    monkeypatch.setenv("STAGER_CONFIG", str(config))
    config.write_text('allowed_networks = ["127.0.0.0/8"]')
    assert stager(*ask).code == 0
    config.write_text(f'allowed_origins = ["127.0.0.1 127.0.0.0/8 {origin.port}"]')
    assert stager(*ask).code == 0
    config.write_text('allowed_networks = "localhost"')
    wrong = stager(*ask)
    assert (wrong.code, "allowed_networks" in wrong.error) == (2, True)
    config.write_text('allowed_origins = "localhost"')
    wrong = stager(*ask)
    assert (wrong.code, "a rule is HOST NETWORK" in wrong.error) == (2, True)
