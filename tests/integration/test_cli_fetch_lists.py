"""``stager fetch --from``: lists in every form, with a real origin that has not everything."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.commandline import Ended, Here, command, on_terminal
from tests.support.origin import Origin, content, status

ONE, TWO = b"1" * 9, b"22"
MANY = 40


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        origin.serve("/one", content(ONE))
        origin.serve("/two", content(TWO))
        yield origin


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STAGER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("STAGER_RETRY_FIRST_SECONDS", "0.001")
    monkeypatch.setenv("STAGER_RETRY_ATTEMPTS", "2")
    return tmp_path / "cache"


@pytest.fixture
def stager(capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(capsys)


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def contents(done: Ended) -> list[bytes]:
    return [Path(line).read_bytes() for line in done.lines]


def lists(origin: Origin) -> dict[str, str]:
    """The same two files in each form; the first mirror of the second has it not."""
    one, two, none = origin.url("/one"), origin.url("/two"), origin.url("/none")
    return {
        "x.txt": f"# two files\n{one}\n{two}\n",
        "in": f"{one}\n  checksum=sha-256={digest(ONE)}\n{none}\t{two}\n  out=two\n",
        "x.meta4": f"""<metalink xmlns="urn:ietf:params:xml:ns:metalink">
            <file name="one"><size>{len(ONE)}</size><hash type="sha-256">{digest(ONE)}</hash><url>{one}</url></file>
            <file name="two"><url priority="2">{two}</url><url priority="1">{none}</url></file></metalink>""",
        "fetch.txt": f"{one} {len(ONE)} data/one\n{two} - data/two\n",
        "x.csv": f"url,sha256,size\n{one},{digest(ONE)},{len(ONE)}\n{none} {two},,\n",
        "x.json": json.dumps([{"url": one, "sha256": digest(ONE)}, {"urls": [none, two], "size": len(TWO)}]),
    }


@pytest.mark.parametrize("name", ["x.txt", "in", "x.meta4", "fetch.txt", "x.csv", "x.json"])
def test_a_list_in_any_form_is_fetched_in_its_order(
    stager: Here, origin: Origin, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_text(lists(origin)[name])
    (tmp_path / "manifest-sha256.txt").write_text(f"{digest(ONE)}  data/one\n{digest(TWO)}  data/two\n")
    done = stager("fetch", "--from", path)
    assert (done.code, contents(done)) == (0, [ONE, TWO]), done


def test_the_answer_says_which_url_delivered_and_which_did_not(
    stager: Here, origin: Origin, tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"urls": [origin.url("/none"), origin.url("/two")], "name": "my name"}]))
    done = stager("fetch", "--json", "--from", path)
    fact = json.loads(done.out)
    assert (fact["url"], fact["name"], fact["size"]) == (origin.url("/two"), "my name", len(TWO))
    (tried,) = fact["tried"]
    assert (tried["url"], tried["error"]["code"]) == (origin.url("/none"), "origin-refused")
    assert done.code == 0
    assert f"it came from {origin.url('/two')} instead" in done.err


def test_when_no_url_delivers_all_their_failures_are_told(
    stager: Here, origin: Origin, tmp_path: Path
) -> None:
    origin.serve("/busy", status(503))
    path = tmp_path / "list"
    path.write_text(f"{origin.url('/none')}\t{origin.url('/busy')}\n{origin.url('/one')}\n")
    done = stager("fetch", "--from", path)
    assert (done.code, contents(done)) == (1, [ONE])
    assert [url in done.err for url in ("/none", "/busy")] == [True, True]
    facts = [json.loads(line) for line in stager("fetch", "--json", "--from", path).lines]
    (missed,) = [fact for fact in facts if "error" in fact]
    assert (missed["url"], missed["error"]["code"]) == (origin.url("/busy"), "origin-busy")
    assert [one["url"] for one in missed["tried"]] == [origin.url("/none")]


def test_a_file_whose_digest_or_size_is_not_the_listed_one_is_not_delivered(
    stager: Here, origin: Origin, tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        f"url,sha256,size\n{origin.url('/one')},,{len(ONE) + 1}\n{origin.url('/two')},{digest(ONE)},\n"
    )
    done = stager("fetch", "--json", "--from", path)
    errors = {fact["url"]: fact["error"] for fact in map(json.loads, done.lines)}
    assert done.code == 1
    assert {error["code"] for error in errors.values()} == {"digest-mismatch"}
    assert "9 bytes, 10 were expected" in errors[origin.url("/one")]["cause"]


def test_lists_are_read_from_stdin_and_come_after_urls_and_may_be_several(
    origin: Origin, tmp_path: Path
) -> None:
    (tmp_path / "list").write_text(origin.url("/one"))
    done = subprocess.run(
        command("fetch", origin.url("/two"), "--from", tmp_path / "list", "--from", "-"),
        input=f"{origin.url('/two')}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert [Path(line).read_bytes() for line in done.stdout.splitlines()] == [TWO, ONE, TWO]
    assert len(origin.seen("/two")) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "list:1: malformed URL"),
        ("http://a.test/\nhttp://me:canary@h/", "list:2: URL .* user name"),
    ],
)
def test_a_bad_list_stops_all_before_anything_is_changed(
    stager: Here, origin: Origin, tmp_path: Path, cache: Path, text: str, says: str
) -> None:
    (tmp_path / "list").write_text(text)
    done = stager("fetch", origin.url("/one"), "--from", tmp_path / "list")
    assert (done.code, done.out) == (2, "")
    assert re.search(says, done.error)
    assert "canary" not in done.error
    assert not origin.seen()
    assert not cache.exists()


@pytest.mark.parametrize(
    "arguments", [["--from", "none"], ["--from", "/"], ["--from", "x", "--sha256", "0" * 64], []]
)
def test_wrong_usage_is_one_line(stager: Here, arguments: list[str]) -> None:
    done = stager("fetch", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith("stager: ")


def test_an_empty_list_is_done_at_once(stager: Here, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# nothing today\n")
    done = stager("fetch", "--from", tmp_path / "list")
    assert (done.code, done.out) == (0, "")
    assert done.error.endswith("lists no file")


def test_the_form_of_a_list_can_be_given(stager: Here, origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(origin.url("/one"))
    assert stager("fetch", "--from", tmp_path / "x.json").code == 2
    assert stager("fetch", "--list-format", "plain", "--from", tmp_path / "x.json").code == 0


def test_a_long_list_is_spread_over_processes_and_its_second_round_as_well(
    origin: Origin, tmp_path: Path
) -> None:
    urls = [origin.serve(f"/{n}", content(b"%d" % n)) for n in range(MANY)]
    (tmp_path / "list").write_text(
        "".join(f"{origin.url('/none')}{n}\t{url}\n" for n, url in enumerate(urls))
    )
    code, drawn = on_terminal(
        "fetch", "--from", tmp_path / "list", environment={"STAGER_FETCH_PROCESSES": "2"}
    )
    assert code == 0
    assert f"{MANY} of {MANY} files" in drawn
    assert {len(origin.seen(f"/{n}")) for n in range(MANY)} == {1}
