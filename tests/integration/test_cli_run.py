"""``stager run``: a job with no server, in a pipe and on a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest

from stager.cli.results import write_verified
from stager.errors import IncompleteError
from stager.model.views import ResultView
from tests.support import commandline
from tests.support.commandline import Here, on_terminal
from tests.support.origin import Exchange, Origin, content, status


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STAGER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("STAGER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STAGER_JOB_GRACE_SECONDS", "1")
    monkeypatch.setenv("STAGER_RETRY_FIRST_SECONDS", "0.01")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def stager(capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(capsys)


def leftovers(place: Path) -> list[str]:
    """What a run left besides the cache's own files."""
    jobs = place / "cache" / "jobs"
    return [p.name for folder in (place / "tmp", jobs) if folder.exists() for p in folder.iterdir()]


def test_a_run_stages_runs_passes_output_on_keeps_results_and_ends_with_the_jobs_status(
    stager: Here, place: Path
) -> None:
    with Origin() as origin:
        url = origin.serve("/a.dat", content(b"1 2\n"))
        Path("fit.toml").write_text(
            f'command = ["sh", "-c", "cat inputs/a.dat; echo oops >&2; echo r > results/r; exit 42"]\ninputs = ["{url}"]'
        )
        ended = stager("run", "fit.toml")
    assert ended.code == 42
    assert ended.out == "1 2\n"
    assert ended.err.splitlines()[:2] == ["oops", "stager: 1 result in fit-results/"]
    assert "status 42" in ended.err.splitlines()[2]
    assert Path("fit-results/r").read_text() == "r\n"
    assert leftovers(place) == []
    assert not (place / "state").exists()
    assert stager("cache", "ls").lines[0].endswith(url)
    assert len(stager("cache", "ls").lines) == 1


def test_the_inputs_of_an_earlier_run_are_not_fetched_again(stager: Here) -> None:
    with Origin() as origin:
        url = origin.serve("/a.dat", content(b"1 2\n"))
        for _ in range(2):
            assert stager("run", "--input", url, "--", "cat", "inputs/a.dat").out == "1 2\n"
        assert len(origin.seen("/a.dat")) == 1


def test_a_successful_run_with_nothing_to_say_says_nothing(stager: Here) -> None:
    assert stager("run", "--", "true") == (0, "", "")


def test_json_is_all_that_stdout_holds(stager: Here) -> None:
    ended = stager(
        "run", "--json", "-o", "out", "--name", "n", "--", "sh", "-c", "echo text; echo r > results/r"
    )
    found = json.loads(ended.out)
    assert (ended.code, found["state"], found["exit_code"], found["name"]) == (0, "done", 0, "n")
    assert [(r["name"], r["path"]) for r in found["results"]] == [("r", "out/r")]
    assert ended.err == "text\n"


def test_output_appears_while_the_job_runs(place: Path) -> None:
    fifo = place / "go-on"
    os.mkfifo(fifo)
    with commandline.running("run", "--", "sh", "-c", f"echo first; cat {fifo}") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        with fifo.open("w") as pipe:
            pipe.write("second\n")
        assert commandline.end(process) == (0, "second\n", "")


def test_what_could_not_be_run_is_125_with_the_reason(stager: Here) -> None:
    ended = stager("run", "--", "no-such-program-anywhere")
    assert ended.code == 125
    assert "No such file" in ended.error
    with Origin() as origin:
        url = origin.serve("/gone", status(404))
        ended = stager("run", "--input", url, "--", "true")
    assert ended.code == 125
    assert url in ended.error
    assert "404" in ended.error


def test_a_cache_that_cannot_be_used_is_125(stager: Here, place: Path) -> None:
    (place / "other").mkdir()
    (place / "other" / "thesis.txt").write_text("mine")
    ended = stager("run", "--cache", place / "other", "--", "true")
    assert ended.code == 125
    assert "other" in ended.error


def test_a_promised_result_that_is_missing_is_a_failure(stager: Here) -> None:
    ended = stager("run", "--result", "fit.json", "--", "true")
    assert ended.code == 1
    assert "fit.json" in ended.error


