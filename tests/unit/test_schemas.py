"""Shapes of jobs that come in, and the one sentence about what is wrong with them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager.errors import InputError
from stager.model.jobs import JobInput, JobSpec
from stager.server.schemas import specs_of_file

URL = "http://h/run.dat"


def test_all_keys_of_a_job_arrive() -> None:
    data = {
        "command": ["wc", "-l"],
        "inputs": [URL, {"url": "http://h/", "name": "page", "sha256": "A" * 64}],
        "after": ["beam"],
        "environment": {"B": "2", "A": "1"},
        "results": ["*.json"],
        "priority": -5,
        "name": "n",
    }
    assert specs_of_file(data) == [
        JobSpec(
            command=("wc", "-l"),
            inputs=(JobInput(URL), JobInput("http://h/", "page", "a" * 64)),
            after=("beam",),
            environment=(("A", "1"), ("B", "2")),
            results=("*.json",),
            priority=-5,
            name="n",
        )
    ]


def test_what_a_client_sends_of_a_job_is_the_same_job_at_the_server() -> None:
    spec = JobSpec(("a", "b"), (JobInput(URL, "x", "0" * 64),), ("p",), (("E", ""),), ("r/*",), 3, "name")
    assert specs_of_file(spec.to_dict()) == [spec]


def test_several_jobs_keep_their_order() -> None:
    found = specs_of_file({"jobs": [{"command": ["a"]}, {"command": ["b"]}]})
    assert [spec.command for spec in found] == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({}, "there is no 'command': it is needed; add command"),
        ({"comand": ["a"]}, "unknown key 'comand'; did you mean 'command'?"),
        ({"command": ["a"], "x": 1}, "unknown key 'x'; the keys are command, inputs"),
        ({"command": ["a", 3]}, "command[1] is a number: text is needed; write it in quotes"),
        ({"command": ["a"], "inputs": URL}, "inputs is text: a list is needed; write it in square brackets"),
        ({"command": ["a"], "inputs": [4]}, "inputs[0] is a number: a URL or a table with a url is needed"),
        ({"command": ["a"], "inputs": [{"name": "x"}]}, "inputs[0] has no 'url': it is needed; add url"),
        (
            {"command": ["a"], "inputs": [URL, {"url": URL, "sha": ""}]},
            "unknown key 'sha' in inputs[1]; did you mean 'sha256'?",
        ),
        ({"command": ["a"], "environment": {"N": 4}}, "environment.N is a number: text is needed"),
        ({"command": ["a"], "environment": ["N"]}, "environment is a list: a table is needed"),
        ({"command": ["a"], "priority": True}, "priority is true or false: a whole number is needed"),
        ({"command": ["a"], "priority": "5"}, "priority is text: a whole number is needed"),
        ({"command": ["a"], "name": None}, "name is null: text is needed"),
        ({"jobs": {}}, "jobs is not a list; write each job as [[jobs]]"),
        ({"jobs": []}, "there is no job; write each as [[jobs]]"),
        ({"jobs": [3]}, "jobs[0] is a number: a table is needed"),
        ({"jobs": [{"command": ["a"]}], "name": "n"}, "key 'name' beside [[jobs]]; write name in each job"),
        ({"jobs": [{"command": ["a"]}, {"command": []}]}, "jobs[1]: the job has no command"),
        ({"jobs": [{"command": ["a"], "inputs": [{}]}]}, "jobs[0].inputs[0] has no 'url'"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(data: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        specs_of_file(data)
    assert str(caught.value).startswith(sentence)


def test_a_refusal_never_repeats_a_value() -> None:
    for data in (
        {"command": ["a"], "name": ["hunter2"]},
        {"command": ["a"], "environment": {"P": ["hunter2"]}},
    ):
        with pytest.raises(InputError) as caught:
            specs_of_file(data)
        assert "hunter2" not in str(caught.value.to_dict())


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_keys = st.sampled_from(
    ["command", "inputs", "after", "environment", "results", "priority", "name", "jobs", "zzz"]
)


@given(st.dictionaries(_keys, _json, max_size=4))
def test_nothing_that_json_or_toml_can_hold_raises_anything_but_an_input_error(data: dict[str, Any]) -> None:
    with suppress(InputError):
        assert all(isinstance(spec, JobSpec) for spec in specs_of_file(data))
