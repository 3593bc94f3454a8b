"""What a file system says of a file, as versions and errors; the dicts are as the file systems gave them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from stager.errors import OriginChangedError, OriginRefusedError, ProtocolError
from stager.model.urls import Url, parse_url
from stager.transfer.decisions import Identity, Request
from stager.transfer.remote.base import Backend, Refused, Site
from stager.transfer.remote.filesystem import FilesystemBackend, said, version_of
from stager.transfer.remote.transport import RemoteTransport
from stager.transfer.source import Version, reply

NOW = 1_800_000_000.0
URL = parse_url("gs://bucket/a")
TIME = datetime(2026, 11, 28, 22, 34, 24, tzinfo=UTC)
GS = {
    "kind": "storage#object", "name": "bucket/a", "generation": "1795905264011984296", "metageneration": "1",
    "contentType": "text/plain", "timeCreated": "2026-11-28T22:34:24Z", "updated": "2026-11-28T22:34:24Z", "size": 1000,
    "md5Hash": "OYUz1IER6fZksfZMsQxLYw==", "crc32c": "YXFUyQ==", "etag": "OYUz1IER6fZksfZMsQxLYw==", "type": "file",
    "mtime": TIME,
}  # fmt: skip
WEBDAV = {
    "name": "a", "href": "/a", "size": 1000, "created": TIME, "modified": TIME, "content_language": None,
    "content_type": "text/plain", "etag": '"5f-1795905264-1000"', "type": "file", "display_name": "a",
}  # fmt: skip


def version(info: dict[str, Any], now: float = NOW) -> Version:
    return version_of(info, URL, now)


@pytest.mark.parametrize("info", [GS, WEBDAV], ids=["gs", "webdav"])
def test_size_time_and_type_are_found(info: dict[str, Any]) -> None:
    found = version(info)
    assert (found.size, found.modified, found.content_type) == (1000, TIME.timestamp(), "text/plain")


@pytest.mark.parametrize(
    ("info", "change", "is_other"),
    [
        (GS, {"generation": "1795905264011984297"}, True),
        (GS, {"etag": "other", "metageneration": "2"}, False),  # of what is said about it
        (GS, {"generation": None, "etag": "other"}, True),
        (GS, {"size": 1001}, True),
        (WEBDAV, {"etag": '"5f-1795905265-1000"'}, True),
        (WEBDAV, {"etag": "5f-1795905264-1000"}, False),  # quotes are no part of it
        (WEBDAV, {"display_name": "b"}, False),
        ({"size": 1, "content_md5": b"\x00\x01"}, {"content_md5": bytearray(b"\x00\x02")}, True),
        ({"size": 1, "mtime": 1000.0}, {"mtime": 1001.0}, True),
        ({"size": 1, "created": "2026-11-28T22:34:24Z"}, {"created": "2026-11-28T22:34:25Z"}, True),
        ({"size": 1, "LastModified": "Sat, 28 Nov 2026 22:34:24 GMT"}, {"LastModified": 7.0}, True),
    ],
)
def test_the_strongest_that_is_said_tells_versions_apart(
    info: dict[str, Any], change: dict[str, Any], is_other: bool
) -> None:
    first, second = version(info).tag, version(info | change).tag
    assert first
    assert second
    assert (first != second) is is_other


def test_the_tag_can_be_part_of_a_header() -> None:
    tag = version(GS | {"generation": 'a"\r\nb,ä'}).tag
    assert tag.replace("-", "").isalnum()
    assert tag.isascii()


def test_a_weak_etag_proves_nothing() -> None:
    weak = WEBDAV | {"etag": 'W/"5f"'}
    assert version(weak).tag == version(WEBDAV | {"etag": None}).tag
    assert not version(weak, TIME.timestamp() + 1).tag  # it may be changed again within this second


def test_what_is_known_by_its_size_alone_is_not_gone_on_with() -> None:
    found = version({"size": 10, "type": "file", "mtime": "yesterday"})
    assert (found.tag, found.modified) == ("", None)
    answer = reply(found, {})
    assert answer.headers["accept-ranges"] == "none"
    assert "etag" not in answer.headers


@pytest.mark.parametrize(
    ("info", "error"),
    [({"size": 0, "type": "directory"}, OriginRefusedError), ({"size": None}, ProtocolError)],
)
def test_what_is_no_file_or_has_no_size_is_refused(info: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        version(info)


class _AnswerError(Exception):
    def __init__(self, **more: Any) -> None:
        super().__init__("no")
        self.__dict__ |= more


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FileNotFoundError("a"), 404),
        (PermissionError("a"), 403),
        (OSError("Forbidden: b/o\nno"), 403),
        (_AnswerError(code=401), 401),
        (_AnswerError(code="503"), 503),
        (_AnswerError(status=404), 404),
        (_AnswerError(response=_AnswerError(status_code=429)), 429),
    ],
)
def test_an_answer_that_says_no_is_a_status(error: Exception, status: int) -> None:
    with pytest.raises(Refused) as caught:
        said(lambda: _raise(error))
    assert caught.value.status == status


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ConnectionResetError(),
        OSError("odd"),
        _AnswerError(code="odd"),
        _AnswerError(status=200),
    ],
)
def test_all_else_is_the_networks_fault(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        said(lambda: _raise(error))
    assert caught.value is error


def _raise(error: Exception) -> Iterator[None]:
    raise error


def test_an_origin_that_knows_no_parts_is_noticed() -> None:
    class Whole:
        def cat_file(self, path: str, **_: int) -> bytes:
            assert path == "bucket/a"
            return b"0123456789"

    blocks = FilesystemBackend(Whole()).read(URL, Version(10, ""), 3, 10)
    with pytest.raises(ProtocolError, match="no parts"):
        list(blocks)


@pytest.mark.parametrize("tag", ["one", "two"])
def test_a_change_within_the_second_shows_in_the_tag_alone(tag: str) -> None:
    class Changing:
        pins = False

        def __init__(self) -> None:
            self.versions = [Version(4, "one", 7.0), Version(4, tag, 7.0)]

        def look(self, _: Url) -> Version:
            return self.versions.pop(0)

        def read(self, _: Url, _version: Version, offset: int, end: int) -> Generator[bytes, None, None]:
            yield b"data"[offset:end]

        def abort(self) -> None: ...

        def close(self) -> None: ...

    class Transport(RemoteTransport):
        def connect(self, url: Url, identity: Identity) -> Backend:
            assert (url, identity) == (URL, Identity())
            return Changing()

    transport = Transport(Site())
    response = transport.open(Request(URL, {}), lambda _: None)
    taken = bytearray(4)

    def whole() -> bytes:
        got = 0
        while response.end is None:
            got += response.readinto(memoryview(taken)[got:]) or 0
        return bytes(taken[:got])

    if tag == "one":
        assert whole() == b"data"
    else:
        with pytest.raises(OriginChangedError):
            whole()
    response.close()
    transport.close()
