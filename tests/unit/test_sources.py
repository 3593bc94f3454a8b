"""Which of several URLs is tried next: by order, by how origins did of late, and by who has the bytes that are there."""

from __future__ import annotations

import time

import pytest

from stager.clock import ManualClock
from stager.errors import ConnectionFailedError, InputError, OriginRefusedError
from stager.model.digests import Digest
from stager.model.fetches import MAX_MIRRORS, FetchRequest
from stager.model.urls import parse_url
from stager.transfer.links import MOST, duplicates
from stager.transfer.options import TransferOptions
from stager.transfer.plan import TransferPlan
from stager.transfer.race import WATCH_SECONDS, Race
from stager.transfer.sources import Sources
from stager.transfer.standings import FAILED_SECONDS, SLOW_BYTES_PER_SECOND, SPEED_SECONDS, Standings

A, B, C = "http://a.test/f", "http://b.test/f", "http://c.test/f"
SHA = "ab" * 32
MB = 1e6


def test_the_order_given_counts_where_nothing_is_known() -> None:
    assert Standings().order([B, A, C], 0.0) == [B, A, C]


def test_an_origin_that_failed_comes_last_for_a_while() -> None:
    standings = Standings()
    standings.failed(A, 100.0)
    assert standings.order([A, B], 100.0) == [B, A]
    assert standings.order([A, B], 100.0 + FAILED_SECONDS) == [A, B]
    standings.failed(A, 1000.0)
    standings.delivered(A, MB, 1001.0)
    assert standings.order([A, B], 1002.0) == [A, B]


def test_an_origin_that_was_much_slower_than_another_comes_later() -> None:
    standings = Standings()
    standings.delivered(A, MB, 0.0)
    standings.delivered(C, 5 * MB, 0.0)
    assert standings.order([A, B, C], 1.0) == [B, C, A]
    standings.delivered(A, 4 * MB, 2.0)
    assert standings.order([A, B, C], 3.0) == [A, B, C]
    standings.delivered(A, MB, 3.0)
    assert standings.order([A, B, C], 4.0 + SPEED_SECONDS) == [A, B, C]


def test_another_origin_is_worth_it_if_it_was_quicker_by_far_or_is_unknown_and_this_one_is_slow() -> None:
    standings = Standings()
    assert standings.promise_more([B], SLOW_BYTES_PER_SECOND / 2, 0.0)
    assert not standings.promise_more([B], SLOW_BYTES_PER_SECOND * 2, 0.0)
    standings.delivered(B, 10 * MB, 0.0)
    assert standings.promise_more([B], 2 * MB, 1.0)
    assert not standings.promise_more([B], 5 * MB, 1.0)
    standings.failed(B, 2.0)
    assert not standings.promise_more([B], 1.0, 3.0)
    assert not standings.promise_more([], 1.0, 3.0)


def test_what_a_source_says_binds_the_others_unless_the_caller_said_something() -> None:
    digest, other = Digest("sha256", SHA), Digest("sha512", "cd" * 64)
    urls = [parse_url(A), parse_url(B)]
    learning = Sources(urls, None)
    learning.learn(Digest("md5", "ef" * 16))
    assert not learning.may_move
    learning.learn(digest)
    learning.learn(other)
    assert learning.proof == learning.wanted == digest
    told = Sources(urls, other)
    told.learn(digest)
    assert told.proof == told.wanted == other


def test_a_weak_digest_of_the_caller_is_compared_but_proves_nothing() -> None:
    md5 = Digest("md5", "ef" * 16)
    sources = Sources([parse_url(A), parse_url(B)], md5)
    assert (sources.wanted, sources.proof, sources.may_move) == (md5, None, False)


