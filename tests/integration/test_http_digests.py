"""HTTP points 50 to 57 end to end: what origins and callers say that bytes hash to, on both drivers."""

from __future__ import annotations

import base64
import hashlib
from hashlib import sha256, sha512
from typing import Any

import pytest

from stager.cache.store import FileCache
from stager.errors import DigestMismatchError, IncompleteError
from tests.support.origin import Exchange, Origin, chunked, content, until_close
from tests.support.points import CUT, LARGE, SMALL, Fetch, is_right, leftovers, objects

both_sizes = pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])


def b64(name: str, data: bytes) -> str:
    return base64.b64encode(hashlib.new(name, data).digest()).decode()


def fields(data: bytes) -> dict[str, dict[str, str]]:
    """What origins send, by the number of the point."""
    return {
        "50": {"Repr-Digest": f"sha-256=:{b64('sha256', data)}:"},
        "50 sha-512": {"Repr-Digest": f"sha-512=:{b64('sha512', data)}:"},
        "51": {"Content-Digest": f"sha-512=:{b64('sha512', data)}:"},
        "52 old": {"Digest": f"SHA-256={b64('sha256', data)}"},
        "52 md5": {"Content-MD5": b64("md5", data)},
        "53": {"x-amz-checksum-sha256": b64("sha256", data)},
        "54": {"x-goog-hash": f"md5={b64('md5', data)}"},
    }


@both_sizes
@pytest.mark.parametrize("point", fields(b""))
def test_points_50_to_54_bytes_that_are_not_what_the_origin_says_are_never_published(
    origin: Origin, fetch: Fetch, cache: FileCache, data: bytes, point: str
) -> None:
    damaged = b"!" + data[1:]
    url = origin.serve("/run.nxs", content(damaged, etag='"1"', headers=fields(data)[point]))
    with pytest.raises(DigestMismatchError, match=r"announced by the origin.*twice.*overrules"):
        fetch(url)
    assert [seen.headers.get("cache-control") for seen in origin.seen()] == [None, "no-cache"]
    assert origin.seen()[0].headers["want-repr-digest"] == "sha-256=10"
    assert objects(cache) == leftovers(cache) == []
    healed = content(data, etag='"1"', headers=fields(data)[point])
    url = origin.serve("/run.nxs", content(damaged, etag='"1"', headers=fields(data)[point]), healed)
    assert is_right(fetch(url), data)


@both_sizes
def test_points_51_to_53_what_is_not_about_the_whole_is_not_compared_with_it(
    origin: Origin, fetch: Fetch, data: bytes
) -> None:
    other = {
        "x-amz-checksum-sha256": b64("sha256", b"parts"),
        "x-amz-checksum-type": "COMPOSITE",
        "x-goog-hash": f"md5={b64('md5', b'packed')}",
        "x-goog-stored-content-encoding": "gzip",
    }
    assert is_right(fetch(origin.serve("/run.nxs", content(data, headers=other))), data)


def part_with_digests(exchange: Exchange) -> None:
    """A 206 with digests of its own bytes, as Content-Digest and Content-MD5 are."""
    start = int(exchange.request.headers["range"].removeprefix("bytes=").removesuffix("-"))
    part = LARGE[start:]
    exchange.head(
        206,
        {
            "Content-Length": str(len(part)),
            "Content-Range": f"bytes {start}-{len(LARGE) - 1}/{len(LARGE)}",
            "ETag": '"1"',
            "Content-Digest": f"sha-256=:{b64('sha256', part)}:",
            "Content-MD5": b64("md5", part),
        },
    )
    exchange.body(part)


def test_point_51_the_digest_of_a_part_is_not_that_of_the_whole(origin: Origin, fetch: Fetch) -> None:
    url = origin.serve("/run.nxs", content(LARGE, etag='"1"', cut=CUT), part_with_digests)
    with pytest.raises(IncompleteError):
        fetch(url)
    assert is_right(fetch(url), LARGE)


@pytest.mark.parametrize("point", ["50", "50 sha-512", "52 md5"])
def test_point_50_the_digest_is_verified_over_the_assembled_whole(
    origin: Origin, fetch: Fetch, cache: FileCache, point: str
) -> None:
    """The part that was there before counts, also in an algorithm that only the first answer named."""
    said = fields(LARGE)[point]
    url = origin.serve(
        "/run.nxs", content(LARGE, etag='"1"', cut=CUT, headers=said), content(LARGE, etag='"1"')
    )
    with pytest.raises(IncompleteError):
        fetch(url)
    result = fetch(url)
    assert is_right(result, LARGE)
    assert result.resumed_from == CUT
    origin.serve("/bad", content(LARGE, etag='"1"', cut=CUT, headers=said), content(LARGE, etag='"1"'))
    with pytest.raises(IncompleteError):
        fetch(origin.url("/bad"))
    partial = next(path for path in leftovers(cache) if path.suffix == ".part")
    partial.write_bytes(b"!" + partial.read_bytes()[1:])  # as a disk might do
    assert is_right(fetch(origin.url("/bad")), LARGE)
    assert origin.seen("/bad")[-1].headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("says", [True, False])
