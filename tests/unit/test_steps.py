from __future__ import annotations

import pytest

from stager import steps


def test_each_step_is_named_once() -> None:
    every = steps.STEPS + steps.MAINTENANCE_STEPS
    assert len(set(every)) == len(every)


def test_an_observer_hears_each_step_in_order_until_it_is_taken_away() -> None:
    heard: list[str] = []
    steps.reached("before")
    steps.observe(heard.append)
    steps.reached("one")
    steps.reached("two")
    steps.observe(None)
    steps.reached("after")
    assert heard == ["one", "two"]


def test_what_the_observer_raises_stops_the_protocol_at_that_step() -> None:
    def crash(step: str) -> None:
        raise KeyboardInterrupt(step)

    steps.observe(crash)
    with pytest.raises(KeyboardInterrupt, match="publish"):
        steps.reached("publish.linked")
