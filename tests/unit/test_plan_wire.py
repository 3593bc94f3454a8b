"""HTTP/1.1 heads and bodies, byte by byte, without a socket."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stager.transfer.wire import (
    ChunkedBody,
    End,
    MalformedError,
    OpenBody,
    SizedBody,
    body_of,
    encode_request,
    find_head_end,
    parse_head,
)

OK = b"HTTP/1.1 200 OK\r\n"


def test_a_request_is_one_get_with_its_headers() -> None:
    text = encode_request("host:81", "/a?b", {"Range": "bytes=1-"})
    assert text == b"GET /a?b HTTP/1.1\r\nHost: host:81\r\nRange: bytes=1-\r\n\r\n"


@pytest.mark.parametrize("value", ["x\r\nEvil: 1", "x\nEvil: 1", "x\ry", "\u20ac"])
def test_a_header_can_not_smuggle_another_one(value: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - UnicodeError is one too
        encode_request("host", "/", {"If-Range": value})


def test_a_head_is_read_with_lower_case_names_and_joined_repeats() -> None:
    data = OK + b'ETag:  "a" \r\nX-Y: 1\r\nx-y: 2\r\nContent-Length: 5\r\n\r\nhello'
    end = find_head_end(data)
    assert data[end:] == b"hello"
    head = parse_head(data[:end])
    assert head.status == 200
    assert head.headers == {"etag": '"a"', "x-y": "1, 2", "content-length": "5"}
    assert head.length == 5
    assert head.persistent


def test_a_head_with_bare_line_feeds_is_read() -> None:
    data = b"HTTP/1.0 200 OK\nContent-Length: 5\n\nhello"
    end = find_head_end(data)
    assert data[end:] == b"hello"
    assert parse_head(data[:end]).length == 5


def test_a_head_is_complete_only_with_its_empty_line() -> None:
    data = OK + b"Content-Length: 5\r\n\r\n"
    for cut in range(len(data)):
        assert find_head_end(data[:cut]) == -1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"<html>\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"Name : value\r\n\r\n",
        OK + b"A: b\r\n folded\r\n\r\n",
        OK + b"A: b\x00c\r\n\r\n",
        OK + b"A: b\rc\r\n\r\n",
        OK + b": nameless\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=repr,
)
def test_what_is_not_a_head_is_refused(head: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_head(head)


@pytest.mark.parametrize("value", [b"5, 6", b"5\r\nContent-Length: 6"])
def test_point_6_conflicting_lengths_are_refused(value: bytes) -> None:
    with pytest.raises(MalformedError, match="conflicting"):
        parse_head(OK + b"Content-Length: " + value + b"\r\n\r\n")


def test_point_6_repeated_equal_lengths_are_one() -> None:
    head = parse_head(OK + b"Content-Length: 5, 5\r\nContent-Length: 5\r\n\r\n")
    assert head.length == 5
    assert head.headers["content-length"] == "5"


def test_point_7_transfer_encoding_governs_and_the_connection_is_closed() -> None:
    head = parse_head(OK + b"Content-Length: 5\r\nTransfer-Encoding: Chunked\r\n\r\n")
    assert head.chunked
    assert head.length is None
    assert "content-length" not in head.headers
    assert not head.persistent


@pytest.mark.parametrize(
    "value", [b"five", b"-5", b"+5", b"5.0", b"0x5", b"", b"9" * 19, "\u0665".encode(), b"5 5"]
)
def test_point_8_impossible_lengths_are_refused(value: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_head(OK + b"Content-Length: " + value + b"\r\n\r\n")


@pytest.mark.parametrize("status", [100, 103, 204, 304])
def test_point_10_some_statuses_have_no_body(status: int) -> None:
    head = parse_head(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status)
    assert head.length == 0
    assert body_of(head).done


@pytest.mark.parametrize(
    ("data", "persistent"),
    [
        (OK + b"Content-Length: 1\r\nConnection: close\r\n\r\n", False),
        (OK + b"Content-Length: 1\r\nConnection: Keep-Alive\r\n\r\n", True),
        (OK + b"\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_a_connection_is_used_again_only_if_both_sides_agree(data: bytes, persistent: bool) -> None:
    assert parse_head(data).persistent is persistent


def test_point_5_bytes_beyond_the_length_are_not_the_bodys() -> None:
    body = SizedBody(3)
    assert body.decode(memoryview(bytearray(b"abcd")), 4) == 3
    assert body.done
    assert body.excess


def test_points_1_to_3_the_end_of_the_connection_means_what_the_framing_says() -> None:
    assert SizedBody(3).at_close() is End.BROKEN
    assert ChunkedBody().at_close() is End.BROKEN
    assert OpenBody().at_close() is End.CLOSED


def unchunk(data: bytes, cuts: list[int]) -> tuple[bytes, ChunkedBody]:
    """Decode `data` as it would come in pieces of these sizes."""
    body = ChunkedBody()
    payload = b""
    while data:
        size = max(1, cuts.pop(0)) if cuts else len(data)
        piece = bytearray(data[:size])
        data = data[size:]
        payload += bytes(piece[: body.decode(memoryview(piece), len(piece))])
    return payload, body


@settings(max_examples=300)
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=8),
    cuts=st.lists(st.integers(1, 20), max_size=60),
    extension=st.sampled_from([b"", b";a=b", b' ; a="b"']),
    trailer=st.sampled_from([b"", b"X: y\r\n"]),
)
def test_chunks_are_put_together_however_they_are_cut(
    chunks: list[bytes], cuts: list[int], extension: bytes, trailer: bytes
) -> None:
    coded = b"".join(b"%X%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    payload, body = unchunk(coded + b"0\r\n" + trailer + b"\r\n", cuts)
    assert payload == b"".join(chunks)
    assert body.done
    assert not body.excess


@settings(max_examples=200)
@given(chunks=st.lists(st.binary(min_size=1, max_size=20), max_size=4), data=st.data())
def test_point_2_chunks_cut_anywhere_are_never_done(chunks: list[bytes], data: st.DataObject) -> None:
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    cut = data.draw(st.integers(0, len(coded) - 1))
    payload, body = unchunk(coded[:cut], [])
    assert not body.done
    assert b"".join(chunks).startswith(payload)


@pytest.mark.parametrize(
    "data",
    [
        b"xyz\r\n",
        b"-5\r\n",
        b"5\nhello\r\n",
        b"5 5\r\n",
        b"3\r\nabcd\r\n",
        b"\r\n",
        b"ffffffffffffffffff\r\n",
        b"5" * 5000,
        b"0\r\n" + b"x: " + b"y" * 1000 + b"\r\n" + b"x: y\r\n" * 20_000,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_not_chunks_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        unchunk(data, [100] * 2000)


def test_bytes_after_the_final_chunk_are_noticed() -> None:
    assert unchunk(b"0\r\n\r\nHTTP/1.1 200", [])[1].excess
