"""HTTP points end to end: a fetcher, a cache on disk, a scripted origin on a real socket."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest

from stager.cache.store import FileCache
from stager.errors import (
    ConnectionFailedError,
    DigestMismatchError,
    IncompleteError,
    OriginBusyError,
    OriginRefusedError,
    ProtocolError,
    RedirectError,
    TlsError,
    UnprovenLengthError,
)
from tests.support.origin import (
    CA_BUNDLE,
    OVERLAP,
    Exchange,
    Origin,
    chunked,
    content,
    raw,
    redirect,
    silence,
    status,
    until_close,
)
from tests.support.points import CUT, LARGE, SMALL, Fetch, is_right, leftovers, objects

both_sizes = pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
both_ends = pytest.mark.parametrize("end", ["close", "reset"])


@both_sizes
def test_a_file_is_fetched_verified_and_published(
    origin: Origin, fetch: Fetch, cache: FileCache, data: bytes
) -> None:
    url = origin.serve("/run.nxs", content(data, etag='"1"', headers={"Content-Type": "application/x-hdf"}))
    result = fetch(url)
    assert is_right(result, data)
    assert (result.cached, result.received, result.resumed_from) == (False, len(data), 0)
    entry = cache.lookup(url)
    assert entry is not None
    assert (entry.validators.etag, entry.content_type, entry.url) == ('"1"', "application/x-hdf", url)
    assert leftovers(cache) == []


def test_a_fresh_file_is_a_hit_without_network(origin: Origin, fetch: Fetch) -> None:
    url = origin.serve("/run.nxs", content(SMALL))
    fetch(url)
    again = fetch(url)
    assert is_right(again, SMALL)
    assert again.cached
    assert len(origin.seen()) == 1


@both_sizes
@both_ends
def test_point_1_a_body_short_of_content_length_is_never_published(
    origin: Origin, fetch: Fetch, cache: FileCache, data: bytes, end: str
) -> None:
    url = origin.serve("/run.nxs", content(data, cut=len(data) - 1, end=end))
    with pytest.raises(IncompleteError) as caught:
        fetch(url)
    assert caught.value.transient
    assert url in str(caught.value)
    assert cache.lookup(url) is None
    assert objects(cache) == []


@both_sizes
def test_point_2_chunks_without_the_final_one_are_never_published(
    origin: Origin, fetch: Fetch, cache: FileCache, data: bytes
) -> None:
    url = origin.serve("/run.nxs", chunked(data, size=10_000, final=False), chunked(data, size=10_000))
    with pytest.raises(IncompleteError):
        fetch(url)
    assert objects(cache) == []
    assert is_right(fetch(url), data)


def test_point_3_a_body_that_ends_with_the_connection_needs_proof(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    url = origin.serve("/run.nxs", until_close(SMALL))
    with pytest.raises(UnprovenLengthError):
        fetch(url)
    assert origin.sent() <= len(SMALL)
    assert objects(cache) == []
    trusted = fetch(url, unproven="accept")
    assert is_right(trusted, SMALL)
    assert trusted.unproven
    cache.remove(url)
    proven = fetch(url, sha256=sha256(SMALL).hexdigest())
    assert is_right(proven, SMALL)
    assert not proven.unproven


@pytest.mark.parametrize("ragged", [True, False], ids=["torn", "in order"])
def test_point_4_over_tls_only_close_notify_ends_such_a_body(
    fetch: Fetch, cache: FileCache, ragged: bool
) -> None:
    with Origin(tls=True, ragged=ragged) as origin:
        url = origin.serve("/run.nxs", until_close(SMALL))
        if ragged:
            with pytest.raises(IncompleteError):
                fetch(url, ca=CA_BUNDLE, unproven="accept")
            assert objects(cache) == []
        else:
            assert is_right(fetch(url, ca=CA_BUNDLE, unproven="accept"), SMALL)


def test_point_5_bytes_beyond_content_length_are_thrown_away_with_their_connection(
    origin: Origin, fetch: Fetch
) -> None:
    def generous(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": "5"})
        exchange.send(b"helloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    first = origin.serve("/a", generous)
    second = origin.serve("/b", content(b"right"))
    assert is_right(fetch(first), b"hello")
    assert is_right(fetch(second), b"right")
    assert [seen.connection for seen in origin.seen()] == [1, 2]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    ],
    ids=lambda answer: repr(answer[17:50]),
)
def test_points_6_and_8_an_answer_that_is_not_http_is_refused(
    origin: Origin, fetch: Fetch, cache: FileCache, answer: bytes
) -> None:
    url = origin.serve("/run.nxs", raw(answer, end="hold"))
    with pytest.raises(ProtocolError, match=r"not proper HTTP|more than 65,536 bytes"):
        fetch(url)
    assert objects(cache) == []


def test_point_7_a_length_beside_transfer_encoding_never_counts(origin: Origin, fetch: Fetch) -> None:
    url = origin.serve("/run.nxs", chunked(SMALL, headers={"Content-Length": "5"}))
    assert is_right(fetch(url), SMALL)


def test_point_9_interim_answers_are_skipped(origin: Origin, fetch: Fetch) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    url = origin.serve("/run.nxs", raw(interim + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
    assert is_right(fetch(url), b"hello")


def test_point_11_an_empty_file_is_a_file(origin: Origin, fetch: Fetch) -> None:
    result = fetch(origin.serve("/empty", content(b"")))
    assert is_right(result, b"")
    assert not result.cached


def test_points_13_to_15_coded_bytes_are_kept_as_they_came(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    url = origin.serve("/run.nxs", content(SMALL, headers={"Content-Encoding": "gzip"}))
    assert is_right(fetch(url), SMALL)
    entry = cache.lookup(url)
    assert entry is not None
    assert entry.content_encoding == "gzip"
    assert origin.seen()[0].headers["accept-encoding"] == "identity"
    assert origin.seen()[0].headers["user-agent"].startswith("stager/")


@pytest.mark.parametrize(("data", "cut"), [(SMALL, 20_000), (LARGE, CUT)], ids=["small", "large"])
@both_ends
def test_points_12_and_21_the_next_try_goes_on_and_fetches_no_byte_twice(
    origin: Origin, fetch: Fetch, data: bytes, cut: int, end: str
) -> None:
    url = origin.serve("/run.nxs", content(data, etag='"1"', cut=cut, end=end), content(data, etag='"1"'))
    with pytest.raises(IncompleteError) as caught:
        fetch(url)
    assert caught.value.details["progressed"] is True
    result = fetch(url)
    assert is_right(result, data)
    first, second = origin.seen()
    assert "range" not in first.headers
    got = int(second.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert second.headers["if-range"] == '"1"'
    assert (result.resumed_from, result.received) == (got, len(data) - got)
    assert second.sent == len(data) - got
    if end == "close":  # a reset may overtake the last bytes
        assert got == cut


def test_point_12_what_can_not_be_gone_on_with_is_not_kept(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    url = origin.serve("/run.nxs", content(LARGE, cut=CUT), content(LARGE))
    with pytest.raises(IncompleteError) as caught:
        fetch(url)
    assert "progressed" not in caught.value.details
    assert leftovers(cache) == []
    assert is_right(fetch(url), LARGE)
    assert "range" not in origin.seen()[1].headers


def test_point_23_a_date_is_proof_when_there_is_no_tag(origin: Origin, fetch: Fetch) -> None:
    modified, date = "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:38 GMT"
    good = content(LARGE, modified=modified, date=date)
    url = origin.serve("/run.nxs", content(LARGE, modified=modified, date=date, cut=CUT), good)
    with pytest.raises(IncompleteError):
        fetch(url)
    assert is_right(fetch(url), LARGE)
    assert origin.seen()[1].headers["if-range"] == modified
    assert origin.seen()[1].sent == len(LARGE) - CUT


def test_points_25_and_43_a_file_that_changed_between_two_tries_is_taken_whole(
    origin: Origin, fetch: Fetch
) -> None:
    new = Random(3).randbytes(len(LARGE))
    url = origin.serve("/run.nxs", content(LARGE, etag='"1"', cut=CUT), content(new, etag='"2"'))
    with pytest.raises(IncompleteError):
        fetch(url)
    result = fetch(url)
    assert is_right(result, new)
    assert result.resumed_from == 0


def test_point_25_a_file_that_became_shorter_leaves_nothing_of_the_old_one(
    origin: Origin, fetch: Fetch
) -> None:
    url = origin.serve("/run.nxs", content(LARGE, etag='"1"', cut=CUT), content(b"short", etag='"2"'))
    with pytest.raises(IncompleteError):
        fetch(url)
    assert is_right(fetch(url), b"short")


def misplaced(start: int, data: bytes, etag: str | None = '"1"', total: int | None = None) -> Any:
    """A 206 from `start`, whatever was asked for."""

    def answer(exchange: Exchange) -> None:
        part = data[start:]
        headers = {
            "Content-Length": str(len(part)),
            "Content-Range": f"bytes {start}-{len(data) - 1}/{total or len(data)}",
        }
        exchange.head(206, headers | ({} if etag is None else {"ETag": etag}))
        exchange.body(part)

    return answer


@pytest.mark.parametrize(
    "wrong",
    [
        misplaced(CUT + 1, LARGE),
        misplaced(CUT, LARGE, etag='"2"'),
        misplaced(CUT, LARGE, total=len(LARGE) + 1),
        status(206, {"Content-Type": "multipart/byteranges; boundary=x"}, b"--x\r\n"),
        status(206, {}, LARGE[CUT:]),
        status(416, {"Content-Range": "bytes */7"}),
    ],
    ids=["26 later", "28 tag", "26 length", "30 multipart", "29 no range", "34 other length"],
)
def test_points_26_to_34_a_part_that_does_not_fit_is_never_mixed_in(
    origin: Origin, fetch: Fetch, wrong: Any
) -> None:
    right = content(LARGE, etag='"1"')
    url = origin.serve("/run.nxs", content(LARGE, etag='"1"', cut=CUT), wrong, right)
    with pytest.raises(IncompleteError):
        fetch(url)
    assert is_right(fetch(url), LARGE)
    assert "range" in origin.seen()[1].headers
    assert "range" not in origin.seen()[2].headers


def test_point_27_a_part_that_starts_earlier_is_compared_with_what_is_in_place(
    origin: Origin, fetch: Fetch
) -> None:
    url = origin.serve("/run.nxs", content(LARGE, etag='"1"', cut=CUT), misplaced(CUT - 1000, LARGE))
    with pytest.raises(IncompleteError):
        fetch(url)
    result = fetch(url)
    assert is_right(result, LARGE)
    assert (result.resumed_from, result.received) == (CUT, len(LARGE) - CUT + 1000)


def test_point_27_a_part_that_starts_earlier_and_differs_starts_over(origin: Origin, fetch: Fetch) -> None:
    other = Random(4).randbytes(len(LARGE))
    first, whole = content(LARGE, etag='"1"', cut=CUT), content(other, etag='"1"')
    url = origin.serve("/run.nxs", first, misplaced(CUT - 1000, other), whole)
    with pytest.raises(IncompleteError):
        fetch(url)
    result = fetch(url)
    assert is_right(result, other)
    assert result.resumed_from == 0


def test_point_33_short_parts_are_gone_on_from_within_one_try(origin: Origin, fetch: Fetch) -> None:
    def half(exchange: Exchange) -> None:
        start = int(exchange.request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        stop = min(len(LARGE), start + 1_000_000)
        headers = {
            "Content-Length": str(stop - start),
            "Content-Range": f"bytes {start}-{stop - 1}/{len(LARGE)}",
            "ETag": '"1"',
        }
        exchange.head(206, headers)
        exchange.body(LARGE[start:stop])

    url = origin.serve("/run.nxs", content(LARGE, etag='"1"', cut=CUT), half)
    with pytest.raises(IncompleteError):
        fetch(url)
    assert is_right(fetch(url), LARGE)
    assert origin.sent() == len(LARGE)
    assert len(origin.seen()) == 4


def test_point_34_a_complete_partial_is_finished_without_a_byte(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    url = origin.serve("/run.nxs", content(LARGE, etag='"1"', cut=CUT), content(LARGE, etag='"1"'))
    with pytest.raises(IncompleteError):
        fetch(url)
    partial = next(path for path in leftovers(cache) if path.suffix == ".part")
    partial.write_bytes(LARGE)  # as if killed after the last byte and before publishing
    result = fetch(url)
    assert is_right(result, LARGE)
    assert (result.received, result.resumed_from) == (0, len(LARGE))
    assert origin.seen()[1].headers["range"] == f"bytes={len(LARGE)}-"


def test_points_41_and_42_a_stale_copy_is_confirmed_without_its_bytes(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    stale = content(SMALL, etag='W/"1"', headers={"Cache-Control": "max-age=0"})
    fresh = content(SMALL, etag='W/"1"', headers={"Cache-Control": "max-age=1000"})
    url = origin.serve("/run.nxs", stale, fresh)
    fetch(url)
    again = fetch(url)
    assert again.cached
    assert is_right(again, SMALL)
    assert origin.seen()[1].headers["if-none-match"] == 'W/"1"'
    assert origin.sent() == len(SMALL)
    assert fetch(url).cached
    assert len(origin.seen()) == 2
    entry = cache.lookup(url)
    assert entry is not None
    assert entry.fresh_until is not None
    assert fetch(url, refresh=True).cached
    assert len(origin.seen()) == 3


def test_point_43_changed_content_is_a_new_object_beside_the_old_one(origin: Origin, fetch: Fetch) -> None:
    url = origin.serve("/run.nxs", content(b"old", etag='"1"'), content(b"new", etag='"2"'))
    old = fetch(url)
    new = fetch(url, refresh=True)
    assert is_right(new, b"new")
    assert not new.cached
    assert is_right(old, b"old")


def test_point_44_nothing_but_get_is_asked(origin: Origin, fetch: Fetch) -> None:
    url = origin.serve("/run.nxs", content(SMALL, etag='"1"'))
    fetch(url)
    fetch(url, refresh=True)
    assert {seen.method for seen in origin.seen()} == {"GET"}


@pytest.mark.parametrize("code", [404, 410, 403, 401])
def test_point_45_the_body_of_an_error_is_no_data(
    origin: Origin, fetch: Fetch, cache: FileCache, code: int
) -> None:
    url = origin.serve("/run.nxs", status(code, body=b"<html>sorry</html>"))
    with pytest.raises(OriginRefusedError, match=str(code)) as caught:
        fetch(url)
    assert not caught.value.transient
    assert url in str(caught.value)
    assert objects(cache) == []


def test_point_55_a_wrong_digest_is_fetched_once_more_and_never_published(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    url = origin.serve("/run.nxs", content(LARGE, etag='"1"'))
    with pytest.raises(DigestMismatchError) as caught:
        fetch(url, sha256="0" * 64)
    assert [seen.headers.get("cache-control") for seen in origin.seen()] == [None, "no-cache"]
    assert sha256(LARGE).hexdigest() in str(caught.value)
    assert objects(cache) == []
    assert leftovers(cache) == []


def test_point_38_the_overlap_is_asked_for_again_and_fits(origin: Origin, fetch: Fetch) -> None:
    whole = content(LARGE, etag='"1"')
    url = origin.serve("/run.nxs", content(LARGE, etag='"1"', cut=CUT), whole)
    with pytest.raises(IncompleteError):
        fetch(url, overlap_bytes=OVERLAP)
    result = fetch(url, overlap_bytes=OVERLAP)
    assert is_right(result, LARGE)
    assert result.resumed_from == CUT
    assert origin.seen()[1].headers["range"] == f"bytes={CUT - OVERLAP}-"
    assert len(origin.seen()) == 2


def test_point_38_other_bytes_under_the_same_tag_are_noticed(origin: Origin, fetch: Fetch) -> None:
    other = Random(3).randbytes(len(LARGE))
    url = origin.serve("/run.nxs", content(LARGE, etag='"1"', cut=CUT), content(other, etag='"1"'))
    with pytest.raises(IncompleteError):
        fetch(url, overlap_bytes=OVERLAP)
    result = fetch(url, overlap_bytes=OVERLAP)
    assert is_right(result, other)
    assert result.resumed_from == 0
    assert ["range" in seen.headers for seen in origin.seen()] == [False, True, False]


def test_point_38_a_connection_that_breaks_within_the_overlap_costs_nothing(
    origin: Origin, fetch: Fetch
) -> None:
    def breaks(exchange: Exchange) -> None:
        start = int(exchange.request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        span = f"bytes {start}-{len(LARGE) - 1}/{len(LARGE)}"
        head = {"Content-Length": str(len(LARGE) - start), "Content-Range": span, "Etag": '"1"'}
        exchange.head(206, head)
        exchange.body(LARGE[start : start + 1000])
        exchange.close()

    first, last = content(LARGE, etag='"1"', cut=CUT), content(LARGE, etag='"1"')
    url = origin.serve("/run.nxs", first, breaks, last)
    for _ in range(2):
        with pytest.raises(IncompleteError):
            fetch(url, overlap_bytes=OVERLAP)
    result = fetch(url, overlap_bytes=OVERLAP)
    assert is_right(result, LARGE)
    assert result.resumed_from == CUT


@both_sizes
def test_point_55_a_damaged_copy_on_the_way_is_healed(origin: Origin, fetch: Fetch, data: bytes) -> None:
    damaged = content(b"!" + data[1:], etag='"1"')
    url = origin.serve("/run.nxs", damaged, content(data, etag='"1"'))
    assert is_right(fetch(url, sha256=sha256(data).hexdigest()), data)
    assert len(origin.seen()) == 2


def test_point_55_a_small_wrong_copy_may_be_followed_by_a_large_right_one(
    origin: Origin, fetch: Fetch
) -> None:
    url = origin.serve("/run.nxs", content(SMALL), content(LARGE))
    assert is_right(fetch(url, sha256=sha256(LARGE).hexdigest()), LARGE)


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
def test_points_58_and_59_a_busy_origin_says_when_to_come_back(
    origin: Origin, fetch: Fetch, code: int
) -> None:
    url = origin.serve("/run.nxs", status(code, {"Retry-After": "7"}), content(SMALL))
    with pytest.raises(OriginBusyError) as caught:
        fetch(url)
    assert caught.value.transient
    assert caught.value.retry_after == 7
    assert is_right(fetch(url), SMALL)


def test_point_59_a_busy_origin_does_not_cost_the_partial(origin: Origin, fetch: Fetch) -> None:
    good = content(LARGE, etag='"1"')
    url = origin.serve("/run.nxs", content(LARGE, etag='"1"', cut=CUT), status(503), good)
    with pytest.raises(IncompleteError):
        fetch(url)
    with pytest.raises(OriginBusyError) as caught:
        fetch(url)
    assert "progressed" not in caught.value.details
    assert fetch(url).resumed_from == CUT
    assert origin.sent() == len(LARGE)


def test_point_59_no_connection_is_transient(fetch: Fetch) -> None:
    with Origin() as origin:
        url = origin.url("/run.nxs")
    with pytest.raises(ConnectionFailedError) as caught:
        fetch(url)
    assert caught.value.transient
    assert url in str(caught.value)
    assert "refused" in str(caught.value)


def test_point_60_a_transfer_that_is_too_slow_is_broken_off_and_gone_on_with(
    origin: Origin, fetch: Fetch
) -> None:
    url = origin.serve(
        "/run.nxs", content(LARGE, etag='"1"', cut=CUT, end="hold"), content(LARGE, etag='"1"')
    )
    with pytest.raises(ConnectionFailedError, match="bytes/s over") as caught:
        fetch(url, low_speed_seconds=0.5, low_speed_bytes_per_second=len(LARGE) * 10)
    assert caught.value.details["progressed"] is True
    result = fetch(url)
    assert is_right(result, LARGE)
    assert 0 < result.resumed_from == len(LARGE) - result.received


def test_point_60_a_silent_origin_is_given_up(origin: Origin, fetch: Fetch) -> None:
    url = origin.serve("/run.nxs", silence)
    with pytest.raises(ConnectionFailedError, match="no answer"):
        fetch(url, read_timeout_seconds=0.3)
    url = origin.serve("/half", content(SMALL, etag='"1"', cut=100, end="hold"))
    with pytest.raises(ConnectionFailedError, match="no byte"):
        fetch(url, read_timeout_seconds=2.0)


def test_points_63_and_72_redirects_are_followed_to_the_data(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    origin.serve("/data/run.nxs", content(SMALL, etag='"1"'))
    origin.serve("/b", redirect("data/run.nxs#part", 307))
    url = origin.serve("/a", redirect(origin.url("/b"), 301))
    assert is_right(fetch(url), SMALL)
    assert cache.lookup(url) is not None
    assert cache.lookup(origin.url("/data/run.nxs")) is None
    assert origin.connections < 3  # one is kept, unless the body of a redirect is late


def test_point_63_circles_and_long_chains_are_refused(origin: Origin, fetch: Fetch) -> None:
    origin.serve("/b", redirect("/a"))
    with pytest.raises(RedirectError, match="circle"):
        fetch(origin.serve("/a", redirect("/b")))
    for number in range(12):
        origin.serve(f"/{number}", redirect(f"/{number + 1}"))
    with pytest.raises(RedirectError, match="10 hops"):
        fetch(origin.url("/0"))


def test_point_65_https_does_not_lead_to_http_unless_a_digest_proves_the_bytes(
    origin: Origin, fetch: Fetch
) -> None:
    plain = origin.serve("/run.nxs", content(SMALL))
    with Origin(tls=True) as secure:
        url = secure.serve("/run.nxs", redirect(plain))
        with pytest.raises(RedirectError, match="https"):
            fetch(url, ca=CA_BUNDLE)
        assert is_right(fetch(url, ca=CA_BUNDLE, sha256=sha256(SMALL).hexdigest()), SMALL)


def test_point_66_no_other_scheme_is_followed(origin: Origin, fetch: Fetch) -> None:
    with pytest.raises(RedirectError, match="file"):
        fetch(origin.serve("/a", redirect("file:///etc/passwd")))


def test_point_68_neither_netrc_nor_proxies_of_the_environment_are_used(
    origin: Origin, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login user password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert is_right(fetch(origin.serve("/run.nxs", content(SMALL))), SMALL)
    assert "authorization" not in origin.seen()[0].headers


def test_point_70_cookies_are_not_carried_around(origin: Origin, fetch: Fetch) -> None:
    fetch(origin.serve("/a", content(SMALL, headers={"Set-Cookie": "s=1"})))
    fetch(origin.serve("/b", content(SMALL)))
    assert "cookie" not in origin.seen("/b")[0].headers


def test_over_tls_a_file_is_fetched_and_its_connection_kept(fetch: Fetch) -> None:
    with Origin(tls=True) as origin:
        for path, data in (("/a", SMALL), ("/b", LARGE), ("/c", b"")):
            assert is_right(fetch(origin.serve(path, content(data)), ca=CA_BUNDLE), data)
        assert origin.connections == 1


def test_over_tls_a_certificate_that_nobody_vouches_for_is_refused(fetch: Fetch) -> None:
    with Origin(tls=True) as origin:
        url = origin.serve("/run.nxs", content(SMALL))
        with pytest.raises(TlsError, match="ca_bundle") as caught:
            fetch(url)
        assert not caught.value.transient
        assert origin.seen() == []


def test_over_tls_a_certificate_for_another_name_is_refused(fetch: Fetch) -> None:
    with Origin(tls=True, host="127.0.0.2") as origin:
        url = origin.serve("/run.nxs", content(SMALL))
        with pytest.raises(TlsError, match=r"127\.0\.0\.2"):
            fetch(url, ca=CA_BUNDLE)
