"""Every part is looked at, whatever becomes of the others."""

from __future__ import annotations

import threading

import pytest

from stager.errors import StateError
from stager.model.checks import Checked, Health, judged_skew, worst
from stager.service.examination import Check, examine


def answer(verdict: Health) -> Checked:
    return Checked(verdict.value, verdict, "found")


def raising(error: Exception) -> list[Checked]:
    raise error


def test_all_answer_in_order_though_one_fails() -> None:
    found = list(
        examine(
            [
                Check("first", lambda: [answer(Health.OK), answer(Health.WARNING)]),
                Check("second", lambda: raising(StateError("it broke", cause="a cause", remedy="mend it"))),
                Check("third", lambda: raising(ZeroDivisionError("of the test"))),
                Check("fourth", lambda: [answer(Health.SKIPPED)]),
            ],
            30,
        )
    )
    assert found == [
        answer(Health.OK),
        answer(Health.WARNING),
        Checked("second", Health.FAILED, "it broke: a cause", "mend it"),
        Checked("third", Health.FAILED, "ZeroDivisionError: of the test"),
        answer(Health.SKIPPED),
    ]


def test_one_that_hangs_costs_its_own_answer_only() -> None:
    release = threading.Event()

    def hangs() -> list[Checked]:
        release.wait()
        return []

    found = list(examine([Check("mount", hangs), Check("other", lambda: [answer(Health.OK)])], 0.2))
    release.set()
    assert (found[0].name, found[0].verdict) == ("mount", Health.FAILED)
    assert "no answer within 0.2 s" in found[0].finding
    assert found[1] == answer(Health.OK)


def test_an_error_shows_no_secret() -> None:
    error = RuntimeError("can't reach redis://me:hush@host/0")
    (found,) = examine([Check("x", lambda: raising(error))], 30)
    assert "hush" not in found.finding
    assert "redis://" in found.finding


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([Health.OK, Health.SKIPPED], Health.OK),
        ([Health.WARNING, Health.OK], Health.WARNING),
        ([Health.WARNING, Health.FAILED, Health.OK], Health.FAILED),
        ([], Health.OK),
    ],
)
def test_the_worst_counts_and_what_was_skipped_does_not(verdicts: list[Health], expected: Health) -> None:
    assert worst([answer(verdict) for verdict in verdicts]) is expected


@pytest.mark.parametrize(
    ("seconds", "verdict", "says"),
    [
        (0.1, Health.OK, "agrees"),
        (-5.0, Health.WARNING, "5.0 s behind"),
        (5.0, Health.WARNING, "5.0 s ahead of"),
    ],
)
def test_clocks_may_differ_a_little(seconds: float, verdict: Health, says: str) -> None:
    found = judged_skew("clock", seconds, "the clock", 2.0)
    assert (found.verdict, says in found.finding) == (verdict, True)
