"""A file that is read a block at a time, as it is needed: the same bytes, few requests, bounded memory."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager.client.objects import ObjectCalls
from stager.client.remote_file import RemoteFile
from stager.client.talk import Blocking, Open, Pause, Read
from stager.errors import ConflictError, RemoteError, ServerUnreachableError

DATA = random.Random(3).randbytes(1000)
DIGEST = "cd" * 32


class Source:
    """Gives bytes, and remembers which it was asked for."""

    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    def __call__(self, start: int, stop: int) -> bytes:
        assert 0 <= start < stop <= len(self.data)
        self.asked.append((start, stop))
        return self.data[start:stop]

    def file(self, *, held: int = 400, ahead: int = 200, block: int = 10) -> RemoteFile:
        size = len(self.data)
        return RemoteFile(self, size, DIGEST, held_bytes=held, ahead_bytes=ahead, block_bytes=block)


Step = tuple[str, int, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 150), st.just(0)),
        st.tuples(st.just("seek"), st.integers(0, 1100), st.just(io.SEEK_SET)),
        st.tuples(st.just("seek"), st.integers(0, 50), st.just(io.SEEK_CUR)),
        st.tuples(st.just("seek"), st.integers(-1000, 20), st.just(io.SEEK_END)),
    ),
    max_size=40,
)


@given(STEPS, st.integers(0, 200), st.integers(0, 300), st.integers(1, 1200), st.integers(1, 64))
def test_it_reads_as_a_file_does(steps: list[Step], held: int, ahead: int, block: int, buffer: int) -> None:
    source = Source()
    remote = io.BufferedReader(source.file(held=held, ahead=ahead, block=block), buffer)
    local = io.BytesIO(DATA)
    for what, number, whence in steps:
        if what == "read":
            assert remote.read(number) == local.read(number)
        else:
            assert remote.seek(number, whence) == local.seek(number, whence)
        assert remote.tell() == local.tell()
    assert all(stop - start <= max(ahead, block) for start, stop in source.asked)


def test_read_in_order_it_is_brought_in_larger_and_larger_pieces_once() -> None:
    source = Source()
    assert source.file().readall() == DATA
    assert source.asked[:5] == [(0, 10), (10, 30), (30, 70), (70, 150), (150, 310)]
    assert source.asked[-1][1] == len(DATA)
    assert sum(stop - start for start, stop in source.asked) == len(DATA)


def test_read_here_and_there_no_more_is_brought_than_is_needed() -> None:
    source = Source()
    file = source.file()
    for at in (500, 5, 250, 995, 505, 251):
        file.seek(at)
        assert file.read(3) == DATA[at : at + 3]
    assert source.asked == [(500, 510), (0, 10), (250, 260), (990, 1000)], "what is held is not brought again"


def test_what_is_held_is_bounded_and_the_longest_unused_goes() -> None:
    source = Source()
    file = source.file(held=30)
    for at in (0, 100, 200, 0, 300, 0, 100):
        file.seek(at)
        file.read(1)
    assert source.asked == [(0, 10), (100, 110), (200, 210), (300, 310), (100, 110)]
    assert sum(map(len, file._held.values())) <= 30


def test_a_closed_file_says_so_and_lets_go() -> None:
    file = Source().file()
    ended: list[str] = []
    file.closes.append(lambda: ended.append("closed"))
    file.read(5)
    file.close()
    file.close()
    assert ended == ["closed"]
    for action in (file.tell, lambda: file.read(1), lambda: file.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            action()


def test_a_place_before_the_first_byte_is_refused() -> None:
    file = Source().file()
    with pytest.raises(ValueError, match="before the first"):
        file.seek(-1)
    with pytest.raises(ValueError, match="whence"):
        file.seek(0, 7)
    assert file.tell() == 0


# -- a block, from a server that breaks off -------------------------------------------------------


class Conversation:
    """Holds the conversation that brings bytes 100 to 200, step by step."""

    def __init__(self, outage: float = 60.0) -> None:
        driver: Any = SimpleNamespace(talk=lambda talk: talk, url="http://h.test", outage_seconds=outage)
        call: Callable[..., Any] = ObjectCalls[Blocking](driver).block
        self.talk = call("https://h.test/a b", DIGEST, 100, 200)
        self.step = next(self.talk)

    def opened(self, first: int, **more: str) -> None:
        """Answer the request that is expected to be for the bytes from `first` on."""
        assert isinstance(self.step, Open)
        assert self.step.request.headers == {"Range": f"bytes={first}-199", "If-Range": f'"{DIGEST}"'}
        assert self.step.request.path == "cache/content/https%3A%2F%2Fh.test%2Fa%20b"
        usual = {"etag": f'"{DIGEST}"', "content-range": f"bytes {first}-199/1000"}
        self.step = self.talk.send(usual | {name.replace("_", "-"): value for name, value in more.items()})

    def read(self, data: bytes) -> None:
        assert isinstance(self.step, Read)
        self.step = self.talk.send(data)

    def breaks(self) -> None:
        self.step = self.talk.throw(ServerUnreachableError("gone"))

    def paused(self) -> None:
        assert isinstance(self.step, Pause)
        self.step = self.talk.send(None)

    def end(self) -> bytes:
        with pytest.raises(StopIteration) as ended:
            self.read(b"")
        found: bytes = ended.value.value
        return found


def test_a_block_that_breaks_off_is_gone_on_with_where_it_ended() -> None:
    talk = Conversation()
    talk.opened(100)
    talk.read(b"x" * 30)
    talk.breaks()
    talk.paused()
    talk.breaks()  # not there yet
    talk.paused()
    talk.opened(130)
    talk.read(b"y" * 70)
    assert talk.end() == b"x" * 30 + b"y" * 70


def test_a_server_that_stays_away_is_an_error_in_the_end() -> None:
    talk = Conversation(outage=0.0)
    talk.breaks()
    talk.paused()
    with pytest.raises(ServerUnreachableError):
        talk.breaks()


@pytest.mark.parametrize(
    "answer",
    [
        {"etag": '"other"'},
        {"content_range": ""},
        {"content_range": "bytes 0-199/1000"},
        {"etag": f'W/"{DIGEST}"'},
    ],
)
def test_another_file_than_the_one_that_was_opened_is_an_error(answer: dict[str, str]) -> None:
    with pytest.raises(ConflictError, match="changed while it was read"):
        Conversation().opened(100, **answer)


def test_a_block_of_another_length_is_an_error() -> None:
    talk = Conversation()
    talk.opened(100)
    talk.read(b"x" * 30)
    with pytest.raises(RemoteError, match="30 bytes"):
        talk.read(b"")
