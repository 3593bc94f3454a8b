"""HTTP points that the plan decides alone, once more end to end on both drivers, and those about unpacking.

Nothing is unpacked: a compressed file stays as it is. So the points about unpacking (16 to 19) come down to one
promise, that bytes stay as they came and their coding is recorded.
"""

from __future__ import annotations

import gzip
from hashlib import md5, sha256

import pytest

from stager.cache.store import FileCache
from stager.errors import IncompleteError, OriginRefusedError, ProtocolError
from tests.support.origin import Exchange, Origin, content, raw, redirect, status
from tests.support.points import CUT, LARGE, SMALL, Fetch, is_right, leftovers

PACKED = gzip.compress(SMALL, mtime=0)


@pytest.mark.parametrize("code", [204, 304])
def test_point_10_an_answer_that_has_no_body_is_not_waited_for_and_is_no_file(
    origin: Origin, fetch: Fetch, cache: FileCache, code: int
) -> None:
    url = origin.serve("/run.nxs", status(code, {"Content-Length": "5"}))
    with pytest.raises((OriginRefusedError, ProtocolError)):
        fetch(url)
    assert cache.lookup(url) is None
    assert is_right(fetch(origin.serve("/next", content(SMALL))), SMALL)


@pytest.mark.parametrize(
    "coded",
    [PACKED, PACKED[:-4], PACKED[:-4] + b"!!!!", PACKED + b"more", b"no gzip at all", gzip.compress(bytes(1 << 20))],
    ids=["right", "16 cut", "16 other CRC", "16 more behind it", "not even that", "19 a small bomb"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("coding", "recorded"), [("gzip", "gzip"), ("x-gzip", "gzip"), ("br", "br"), ("klingon", "klingon"), ("gzip, br", "gzip, br")]
)  # fmt: skip
def test_points_16_to_19_coded_bytes_stay_as_they_came_whatever_they_are_and_their_coding_is_known(
    origin: Origin, fetch: Fetch, cache: FileCache, coded: bytes, coding: str, recorded: str
) -> None:
    """16: nothing is unpacked, so nothing can be cut. 17: x-gzip is gzip. 18: any coding can be kept. 19: nothing grows."""
    url = origin.serve("/run.nxs.gz", content(coded, headers={"Content-Encoding": coding}))
    assert is_right(fetch(url), coded)
    entry = cache.lookup(url)
    assert entry is not None
    assert entry.content_encoding == recorded


def test_point_20_a_coded_copys_validator_is_not_sent_for_the_plain_bytes(
    origin: Origin, fetch: Fetch
) -> None:
    stale = {"Cache-Control": "max-age=0"}
    url = origin.serve(
        "/run.nxs",
        content(PACKED, etag='"1"', headers=stale | {"Content-Encoding": "gzip"}),
        content(SMALL, etag='"1"', headers=stale),
    )
    fetch(url)
    assert is_right(fetch(url), SMALL)
    assert "if-none-match" not in origin.seen()[1].headers


def test_point_22_what_only_a_weak_tag_describes_is_begun_anew(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    url = origin.serve("/run.nxs", content(LARGE, etag='W/"1"', cut=CUT), content(LARGE, etag='W/"1"'))
    with pytest.raises(IncompleteError):
        fetch(url)
    assert leftovers(cache) == []
    assert is_right(fetch(url), LARGE)
    assert not {"range", "if-range"} & origin.seen()[1].headers.keys()


def test_point_24_if_range_goes_with_range_and_with_nothing_else(origin: Origin, fetch: Fetch) -> None:
    url = origin.serve("/run.nxs", content(LARGE, etag='"1"', cut=CUT), content(LARGE, etag='"1"'))
    with pytest.raises(IncompleteError):
        fetch(url)
    fetch(url)
    fetch(url, refresh=True)
    named = [{"range", "if-range", "if-none-match"} & seen.headers.keys() for seen in origin.seen()]
    assert named == [set(), {"range", "if-range"}, {"if-none-match"}]


def test_point_32_a_part_of_unknown_length_is_gone_on_from_until_the_length_is_learnt(
    origin: Origin, fetch: Fetch
) -> None:
    def part(exchange: Exchange) -> None:
        first = int(exchange.request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        end = min(first + CUT, len(LARGE))
        total = len(LARGE) if end == len(LARGE) else "*"
        exchange.head(
            206,
            {
                "Content-Range": f"bytes {first}-{end - 1}/{total}",
                "Content-Length": str(end - first),
                "ETag": '"1"',
            },
        )
        exchange.body(LARGE[first:end])

    def unknown(exchange: Exchange) -> None:
        exchange.head(200, {"Transfer-Encoding": "chunked", "ETag": '"1"'})
        exchange.chunk(LARGE[:CUT])
        exchange.close()

    url = origin.serve("/run.nxs", unknown, part)
    with pytest.raises(IncompleteError):
        fetch(url)
    assert is_right(fetch(url), LARGE)


def test_point_35_a_whole_answer_with_content_range_is_asked_for_again_without_range(
    origin: Origin, fetch: Fetch
) -> None:
    odd = status(200, {"Content-Range": f"bytes {CUT}-{len(LARGE) - 1}/{len(LARGE)}"}, LARGE[CUT:])
    url = origin.serve("/run.nxs", content(LARGE, etag='"1"', cut=CUT), odd, content(LARGE, etag='"1"'))
    with pytest.raises(IncompleteError):
        fetch(url)
    assert is_right(fetch(url), LARGE)
    assert ["range" in seen.headers for seen in origin.seen()] == [False, True, False]


def test_point_36_an_origin_without_ranges_is_not_asked_for_one(origin: Origin, fetch: Fetch) -> None:
    none = {"Accept-Ranges": "none"}
    url = origin.serve(
        "/run.nxs", content(LARGE, etag='"1"', cut=CUT, headers=none), content(LARGE, etag='"1"')
    )
    with pytest.raises(IncompleteError):
        fetch(url)
    assert is_right(fetch(url), LARGE)
    assert "range" not in origin.seen()[1].headers


@pytest.mark.parametrize("code", [404, 410])
def test_point_45_that_a_file_is_not_there_is_remembered_for_a_short_time(
    origin: Origin, fetch: Fetch, code: int
) -> None:
    url = origin.serve("/run.nxs", status(code, {}, b"no such file"), content(SMALL))
    for _ in range(3):
        with pytest.raises(OriginRefusedError, match=str(code)):
            fetch(url, absent_seconds=60.0)
    assert len(origin.seen()) == 1
    assert is_right(fetch(url, absent_seconds=60.0, refresh=True), SMALL)
    assert is_right(fetch(url), SMALL)


def test_point_47_a_tag_that_looks_like_a_digest_is_only_a_tag(origin: Origin, fetch: Fetch) -> None:
    for tag in (md5(b"other").hexdigest(), sha256(b"other").hexdigest()):
        assert is_right(fetch(origin.serve(f"/{tag}", content(SMALL, etag=f'"{tag}"'))), SMALL)


@pytest.mark.parametrize(
    "modified",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_point_48_last_modified_is_kept_as_it_was_sent_and_sent_back_so(
    origin: Origin, fetch: Fetch, cache: FileCache, modified: str
) -> None:
    """In each of the three forms; one object may be the file of several URLs, so the date is kept in the entry."""
    url = origin.serve("/run.nxs", content(SMALL, modified=modified))
    fetch(url)
    entry = cache.lookup(url)
    assert entry is not None
    assert entry.validators.last_modified == modified
    assert fetch(url, refresh=True).cached
    assert origin.seen()[1].headers["if-modified-since"] == modified


def test_point_71_a_signature_is_in_no_error_no_entry_and_no_sidecar(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    cut = content(LARGE, etag='"1"', cut=CUT)
    url = origin.serve("/run.nxs?X-Amz-Signature=canary", cut, content(LARGE, etag='"1"'))
    with pytest.raises(IncompleteError) as caught:
        fetch(url)
    assert "canary" not in f"{caught.value} {caught.value.details}"
    target = origin.serve("/store?sig=canary", content(SMALL))
    fetch(origin.serve("/moved", redirect(target)))
    fetch(url)
    written = [path for path in cache.root.rglob("*") if path.suffix == ".json"]
    shown = [path.read_text().partition('"url":')[2] for path in written if "entries" in path.parts]
    assert len(shown) == 2
    assert not [text for text in shown if "canary" in text]


def test_point_9_a_hundred_continue_is_no_answer(origin: Origin, fetch: Fetch) -> None:
    url = origin.serve(
        "/run.nxs", raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    )
    assert is_right(fetch(url), b"ok")
