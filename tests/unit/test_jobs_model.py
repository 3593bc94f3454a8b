from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager.errors import IllegalTransitionError, InputError
from stager.model.jobs import (
    JOB_TRANSITIONS,
    MAX_PRIORITY,
    JobInput,
    JobSpec,
    JobState,
    check_file_name,
    check_job_transition,
    check_result_path,
)

DIGEST = "ab" * 32


def test_the_table_of_transitions_lists_every_state() -> None:
    assert set(JOB_TRANSITIONS) == set(JobState)


def test_a_final_state_is_one_that_nothing_leaves() -> None:
    assert {state for state in JobState if state.is_final} == {s for s in JobState if not JOB_TRANSITIONS[s]}


@pytest.mark.parametrize("old", JobState)
@pytest.mark.parametrize("new", JobState)
def test_a_transition_is_allowed_only_by_the_table(old: JobState, new: JobState) -> None:
    if new in JOB_TRANSITIONS[old]:
        check_job_transition("j1", old, new)
    else:
        with pytest.raises(IllegalTransitionError) as refusal:
            check_job_transition("j1", old, new)
        assert refusal.value.details == {"job": "j1", "old": old, "new": new}
        assert f"from {old} to {new}" in str(refusal.value)


def test_every_job_that_is_not_final_can_be_cancelled_and_can_end() -> None:
    for state in JobState:
        if not state.is_final:
            assert JobState.CANCELLED in JOB_TRANSITIONS[state]


@pytest.mark.parametrize("name", ["a", "a b", "ä.txt", ".hidden", "-rf", "a\\b", "ä" * 127, "a" * 255, "..."])
def test_a_plain_name_is_a_file_name(name: str) -> None:
    assert check_file_name(name, "input") == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "a/b", "../a", "a\0", "a\n", "\x1b[2J", "\x7f", "\x9b2J", "ä" * 128, "a" * 256, "\udcff"]
)  # fmt: skip
def test_what_no_directory_can_hold_or_a_terminal_obeys_is_no_file_name(name: str) -> None:
    with pytest.raises(InputError, match="input"):
        check_file_name(name, "input")


@pytest.mark.parametrize("path", ["a", "a/b.txt", "*.csv", "run?/x"])
def test_a_result_is_a_path_below_the_results(path: str) -> None:
    assert check_result_path(path) == path


@pytest.mark.parametrize("path", ["", "/", "/etc/passwd", "a/", "a//b", "../x", "a/../../x", "./a", "a\0b"])
def test_a_result_can_not_lead_out_of_the_results(path: str) -> None:
    with pytest.raises(InputError):
        check_result_path(path)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/d/run%20001.nxs", "run 001.nxs"),
        ("https://h/d/run?x=/a/b", "run"),
        ("https://h/d/%C3%A4", "ä"),
        ("https://h/d/a+b", "a+b"),
    ],
)
def test_an_input_is_named_after_the_end_of_its_url(url: str, name: str) -> None:
    assert JobInput(url).name == name


@pytest.mark.parametrize(
    "url", ["https://h", "https://h/d/", "https://h/a%2Fb", "https://h/a/..", "https://h/%2e%2e"]
)
def test_an_input_whose_url_ends_in_no_name_needs_one(url: str) -> None:
    with pytest.raises(InputError, match="needs a name"):
        JobInput(url)
    assert JobInput(url, name="x").name == "x"


@pytest.mark.parametrize(
    "url", ["https://h/a%00", "https://h/a%0Ab", "https://h/%1B%5B2J", "https://h/%C2%9B"]
)
def test_a_url_can_not_smuggle_control_characters_into_a_name(url: str) -> None:
    with pytest.raises(InputError, match="control character"):
        JobInput(url)


def test_an_input_refused_for_its_name_shows_no_secret_of_its_url() -> None:
    for url, name in [("https://h/d/?token=hunter2", ""), ("https://h/d/x?token=hunter2", "a/b")]:
        with pytest.raises(InputError) as refusal:
            JobInput(url, name=name)
        assert "hunter2" not in str(refusal.value)


def test_an_input_is_brought_into_canonical_form_and_asks_for_it() -> None:
    item = JobInput("HTTPS://H:443/a", sha256="SHA256:" + DIGEST.upper())
    assert (item.url, item.sha256) == ("https://h/a", DIGEST)
    request = item.request(priority=5)
    assert (request.url, request.sha256, request.priority, request.refresh) == (
        "https://h/a",
        DIGEST,
        5,
        False,
    )


def spec(**changes: Any) -> JobSpec:
    return JobSpec(**({"command": ("true",)} | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"command": ()}, "no command"),
        ({"command": ("",)}, "no command"),
        ({"command": ("a", "b\0")}, "NUL"),
        ({"command": ("a", "\udcff")}, "UTF-8"),
        ({"inputs": (JobInput("https://h/a"), JobInput("https://i/a"))}, "two inputs are named 'a'"),
        ({"after": ("ok", "not ok")}, "not ok"),
        ({"after": ("https://h/a",)}, "as an input"),
        ({"environment": (("A=B", "x"),)}, "environment variable"),
        ({"environment": (("", "x"),)}, "environment variable"),
        ({"environment": (("1A", "x"),)}, "environment variable"),
        ({"environment": (("STAGER_JOB_ID", "x"),)}, "set by the server"),
        ({"environment": (("A", "x\0"),)}, "NUL"),
        ({"environment": (("A", "\ud800"),)}, "UTF-8"),
        ({"results": ("../x",)}, "result"),
        ({"priority": MAX_PRIORITY + 1}, "priority"),
        ({"priority": -MAX_PRIORITY - 1}, "priority"),
        ({"name": "a\nb"}, "name of a job"),
        ({"name": "\x9b2J"}, "name of a job"),
        ({"name": "\udcff"}, "name of a job"),
        ({"name": "a" * 256}, "name of a job"),
    ],
)
def test_a_job_that_could_not_run_is_refused_with_the_reason(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        spec(**changes)


def test_a_job_may_wait_for_one_url_under_two_names() -> None:
    inputs = (JobInput("https://h/a"), JobInput("https://h/a", name="b"))
    assert spec(inputs=inputs).inputs == inputs


def test_a_precondition_named_twice_is_one() -> None:
    assert spec(after=("b", "a", "b")).after == ("b", "a")


def test_the_order_in_which_variables_were_given_makes_no_other_job() -> None:
    assert spec(environment=(("B", "1"), ("A", "2"))) == spec(environment=(("A", "2"), ("B", "1")))


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
names = words.filter(lambda name: name not in {"", ".", ".."} and "/" not in name)
inputs = st.builds(
    JobInput,
    st.sampled_from(["https://h/a", "http://h:81/b?x=1"]),
    name=names,
    sha256=st.none() | st.just(DIGEST),
)


@given(
    st.builds(
        JobSpec,
        command=st.tuples(words.filter(bool), words),
        inputs=st.lists(inputs, max_size=3, unique_by=lambda item: item.name).map(tuple),
        after=st.lists(st.sampled_from(["a", "b:1", "c@d"])).map(tuple),
        environment=st.dictionaries(st.sampled_from(["A", "b_1", "_"]), words).map(
            lambda d: tuple(d.items())
        ),
        results=st.lists(names, max_size=2).map(tuple),
        priority=st.integers(-MAX_PRIORITY, MAX_PRIORITY),
        name=words,
    )
)
def test_a_job_survives_its_json_form(job: JobSpec) -> None:
    assert JobSpec.from_dict(json.loads(json.dumps(job.to_dict()))) == job