def test_mirrors_are_canonical_each_once_and_not_too_many() -> None:
    request = FetchRequest(A, mirrors=("HTTP://B.test:80/f", B, A, C))
    assert request.mirrors == (B, C)
    assert request.key == A
    with pytest.raises(InputError, match="101 mirrors"):
        FetchRequest(A, mirrors=tuple(f"{B}/{number}" for number in range(MAX_MIRRORS + 1)))
    with pytest.raises(InputError, match="malformed URL"):
        FetchRequest(A, mirrors=("nonsense",))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"<{B}>; rel=duplicate", [B]),
        (f'<{B}>; rel="next duplicate"; pri=2, <{C}>; pri=1; rel=duplicate; geo=de', [C, B]),
        ("</f?a=1>; rel=duplicate", ["http://a.test/f?a=1"]),
        (f"<{B}>; rel=describedby, <ftp://:pw@b.test/x>; rel=duplicate", []),
        (f'<{B}>; title="a, b; rel=duplicate"; rel=next', []),
        (f"{B}; rel=duplicate", []),
        (f"<{B}>; rel=duplicate; pri={'9' * 500}", [B]),
        ("", []),
    ],
)
def test_point_56_duplicates_are_read_with_their_priority(text: str, found: list[str]) -> None:
    assert [url.text for url in duplicates(text, parse_url(A))] == found


def test_point_56_many_links_are_not_all_followed_and_odd_ones_take_no_time() -> None:
    many = ", ".join(f"<{B}{number}>; rel=duplicate" for number in range(10_000))
    assert len(duplicates(many, parse_url(A))) == MOST
    assert duplicates("<" * 30_000 + "; " * 10_000 + ' ;a="' * 5_000, parse_url(A)) == []


def raced(sha256: str | None = SHA) -> tuple[TransferPlan, Race, Standings, ManualClock]:
    plan = TransferPlan(FetchRequest(A, sha256=sha256, mirrors=(B,)), TransferOptions())
    standings, clock = Standings(), ManualClock()
    return plan, Race(plan, standings, clock), standings, clock


def test_a_slow_source_is_left_once_for_one_that_may_be_quicker_and_asked_again_at_the_end() -> None:
    plan, race, standings, clock = raced()
    race.received(1000, WATCH_SECONDS - 1, 10**9)
    with pytest.raises(ConnectionFailedError, match="another source may be quicker") as caught:
        race.received(1000, 2.0, 10**9)
    race.turn(caught.value, 0)
    assert (plan.sources.current.text, plan.sources.left) == (B, [A])
    assert standings.order([A, B], clock.time()) == [A, B], "slow is not failing"
    race.turn(OriginRefusedError("b", cause="gone", url=B), 0)
    assert plan.sources.current.text == A
    race.received(1000, WATCH_SECONDS * 2, 10**9)
    race.won()


def test_a_slow_source_is_kept_where_a_move_would_lose_what_is_there_or_gain_nothing() -> None:
    _, unproven, _, _ = raced(sha256=None)
    unproven.received(1000, WATCH_SECONDS * 2, 10**9)
    _, nearly, _, _ = raced()
    nearly.received(1000, WATCH_SECONDS * 2, 500)


def test_when_all_have_failed_the_error_is_one_that_may_pass_and_names_all() -> None:
    _, race, standings, clock = raced()
    race.turn(OriginRefusedError("a", cause="404 Not Found", url=A), 0)
    with pytest.raises(
        ConnectionFailedError, match=r"not connected; nor at its other URLs: http://a.test/f: 404"
    ) as caught:
        race.turn(ConnectionFailedError("b", cause="not connected", url=B), 0)
    assert [one["url"] for one in caught.value.details["tried"]] == [A]
    assert standings.order([B, A], clock.time()) == [A, B], (
        "a missing file says nothing of its origin, a lost connection does"
    )


@pytest.mark.parametrize(
    "text", ["<>;a=" + " " * 60_000 + '"', "<>;a=" * 12_000 + '"', "<http://b.test/g>; rel=" * 2600 + '"']
)
def test_a_link_field_that_is_made_to_be_slow_to_read_is_read_at_once(text: str) -> None:
    """Reading it holds up every other thread."""
    began = time.thread_time()
    assert duplicates(text, parse_url(A)) == []
    assert time.thread_time() - began < 0.5
