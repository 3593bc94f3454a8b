"""Several URLs of one file, end to end on both drivers (HTTP points 40 and 56)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from hashlib import md5, sha256, sha512
from random import Random

import pytest

from stager.cache.store import FileCache
from stager.errors import (
    CancelledError,
    ConnectionFailedError,
    CredentialRequiredError,
    DigestMismatchError,
    IncompleteError,
    OriginBusyError,
    OriginRefusedError,
)
from stager.model.fetches import FetchOrder, FetchRequest
from stager.transfer import race
from tests.support.drivers import Driver
from tests.support.origin import Exchange, Origin, content, status, trickle
from tests.support.points import CUT, LARGE, SMALL, Fetch, is_right, leftovers, objects

SHA = sha256(LARGE).hexdigest()
OTHER = Random(9).randbytes(len(LARGE))
REPR = {"Repr-Digest": f"sha-256=:{base64.b64encode(sha256(LARGE).digest()).decode()}:"}


@pytest.fixture
def second() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.mark.parametrize("known", [{"sha256": SHA}, {"digest": f"sha512:{sha512(LARGE).hexdigest()}"}, {}])
@pytest.mark.parametrize("end", ["close", "reset"])
def test_point_40_a_mirror_goes_on_where_the_first_one_died(
    origin: Origin, second: Origin, fetch: Fetch, cache: FileCache, known: dict[str, str], end: str
) -> None:
    """Under the digest that the caller gave, or that the first one announced."""
    said = {} if known else REPR
    url = origin.serve("/f", content(LARGE, etag='"1"', cut=CUT, end=end, headers=said))
    mirror = second.serve("/g", content(LARGE, etag='"other"'))
    result = fetch(url, mirrors=(mirror,), **known)
    assert is_right(result, LARGE)
    (asked,) = second.seen()
    got = int(asked.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert asked.sent == len(LARGE) - got
    assert "if-range" not in asked.headers, "a validator of one origin means nothing to another"
    assert 0 < got <= CUT
    if end == "close":  # a reset may overtake the last bytes
        assert got == CUT
    entry = cache.lookup(url)
    assert entry is not None
    assert (entry.key, entry.url, entry.validators.etag) == (url, mirror, '"other"')
    assert result.source == mirror
    assert [one["url"] for one in result.tried] == [url]
    assert cache.lookup(mirror) is None


@pytest.mark.parametrize("known", [{}, {"digest": f"md5:{md5(LARGE).hexdigest()}"}])
def test_point_40_without_a_digest_that_proves_the_whole_a_mirror_is_begun_anew(
    origin: Origin, second: Origin, fetch: Fetch, known: dict[str, str]
) -> None:
    url = origin.serve("/f", content(LARGE, etag='"1"', cut=CUT))
    mirror = second.serve("/g", content(LARGE, etag='"1"'))
    assert is_right(fetch(url, mirrors=(mirror,), **known), LARGE)
    (asked,) = second.seen()
    assert "range" not in asked.headers
    assert asked.sent == len(LARGE)


def test_point_40_a_later_try_goes_on_at_a_mirror_too(
    origin: Origin, second: Origin, fetch: Fetch, cache: FileCache
) -> None:
    """Also from a beginning that has no validator: the digest is the proof."""
    url = origin.serve("/f", content(LARGE, cut=CUT), status(503))
    mirror = second.serve("/g", status(503), content(LARGE))
    with pytest.raises(IncompleteError, match="nor at its other URLs"):
        fetch(url, mirrors=(mirror,), sha256=SHA)
    assert leftovers(cache)
    assert is_right(fetch(url, mirrors=(mirror,), sha256=SHA), LARGE)
    assert second.seen()[-1].headers["range"] == f"bytes={CUT}-"
    assert second.seen()[-1].sent == len(LARGE) - CUT


def test_point_40_without_a_digest_a_later_try_begins_where_the_bytes_came_from(
    origin: Origin, second: Origin, fetch: Fetch
) -> None:
    url = origin.serve("/f", status(404), content(OTHER, etag='"x"'))
    mirror = second.serve("/g", content(LARGE, etag='"1"', cut=CUT), content(LARGE, etag='"1"'))
    with pytest.raises(IncompleteError):
        fetch(url, mirrors=(mirror,))
    assert is_right(fetch(url, mirrors=(mirror,)), LARGE)
    assert second.seen()[-1].headers["range"] == f"bytes={CUT}-"
    assert len(origin.seen()) == 1


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_mirror_with_other_bytes_is_refused_and_the_next_one_asked(
    origin: Origin, second: Origin, fetch: Fetch, cache: FileCache, data: bytes
) -> None:
    url = origin.serve("/f", content(b"!" + data[1:], etag='"1"'))
    mirror = second.serve("/g", content(data, etag='"1"'))
    result = fetch(url, mirrors=(mirror,), sha256=sha256(data).hexdigest())
    assert is_right(result, data)
    assert result.tried[0]["error"]["code"] == "digest-mismatch"
    assert len(origin.seen()) == 1
    assert "range" not in second.seen()[0].headers, "of bytes that are wrong nothing is kept"
    assert leftovers(cache) == []


def test_point_40_the_beginning_of_one_and_the_end_of_another_that_do_not_fit_are_fetched_anew(
    origin: Origin, second: Origin, fetch: Fetch, cache: FileCache
) -> None:
    url = origin.serve("/f", content(OTHER, cut=CUT))
    mirror = second.serve("/g", content(LARGE, etag='"1"'))
    assert is_right(fetch(url, mirrors=(mirror,), sha256=SHA), LARGE)
    assert [seen.headers.get("range") for seen in second.seen()] == [f"bytes={CUT}-", None]
    assert len(objects(cache)) == 1


def test_when_every_mirror_has_other_bytes_the_last_is_asked_past_all_caches_and_all_are_told(
    origin: Origin, second: Origin, fetch: Fetch, cache: FileCache
) -> None:
    url = origin.serve("/f", content(OTHER))
    mirror = second.serve("/g", content(OTHER))
    with pytest.raises(DigestMismatchError, match=f"nor at its other URLs: {mirror}") as caught:
        fetch(url, mirrors=(mirror,), sha256=SHA)
    assert [one["url"] for one in caught.value.details["tried"]] == [mirror]
    assert [seen.headers.get("cache-control") for seen in second.seen()] == [None, "no-cache"]
    assert objects(cache) == leftovers(cache) == []


def test_a_mirror_of_another_size_is_left_before_its_bytes_come(
    origin: Origin, second: Origin, fetch: Fetch
) -> None:
    url = origin.serve("/f", content(SMALL))
    mirror = second.serve("/g", content(LARGE))
    assert is_right(fetch(url, mirrors=(mirror,), size=len(LARGE)), LARGE)


@pytest.mark.parametrize(
    ("first", "then", "error"),
    [(404, 503, OriginBusyError), (503, 404, OriginBusyError), (404, 410, OriginRefusedError), (401, 404, CredentialRequiredError)],
)  # fmt: skip
def test_the_error_of_all_is_one_that_may_pass_if_any_may(
    origin: Origin, second: Origin, fetch: Fetch, first: int, then: int, error: type[Exception]
) -> None:
    url, mirror = origin.serve("/f", status(first)), second.serve("/g", status(then))
    with pytest.raises(error, match="nor at its other URLs"):
        fetch(url, mirrors=(mirror,))


def test_an_origin_that_failed_is_asked_last_for_a_while_and_one_that_lacks_a_file_is_not(
    origin: Origin, second: Origin, fetch: Fetch
) -> None:
    first = origin.serve("/f", status(503))
    other = second.serve("/g", content(SMALL))
    fetch(first, mirrors=(other,))
    later = origin.serve("/later", content(SMALL))
    fetch(later, mirrors=(second.serve("/mirror", content(SMALL)),))
    assert (len(origin.seen("/later")), len(second.seen("/mirror"))) == (0, 1)
    lacks = second.serve("/lacks", status(404))
    fetch(lacks, mirrors=(second.serve("/has", content(SMALL)),))
    again = second.serve("/again", content(SMALL))
    fetch(again, mirrors=(origin.serve("/spare", content(SMALL)),))
    assert len(second.seen("/again")) == 1


def test_a_slow_first_one_is_left_for_a_mirror_that_may_be_quicker_at_the_byte_it_reached(
    origin: Origin, second: Origin, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "WATCH_SECONDS", 0.5)
    url = origin.serve("/f", trickle(LARGE, block=4096, seconds=0.05, headers={"ETag": '"1"'}))
    mirror = second.serve("/g", content(LARGE))
    result = fetch(url, mirrors=(mirror,), sha256=SHA)
    assert is_right(result, LARGE)
    assert result.source == mirror
    assert int(second.seen()[0].headers["range"].removeprefix("bytes=").removesuffix("-")) > 0


def test_a_fresh_copy_is_a_hit_for_who_names_the_mirror_that_brought_it_and_is_confirmed_by_that_one_alone(
    origin: Origin, second: Origin, fetch: Fetch
) -> None:
    url = origin.serve("/f", status(404), content(SMALL, etag='"1"'))
    mirror = second.serve("/g", content(SMALL, etag='"1"'))
    fetch(url, mirrors=(mirror,))
    assert fetch(url, mirrors=(mirror,)).cached
    assert fetch(url, sha256=sha256(SMALL).hexdigest()).cached, (
        "these bytes are right, wherever they came from"
    )
    assert not fetch(url, refresh=True).cached, "that tag was the mirror's"
    assert "if-none-match" not in origin.seen()[-1].headers


@pytest.mark.parametrize("digest", [None, sha256(OTHER).hexdigest()])
def test_what_somebody_calls_a_mirror_of_a_file_has_no_say_in_what_others_get(
    origin: Origin, second: Origin, fetch: Fetch, digest: str | None
) -> None:
    url = origin.serve("/f", status(503), content(SMALL, etag='"1"'))
    mirror = second.serve("/g", content(OTHER, etag='"1"', headers={"Cache-Control": "max-age=99999"}))
    assert is_right(fetch(url, mirrors=(mirror,), sha256=digest), OTHER)
    assert is_right(fetch(url), SMALL)


def test_what_a_mirror_said_of_bytes_that_it_left_binds_nobody_who_does_not_name_it(
    origin: Origin, second: Origin, fetch: Fetch
) -> None:
    url = origin.serve("/f", status(503), content(OTHER, etag='"1"'))
    mirror = second.serve("/g", content(LARGE, etag='"1"', cut=CUT, headers=REPR))
    with pytest.raises(OriginBusyError):
        fetch(url, mirrors=(mirror,))
    assert is_right(fetch(url), OTHER)


def test_a_cancelled_fetch_goes_to_no_mirror(
    origin: Origin, second: Origin, cache: FileCache, driver: Driver
) -> None:
    fetcher = driver(cache)
    url, mirror = origin.serve("/f", Exchange.hold), second.serve("/g", content(SMALL))
    order = FetchOrder("f", 1, FetchRequest(url, mirrors=(mirror,)))
    try:
        with pytest.raises(CancelledError):
            fetcher.fetch(order, cancelled=lambda: bool(origin.seen()))
    finally:
        fetcher.close()
    assert second.seen() == []


def test_point_56_duplicates_that_the_origin_names_are_asked_only_with_a_digest(
    origin: Origin, second: Origin, fetch: Fetch
) -> None:
    mirror = second.serve("/g", content(LARGE))
    links = {"Link": f"<{mirror}>; rel=duplicate; pri=1, <{second.url('/none')}>; rel=describedby"}
    url = origin.serve("/f", content(LARGE, cut=CUT, headers=links))
    with pytest.raises(IncompleteError):
        fetch(url)
    assert second.seen() == []
    proven = origin.serve("/p", content(LARGE, etag='"1"', cut=CUT, headers=links | REPR))
    result = fetch(proven)
    assert is_right(result, LARGE)
    assert (result.source, second.seen()[0].headers["range"]) == (mirror, f"bytes={CUT}-")
    given = origin.serve("/c", content(LARGE, cut=CUT, headers=links))
    assert is_right(fetch(given, sha256=SHA), LARGE)


def test_point_56_a_duplicate_where_no_fetch_may_reach_is_refused(origin: Origin, fetch: Fetch) -> None:
    links = {"Link": "<http://169.254.169.254/latest/meta-data>; rel=duplicate"}
    url = origin.serve("/f", content(LARGE, etag='"1"', cut=CUT, headers=links | REPR))
    with pytest.raises((IncompleteError, ConnectionFailedError), match=r"169\.254\.169\.254") as caught:
        fetch(url)
    (tried,) = caught.value.details["tried"]
    assert tried["error"]["code"] == "address-refused"