def test_point_50_a_file_that_was_replaced_while_it_came_need_not_have_the_digest_of_the_one_before(
    origin: Origin, fetch: Fetch, says: bool
) -> None:
    before = LARGE[::-1]
    first = content(before, etag='"1"', cut=CUT, headers=fields(before)["50"])
    url = origin.serve(
        "/run.nxs", first, content(LARGE, etag='"2"', headers=fields(LARGE)["50"] if says else {})
    )
    with pytest.raises(IncompleteError):
        fetch(url)
    assert is_right(fetch(url), LARGE)
    assert len(origin.seen()) == 2


@both_sizes
@pytest.mark.parametrize("name", ["sha512", "sha384", "md5"])
def test_point_55_the_callers_digest_of_any_algorithm_beats_the_origins(
    origin: Origin, fetch: Fetch, cache: FileCache, data: bytes, name: str
) -> None:
    wrong = {"Repr-Digest": f"sha-256=:{b64('sha256', b'other')}:"}
    url = origin.serve("/run.nxs", content(data, etag='"1"', headers=wrong))
    mine = f"{name}:{hashlib.new(name, data).hexdigest()}"
    assert is_right(fetch(url, digest=mine), data)
    entry = cache.lookup(url)
    assert entry is not None
    assert entry.digests == (mine,)
    assert fetch(url, digest=mine).cached
    with pytest.raises(DigestMismatchError, match=rf"{name} expected 0+, got {mine.partition(':')[2]}"):
        fetch(url, digest=f"{name}:{'0' * len(mine.partition(':')[2])}")
    assert [seen.headers.get("cache-control") for seen in origin.seen()] == [None, None, "no-cache"]


def test_point_55_a_file_that_is_there_is_read_for_a_digest_that_nobody_asked_for_before(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    url = origin.serve("/run.nxs", content(LARGE))
    fetch(url)
    mine = f"sha512:{sha512(LARGE).hexdigest()}"
    assert fetch(url, digest=mine).cached
    assert len(origin.seen()) == 1
    entry = cache.lookup(url)
    assert entry is not None
    assert entry.digests == (mine,)


def test_point_55_a_size_that_was_given_is_asked_of_the_head_and_proves_a_body_without_one(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    url = origin.serve("/run.nxs", content(LARGE))
    with pytest.raises(DigestMismatchError, match=f"it has {len(LARGE)} bytes, 7 were expected"):
        fetch(url, size=7)
    origin.serve("/open", until_close(SMALL))
    proven = fetch(origin.url("/open"), size=len(SMALL))
    assert is_right(proven, SMALL)
    assert not proven.unproven
    origin.serve("/short", until_close(SMALL[:-1]))
    with pytest.raises(DigestMismatchError):
        fetch(origin.url("/short"), size=len(SMALL))
    assert [path.name for path in objects(cache)] == [sha256(SMALL).hexdigest()]


def test_point_3_a_body_without_length_is_proven_by_the_origins_digest(origin: Origin, fetch: Fetch) -> None:
    result = fetch(origin.serve("/run.nxs", until_close(SMALL, fields(SMALL)["50"])))
    assert is_right(result, SMALL)
    assert not result.unproven


def trailing(data: bytes, **trailer: str) -> Any:
    """Chunks with fields behind them."""
    body = chunked(data, size=70_000, final=False, headers={"Trailer": ", ".join(trailer)})

    def answer(exchange: Exchange) -> None:
        body(exchange)
        exchange.keep = True
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in trailer.items())
        exchange.send(f"0\r\n{lines}\r\n".encode())

    return answer


@both_sizes
@pytest.mark.parametrize("name", ["sha256", "sha512"])
def test_point_57_a_digest_behind_the_body_is_checked(
    origin: Origin, fetch: Fetch, cache: FileCache, data: bytes, name: str
) -> None:
    said = {"Repr_Digest": f"{name.replace('sha', 'sha-')}=:{b64(name, data)}:"}
    assert is_right(fetch(origin.serve("/good", trailing(data, **said))), data)
    url = origin.serve("/bad", trailing(b"!" + data[1:], **said))
    with pytest.raises(DigestMismatchError, match="announced by the origin"):
        fetch(url)
    assert cache.lookup(url) is None
