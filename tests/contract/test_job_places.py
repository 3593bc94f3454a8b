"""What the mapper may rely on, wherever jobs run (the port `JobPlace`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from stager.errors import CommandFailedError, ResultMissingError
from stager.model.events import DispatchInput, JobEnded, JobRefused, JobResult, JobStarted
from tests.support.places import PLACES, Place, order, until


@pytest.fixture(params=PLACES, ids=lambda kind: kind.__name__)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made: Place = request.param(tmp_path)
    yield made
    made.close()


def kept(place: Place, name: str) -> DispatchInput:
    """An input whose object is in the cache."""
    data = f"content of {name}\n".encode()
    entry = place.cache.put(f"http://origin.test/{name}", data)
    return DispatchInput(name, entry.object, entry.size, f"fetch-of-{name}")


def gate(place: Place) -> tuple[Path, str]:
    """A file, and a script that says it runs and then waits for the file to appear."""
    path = place.root / "go"
    return path, f"echo ran >> {place.root}/ran; until [ -e {path} ]; do sleep 0.02; done"


def runs(place: Place) -> int:
    """How often the script of `gate`, or one that does likewise, has run."""
    path = place.root / "ran"
    return path.read_text().count("ran\n") if path.exists() else 0


def test_a_hand_over_is_answered_by_one_start_and_one_end(place: Place) -> None:
    place.new().hand_over(order("true"))
    assert place.heard.ended() == JobEnded("job1", 1, 0, None, (), place.heard.ended().seconds)
    assert place.heard.kinds() == ["JobStarted", "JobEnded"]


def test_a_lost_input_is_refused_with_its_fetch_and_nothing_starts(place: Place) -> None:
    lost = DispatchInput("b.dat", "b" * 64, 3, "fetch9")
    place.new().hand_over(order(f"echo ran >> {place.root}/ran", kept(place, "a.dat"), lost))
    assert place.heard.wait_for(JobRefused) == JobRefused("job1", 1, ("fetch9",))
    assert place.heard.kinds() == ["JobRefused"]
    assert runs(place) == 0


def test_a_refused_hand_over_stays_refused_and_the_next_epoch_is_another_one(place: Place) -> None:
    dispatcher = place.new()
    data = b"content of a.dat\n"
    missing = DispatchInput("a.dat", sha256(data).hexdigest(), len(data), "f1")
    first = order(f"echo ran >> {place.root}/ran", missing)
    dispatcher.hand_over(first)
    place.heard.wait_for(JobRefused)
    kept(place, "a.dat")
    dispatcher.hand_over(first)
    place.heard.wait_for(JobRefused, 2)
    assert runs(place) == 0
    dispatcher.hand_over(replace(first, epoch=2))
    assert place.heard.ended().epoch == 2
    assert runs(place) == 1


def test_a_second_hand_over_of_the_same_id_starts_nothing(place: Place) -> None:
    dispatcher, (go, script) = place.new(), gate(place)
    again = order(script)
    dispatcher.hand_over(again)
    dispatcher.hand_over(again)
    place.heard.wait_for(JobStarted)
    dispatcher.hand_over(again)
    go.touch()
    place.heard.ended()
    dispatcher.hand_over(again)  # it tells again what became of it
    assert place.heard.ended(2).exit_code == 0
    assert runs(place) == 1


def test_inputs_are_seen_under_their_own_names(place: Place) -> None:
    script = 'cd "$STAGER_INPUTS" && cat *.dat > "$STAGER_RESULTS/all" && ls > "$STAGER_RESULTS/names"'
    place.new().hand_over(order(script, kept(place, "a.dat"), kept(place, "b c.dat")))
    assert place.heard.ended().error is None
    assert place.cache.path("result:job1/all").read_text() == "content of a.dat\ncontent of b c.dat\n"
    assert place.cache.path("result:job1/names").read_text() == "a.dat\nb c.dat\n"


def test_a_job_gets_its_own_environment_and_not_the_servers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("STAGER_DATABASE_URL", "postgresql://canary")
    place.new().hand_over(order("env -0 > results/env; pwd > results/where"))
    assert place.heard.ended().error is None
    text = place.cache.path("result:job1/env").read_text()
    environment = dict(pair.split("=", 1) for pair in text.split("\0") if pair)
    directory = str(place.cache.root / "jobs" / "job1")
    assert environment["MODE"] == "it's \n$HOME"
    assert environment["STAGER_JOB_ID"] == "job1"
    assert environment["STAGER_JOB_NAME"] == "a name; with $(words)"
    assert environment["STAGER_JOB_DIR"] == directory
    assert environment["STAGER_INPUTS"] == f"{directory}/inputs"
    assert environment["STAGER_RESULTS"] == f"{directory}/results"
    assert "PATH" in environment
    assert "canary" not in text
    assert place.cache.path("result:job1/where").read_text().strip() == directory


def test_results_are_kept_with_their_digests(place: Place) -> None:
    script = "printf one > results/a.txt; mkdir results/sub; printf two > results/sub/b.txt; touch results/no"
    place.new().hand_over(order(script, results=("*.txt",)))
    assert place.heard.ended().results == (
        JobResult("a.txt", sha256(b"one").hexdigest(), 3),
        JobResult("sub/b.txt", sha256(b"two").hexdigest(), 3),
    )
    assert place.cache.path("result:job1/sub/b.txt").read_bytes() == b"two"


def test_a_result_that_is_missing_fails_the_job(place: Place) -> None:
    place.new().hand_over(order("true", results=("fit.json",)))
    ended = place.heard.ended()
    assert isinstance(ended.error, ResultMissingError)
    assert ended.exit_code == 0


def test_a_command_that_fails_says_so_and_its_results_are_kept(place: Place) -> None:
    place.new().hand_over(order("echo partly > results/a; exit 7"))
    ended = place.heard.ended()
    assert ended.exit_code == 7
    assert isinstance(ended.error, CommandFailedError)
    assert "status 7" in str(ended.error)
    assert [result.name for result in ended.results] == ["a"]


def test_a_command_that_does_not_exist_is_named(place: Place) -> None:
    place.new().hand_over(replace(order(""), command=("/no/such/program",)))
    ended = place.heard.ended()
    assert ended.exit_code is None
    assert isinstance(ended.error, CommandFailedError)
    assert "/no/such/program" in str(ended.error)


def test_what_a_command_prints_can_be_read_in_the_jobs_directory(place: Place) -> None:
    place.new().hand_over(order("echo out; echo err >&2"))
    place.heard.ended()
    directory = place.cache.root / "jobs" / "job1"
    assert (directory / "stdout").read_text() == "out\n"
    assert (directory / "stderr").read_text() == "err\n"


def test_a_job_that_runs_is_ended_when_it_is_stopped(place: Place) -> None:
    dispatcher, (_, script) = place.new(), gate(place)
    dispatcher.hand_over(order(script))
    until(lambda: runs(place))
    dispatcher.stop("job1", 1)
    assert place.heard.ended().exit_code != 0
    assert place.heard.kinds() == ["JobStarted", "JobEnded"]


def test_a_job_stopped_before_it_was_handed_over_never_starts(place: Place) -> None:
    place.new().stop("job1", 1)  # as after a restart: the server before may or may not have started it
    assert place.heard.ended().exit_code is None
    place.new().hand_over(order(f"echo ran >> {place.root}/ran"))
    assert place.heard.ended(2).exit_code is None
    assert runs(place) == 0


def test_a_job_stopped_at_once_is_over_however_far_it_came(place: Place) -> None:
    dispatcher, (_, script) = place.new(), gate(place)
    dispatcher.hand_over(order(script))
    dispatcher.stop("job1", 1)
    assert place.heard.ended().exit_code != 0
    assert place.heard.kinds().count("JobEnded") == 1


def test_a_restarted_server_finds_a_job_that_runs(place: Place) -> None:
    first, (go, script) = place.new(), gate(place)
    again = order(f"{script}; echo done > results/done")
    first.hand_over(again)
    until(lambda: runs(place))
    first.close()
    place.new().hand_over(again)
    place.heard.wait_for(JobStarted)
    go.touch()
    ended = place.heard.ended()
    assert (ended.exit_code, ended.error, [r.name for r in ended.results]) == (0, None, ["done"])
    assert runs(place) == 1


def test_a_restarted_server_can_stop_a_job_that_runs(place: Place) -> None:
    first, (_, script) = place.new(), gate(place)
    first.hand_over(order(script))
    until(lambda: runs(place))
    first.close()
    place.new().stop("job1", 1)
    assert place.heard.ended().exit_code != 0


def test_a_job_that_ended_while_no_server_was_there_is_found(place: Place) -> None:
    first, (go, script) = place.new(), gate(place)
    again = order(f"{script}; echo done > results/done; echo > {place.root}/over")
    first.hand_over(again)
    until(lambda: runs(place))
    first.close()
    go.touch()
    until((place.root / "over").exists)
    place.new().hand_over(again)
    ended = place.heard.ended()
    assert (ended.exit_code, [r.name for r in ended.results]) == (0, ["done"])
    assert runs(place) == 1


def test_after_the_end_is_recorded_only_what_was_printed_stays(place: Place) -> None:
    dispatcher = place.new()
    dispatcher.hand_over(order("cat inputs/a.dat; echo 1 > results/a", kept(place, "a.dat")))
    place.heard.ended()
    dispatcher.clean_up("job1", 1)
    directory = place.cache.root / "jobs" / "job1"
    until(lambda: not (directory / "results").exists())
    assert not (directory / "inputs").exists()
    assert (directory / "stdout").read_text() == "content of a.dat\n"
    assert place.cache.path("result:job1/a").read_text() == "1\n"
    dispatcher.close()
    variables = [path for path in directory.rglob("*") if path.is_file() and b"MODE" in path.read_bytes()]
    assert variables == []  # they may be secret


def test_at_a_start_jobs_that_are_over_are_cleaned_up_after_and_no_others(place: Place) -> None:
    first, (go, script) = place.new(), gate(place)
    waiting = order(script, job="job2")
    first.hand_over(order("true"))
    first.hand_over(waiting)
    place.heard.ended()
    until(lambda: runs(place))
    first.close()
    second = place.new()
    second.tidy({"job2"})
    second.hand_over(waiting)
    go.touch()
    assert place.heard.ended(2).exit_code == 0
    assert runs(place) == 1


def test_nothing_is_told_after_the_close(place: Place) -> None:
    dispatcher, (go, script) = place.new(), gate(place)
    dispatcher.hand_over(order(f"{script}; echo > {place.root}/over"))
    until(lambda: runs(place))
    dispatcher.close()
    told = place.heard.kinds()
    go.touch()
    until((place.root / "over").exists)
    dispatcher.hand_over(order("true", job="late"))
    dispatcher.stop("late", 1)
    assert place.heard.kinds() == told
    other = place.new(lambda _: None)  # and what was not told is not lost: see above
    other.close()
