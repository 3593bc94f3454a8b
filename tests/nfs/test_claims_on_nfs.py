"""Of several hosts that take the same run of a job, one gets it, and all know which."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.guests import Guest
from tests.support.pair import Pair

pytestmark = pytest.mark.timeout(300)  # guests are slow where others work too

EPOCHS = 40


def ask(guest: Guest, function: str, *arguments: object) -> Any:
    return guest.call(f"tests.support.guest_claims:{function}", *arguments, timeout=120)


def make(pair: Pair, directory: str) -> None:
    assert pair.first.run(["mkdir", "-p", f"{pair.root}/{directory}"]).status == 0


def test_a_hand_over_that_two_nodes_take_at_once_goes_to_one_and_both_know_which(pair: Pair) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(
            lambda guest: ask(guest, "take_all", pair.root, guest.name, EPOCHS), (pair.first, pair.second)
        )
    assert first == second
    assert set(first) <= {pair.first.name, pair.second.name}
    assert len(list((pair.truth / "run").iterdir())) == EPOCHS


def test_a_run_that_runners_of_two_hosts_claim_at_once_is_won_by_one(pair: Pair) -> None:
    make(pair, "run")
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(
            lambda guest: ask(guest, "run_all", pair.root, EPOCHS), (pair.first, pair.second)
        )
    assert [int(a) + int(b) for a, b in zip(first, second, strict=True)] == [1] * EPOCHS


@pytest.mark.parametrize("known", ["nothing", "the job", "its runs"])
def test_a_claim_is_seen_by_the_other_host_at_once_although_it_looked_too_early(
    pair: Pair, known: str
) -> None:
    job = f"{pair.root}/jobs/job"
    make(pair, {"nothing": "", "the job": "jobs/job", "its runs": "jobs/job/run"}[known])
    assert ask(pair.second, "holder", job, 1) is None
    assert ask(pair.second, "is_claimed", job, 1) is False
    assert ask(pair.first, "take_all", job, "alpha", 1) == ["alpha"]
    assert ask(pair.second, "holder", job, 1) == "alpha"
    assert ask(pair.second, "is_claimed", job, 1) is True
