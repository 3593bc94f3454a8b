"""How a file of another scheme is answered for, in HTTP's words."""

from __future__ import annotations

import pytest

from stager.transfer.source import GRAIN_SECONDS, Version, reply, timed_version

NOW = 1_700_000_000.0
FILE = Version(10, "v1", NOW - 3600)


@pytest.mark.parametrize(
    ("asked", "status", "first", "end", "span"),
    [
        ({}, 200, 0, 10, None),
        ({"If-None-Match": '"v1"'}, 304, 0, 0, None),
        ({"If-None-Match": '"v0"'}, 200, 0, 10, None),
        ({"Range": "bytes=4-", "If-Range": '"v1"'}, 206, 4, 10, "bytes 4-9/10"),
        ({"Range": "bytes=0-", "If-Range": '"v1"'}, 206, 0, 10, "bytes 0-9/10"),
        ({"Range": "bytes=4-6", "If-Range": '"v1"'}, 206, 4, 7, "bytes 4-6/10"),
        ({"Range": "bytes=4-99", "If-Range": '"v1"'}, 206, 4, 10, "bytes 4-9/10"),
        ({"Range": "bytes=4-"}, 206, 4, 10, "bytes 4-9/10"),
        ({"Range": "bytes=4-", "If-Range": '"v0"'}, 200, 0, 10, None),
        ({"Range": "bytes=10-", "If-Range": '"v1"'}, 416, 0, 0, "bytes */10"),
    ],
)
def test_a_request_is_answered_as_a_web_server_would(
    asked: dict[str, str], status: int, first: int, end: int, span: str | None
) -> None:
    answer = reply(FILE, asked)
    assert (answer.status, answer.first, answer.end) == (status, first, end)
    assert answer.headers.get("content-range") == span
    assert answer.headers["etag"] == '"v1"'
    if status in {200, 206}:
        assert answer.headers["content-length"] == str(end - first)


@pytest.mark.parametrize("age", [0.0, GRAIN_SECONDS - 0.1, -5.0])
def test_a_file_that_changed_just_now_can_neither_be_confirmed_nor_gone_on_with(age: float) -> None:
    version = timed_version(10, NOW - age, NOW)
    answer = reply(version, {"If-None-Match": '""', "Range": "bytes=4-", "If-Range": '""'})
    assert (answer.status, answer.headers["accept-ranges"]) == (200, "none")
    assert "etag" not in answer.headers


def test_another_size_or_time_is_another_version() -> None:
    versions = [timed_version(size, NOW - age, NOW) for size in (1, 2) for age in (10.0, 10.5)]
    assert len({version.tag for version in versions}) == 4
