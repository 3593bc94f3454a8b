"""Commands of a batch system: no shell, one word stays one word, and mistakes are named."""

from __future__ import annotations

import pytest

from stager.errors import SettingsError
from stager.mapper.dispatch.batch import BatchSystem, batch_id_of, same_id
from stager.mapper.dispatch.template import CommandTemplate

KNOWN = ("job", "name", "batch_ids")


def words(text: str, **values: str | list[str]) -> list[str]:
    return CommandTemplate("dispatch_submit", text, KNOWN).words(values)


def test_a_value_stays_in_its_word_whatever_it_holds() -> None:
    assert words("sub --name={name} '{job} x'", name="a b; rm -rf $HOME", job="j'1") == [
        "sub",
        "--name=a b; rm -rf $HOME",
        "j'1 x",
    ]


def test_several_values_are_several_words_or_one_with_commas() -> None:
    assert words("stat {batch_ids} --jobs={batch_ids}", batch_ids=["1", "2"]) == [
        "stat",
        "1",
        "2",
        "--jobs=1,2",
    ]


def test_doubled_braces_are_braces() -> None:
    assert words("awk '{{print $1}}' {job}", job="j") == ["awk", "{print $1}", "j"]


def test_an_empty_argument_stays_one() -> None:
    assert words("sub '' {job}", job="") == ["sub", "", ""]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "sub {jbo}",
            "unknown placeholder {jbo} in setting dispatch_submit: there are {job}, {name}, {batch_ids}",
        ),
        ("sub {job!r}", "unknown placeholder {job!r}"),
        ("sub {job:>9}", "unknown placeholder {job:>9}"),
        ("sub {}", "unknown placeholder {}"),
        ("sub {job", "can't be split into words"),
        ("sub 'x", "can't be split into words: No closing quotation"),
        ("  ", "setting dispatch_submit is empty"),
    ],
)
def test_a_mistake_is_named_in_one_line(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        CommandTemplate("dispatch_submit", text, KNOWN)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_each_command_has_the_placeholders_that_make_sense_for_it() -> None:
    with pytest.raises(SettingsError, match=r"unknown placeholder {batch_id} in setting dispatch_submit"):
        BatchSystem(submit="sub {batch_id}", status="stat", cancel="end {batch_id}")
    with pytest.raises(SettingsError, match=r"unknown placeholder {script} in setting dispatch_cancel"):
        BatchSystem(submit="sub {script}", status="stat", cancel="end {script}")


@pytest.mark.parametrize(
    ("said", "batch_id"),
    [
        ("123\n", "123"),
        ("123;cluster2\n", "123"),
        ("123.headnode.example\n", "123.headnode.example"),
        ("Submitted batch job 123\n", "123"),
        ("a word of the day\n\nSubmitted batch job 123\n", "123"),
        ('Your job 123 ("job7") has been submitted\n', "123"),
        ("Job <123> is submitted to queue <normal>.\n", "123"),
        ("12.0 - 12.0\n", "12.0"),
        ("Submitting job(s).\n1 job(s) submitted to cluster 42.\n", "42"),
        ("", None),
        ("no number here\n", None),
        ("--oops\n", None),
    ],
)
def test_the_batch_id_is_found_in_what_is_printed(said: str, batch_id: str | None) -> None:
    assert batch_id_of(said) == batch_id


def test_spellings_of_one_id_are_the_same() -> None:
    assert same_id("17") == same_id("17.0") == same_id("17.headnode") == same_id("17[].pbs")
    assert same_id("17") != same_id("170.0")
    assert same_id("abc-17") != same_id("17")