def test_a_precondition_has_to_be_declared_met(stager: Here) -> None:
    ended = stager("run", "--after", "beam", "--", "echo", "ran")
    assert (ended.code, ended.out) == (2, "")
    assert "--met beam" in ended.error
    assert stager("run", "--after", "beam", "--met", "beam", "--", "echo", "ran").out == "ran\n"


def test_several_jobs_are_for_a_server(stager: Here) -> None:
    Path("two.toml").write_text('[[jobs]]\ncommand = ["true"]\n[[jobs]]\ncommand = ["true"]\n')
    ended = stager("run", "two.toml")
    assert ended.code == 2
    assert "stager submit" in ended.error


def test_results_never_mix_with_what_is_there_and_it_is_said_before_anything_runs(stager: Here) -> None:
    Path("job-results").mkdir()
    Path("job-results/r").write_text("precious")
    script = "echo ran; echo r > results/r"
    ended = stager("run", "--", "sh", "-c", script)
    assert (ended.code, ended.out) == (6, "")
    assert "--force" in ended.error
    assert Path("job-results/r").read_text() == "precious"
    assert stager("run", "--force", "--", "sh", "-c", script).code == 0
    assert Path("job-results/r").read_text() == "r\n"


def test_results_that_cannot_be_written_are_not_lost(stager: Here) -> None:
    Path("out").mkdir()
    script = 'echo work > "$STAGER_RESULTS/r"; rmdir "$1"; echo in-the-way > "$1"'
    ended = stager("run", "-o", "out", "--", "sh", "-c", script, "-", Path("out").absolute())
    assert ended.code == 125
    finds = re.search(r"`stager (cache path \S+)` finds what is kept", ended.err)
    assert finds, ended.err
    (path,) = stager(*finds[1].split()).lines
    assert Path(path).read_text() == "work\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_the_job_and_nothing_of_it_goes_on(place: Path, number: int) -> None:
    script = f'trap "touch {place}/ended; exit" TERM; echo begun; for _ in $(seq 400); do sleep 0.05; done'
    with commandline.running("run", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        ended = commandline.end(process, number)
    assert ended.code == 130
    assert "the job was cancelled" in ended.error
    assert (place / "ended").exists()
    assert leftovers(place) == []


def test_an_interrupt_during_a_transfer_ends_it(place: Path) -> None:
    with Origin() as origin:
        url = origin.serve("/held", lambda exchange: exchange.hold())
        with commandline.running("run", "--input", url, "--", "true") as process:
            origin.wait_for("/held")
            assert commandline.end(process, signal.SIGINT).code == 130
    assert leftovers(place) == []


def test_a_reader_that_goes_away_cancels_the_job(place: Path) -> None:
    script = f'trap "touch {place}/ended; exit" TERM; for _ in $(seq 2000); do echo line; sleep 0.01; done'
    with commandline.running("run", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.wait(commandline.PATIENCE) == 141
    assert (place / "ended").exists()
    assert leftovers(place) == []


def test_a_terminal_shows_a_bar_per_input_and_then_the_output() -> None:
    def slow(exchange: Exchange) -> None:
        threading.Event().wait(0.5)  # several times as long as between two looks at what is new
        content(b"y" * 50_000)(exchange)

    with Origin() as origin:
        first = origin.serve("/one.nxs", content(b"x" * 100_000))
        second = origin.serve("/two.nxs", status(503), slow)
        code, drawn = on_terminal(
            "run", "--input", first, "--input", second, "--", "sh", "-c", "wc -c inputs/*; echo r > results/r"
        )
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
    for words in (
        "one.nxs",
        "97.7 KiB of 97.7 KiB",
        "48.8 KiB of 48.8 KiB",
        "503",
        "150000 total",
        "1 result in job-results/",
    ):
        assert words in plain, plain
    assert plain.index("150000 total") > plain.rindex("KiB")


def test_bytes_that_are_not_the_promised_ones_are_not_written() -> None:
    view = ResultView("r", "0" * 64, 3)
    with pytest.raises(IncompleteError):
        write_verified([b"abc"], view, Path("r"), force=False)
    assert list(Path().iterdir()) == []
