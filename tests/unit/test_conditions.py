"""Which bytes a request asks for, and under which conditions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager.server.bytes import disposition
from stager.server.conditions import GAP_BYTES, MAX_RANGES, Asked, RangesRefusedError, Span, ranges

DIGEST = "ab" * 32
TAG = f'"{DIGEST}"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=5-", [(5, 1000)]),
        ("bytes=-5", [(995, 1000)]),
        ("bytes=-5000", [(0, 1000)]),
        ("bytes=990-5000", [(990, 1000)]),
        ("Bytes = 1-2", [(1, 3)]),
        ("bytes=0-9, 500-509", [(0, 10), (500, 510)]),
        ("bytes=500-509,0-9", [(500, 510), (0, 10)]),
        ("bytes=0-9,,5-19", [(0, 20)]),
        (f"bytes=0-9,{10 + GAP_BYTES}-199", [(0, 200)]),
        (f"bytes=0-9,{11 + GAP_BYTES}-199", [(0, 10), (11 + GAP_BYTES, 200)]),
        ("bytes=0-9,2000-,500-509", [(0, 10), (500, 510)]),
        ("bytes=0-,0-,0-,0-", [(0, 1000)]),
        ("lines=1-2", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=9-5", None),
        ("bytes=1-2,x", None),
        ("bytes=+1-2", None),
        ("bytes=1.5-2", None),
        ("bytes=\u0661-\u0662", None),
        ("", None),
    ],
)
def test_a_range_says_which_bytes(header: str, expected: list[tuple[int, int]] | None) -> None:
    assert ranges(header, 1000) == expected


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=-0", "bytes=1000-2000,5000-", f"bytes={10**25}-"])
def test_a_range_without_a_byte_of_the_file_is_refused(header: str) -> None:
    with pytest.raises(RangesRefusedError, match="1000 bytes"):
        ranges(header, 1000)


def test_too_many_ranges_are_refused_and_as_many_as_are_taken_are_not() -> None:
    size = 1_000_000
    specs = [f"{at}-{at}" for at in range(0, size, 1000)]
    assert len(ranges("bytes=" + ",".join(specs[:MAX_RANGES]), size) or ()) == MAX_RANGES
    with pytest.raises(RangesRefusedError, match="101 ranges"):
        ranges("bytes=" + ",".join(specs[: MAX_RANGES + 1]), size)


def test_of_an_empty_file_a_range_is_all_of_it() -> None:
    assert ranges("bytes=-5", 0) is None
    assert ranges("bytes=0-", 0) is None


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 500)), min_size=1, max_size=20),
    st.integers(1, 2500),
)
def test_every_byte_that_is_asked_for_is_sent_once_and_no_other_but_small_gaps(
    wanted: list[tuple[int, int]], size: int
) -> None:
    asked = {at for first, more in wanted for at in range(first, min(first + more + 1, size))}
    header = "bytes=" + ",".join(f"{first}-{first + more}" for first, more in wanted)
    if not asked:
        with pytest.raises(RangesRefusedError):
            ranges(header, size)
        return
    spans = ranges(header, size)
    assert spans is not None
    sent = [at for span in spans for at in range(span.start, span.stop)]
    assert len(sent) == len(set(sent))
    assert asked <= set(sent)
    for start, stop in spans:
        assert {start, stop - 1} <= asked
    first = next(at for at, _ in wanted if at < size)
    assert first in range(*spans[0])


@given(st.text(alphabet='bytes=0123456789-, \t"W/x', max_size=60), st.integers(0, 10**20))
def test_whatever_is_sent_as_a_range_means_bytes_of_the_file_or_nothing(header: str, size: int) -> None:
    try:
        spans = ranges(header, size)
    except RangesRefusedError:
        return
    assert all(0 <= span.start < span.stop <= size for span in spans or ())


def test_conditions_compare_tags_as_they_are_to_be_compared() -> None:
    assert not Asked().fails(DIGEST)
    assert not Asked(if_match=f'"other", {TAG}').fails(DIGEST)
    assert not Asked(if_match="*").fails(DIGEST)
    assert Asked(if_match=f"W/{TAG}").fails(DIGEST), "a weak tag is none here"
    assert Asked(if_match='"other"').fails(DIGEST)
    assert Asked(if_match=DIGEST).fails(DIGEST), "a tag has quotes"
    assert Asked(if_none_match=f'"a", W/{TAG}').has(DIGEST)
    assert Asked(if_none_match="*").has(DIGEST)
    assert not Asked(if_none_match='"a"').has(DIGEST)
    assert not Asked().has(DIGEST)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Asked(range="bytes=0-4"), [Span(0, 5)]),
        (Asked(range="bytes=0-4", if_range=TAG), [Span(0, 5)]),
        (Asked(range="bytes=0-4", if_range=f"W/{TAG}"), None),
        (Asked(range="bytes=0-4", if_range='"other"'), None),
        (Asked(range="bytes=0-4", if_range="Wed, 21 Oct 2015 07:28:00 GMT"), None),
        (Asked("HEAD", range="bytes=0-4"), None),
        (Asked(if_range=TAG), None),
    ],
)
def test_a_range_counts_for_the_file_that_is_meant(asked: Asked, expected: list[Span] | None) -> None:
    assert asked.spans(DIGEST, 100) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "attachment"),
        ("a/b/scan-7.nxs", 'attachment; filename="scan-7.nxs"'),
        ("..", 'attachment; filename=".."'),
        ('x"; filename=evil', "attachment; filename*=UTF-8''x%22%3B%20filename%3Devil"),
        ("a\r\nSet-Cookie: b", "attachment; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20b"),
        ("Größe.txt", "attachment; filename*=UTF-8''Gr%C3%B6%C3%9Fe.txt"),
        ("\udcff", "attachment; filename*=UTF-8''%3F"),
    ],
)
def test_a_name_of_any_kind_makes_a_header(name: str, expected: str) -> None:
    assert disposition(name) == expected
    disposition(name).encode("ascii")
