from __future__ import annotations

import threading

import pytest

from stager.errors import CancelledError, ConnectionFailedError
from stager.model.urls import parse_url
from stager.transfer.decisions import Request
from stager.transfer.fields import Headers
from stager.transfer.limited import LimitedTransport
from stager.transfer.transport import Lane, Pulse, Response
from stager.transfer.wire import End
from tests.support.fetching import PATIENCE

A, B = (Request(parse_url(f"http://{name}.test/x"), {}) for name in "ab")


class Answer:
    def __init__(self) -> None:
        self.status = 200
        self.headers: Headers = {}
        self.end: End | None = End.COMPLETE
        self.trailer: Headers = {}
        self.closed = 0

    def readinto(self, buffer: memoryview) -> int | None:
        return len(buffer)

    def take(self) -> bytes | None:
        return b"whole"

    def close(self) -> None:
        self.closed += 1


class Fake:
    def __init__(self) -> None:
        self.opened: list[Answer] = []
        self.refusing = False
        self.withdrawn: list[str] = []
        self.closed = False

    def open(self, request: Request, pulse: Pulse) -> Response:
        pulse(0.0)
        if self.refusing:
            raise ConnectionFailedError(f"no {request.url.host}")
        self.opened.append(Answer())
        return self.opened[-1]

    def announce(self, request: Request) -> bool:
        return request.url == A.url and not self.refusing

    def spare(self, origin: str) -> Lane | None:
        self.left = 0

        def leave() -> None:
            self.left += 1

        return Lane(self.open, leave) if origin == A.url.origin else None

    def withdraw(self, url: str) -> None:
        self.withdrawn.append(url)

    def close(self) -> None:
        self.closed = True


def quiet(_seconds: float) -> None:
    pass


def giving_up(_seconds: float) -> None:
    raise CancelledError("given up")


def test_a_full_origin_lets_nobody_in_until_an_answer_is_closed() -> None:
    limited = LimitedTransport(Fake(), 1)
    first = limited.open(A, quiet)
    inside = threading.Event()

    def enter() -> None:
        limited.open(A, quiet).close()
        inside.set()

    thread = threading.Thread(target=enter)
    thread.start()
    limited.open(B, quiet).close()
    assert not inside.wait(0.05)
    first.close()
    assert inside.wait(PATIENCE)
    thread.join()


def test_closing_an_answer_twice_frees_one_seat() -> None:
    limited = LimitedTransport(Fake(), 1)
    first = limited.open(A, quiet)
    first.close()
    first.close()
    limited.open(A, quiet)
    with pytest.raises(CancelledError):
        limited.open(A, giving_up)


def test_a_connection_that_fails_frees_its_seat() -> None:
    fake = Fake()
    limited = LimitedTransport(fake, 1)
    fake.refusing = True
    with pytest.raises(ConnectionFailedError):
        limited.open(A, quiet)
    fake.refusing = False
    limited.open(A, quiet)


def test_an_answer_is_passed_on_as_it_is_and_closing_closes_all() -> None:
    fake = Fake()
    limited = LimitedTransport(fake, 1)
    answer = limited.open(A, quiet)
    assert (answer.status, answer.headers, answer.end) == (200, {}, End.COMPLETE)
    assert answer.readinto(memoryview(bytearray(5))) == 5
    answer.close()
    limited.close()
    assert fake.opened[0].closed == 1
    assert fake.closed


def test_what_was_announced_has_its_seat_when_it_is_opened() -> None:
    limited = LimitedTransport(Fake(), 1)
    limited.open(A, quiet).close()
    assert limited.announce(A)
    assert not limited.announce(A)
    limited.open(A, quiet).close()
    assert limited.announce(A)


def test_a_seat_is_free_again_after_an_announcement_was_refused_or_withdrawn() -> None:
    fake = Fake()
    limited = LimitedTransport(fake, 1)
    assert not limited.announce(A)  # an origin that was never asked has no idle connection
    limited.open(A, quiet).close()
    fake.refusing = True
    assert not limited.announce(A)
    fake.refusing = False
    assert limited.announce(A)
    limited.withdraw(A.url.text)
    limited.withdraw(A.url.text)
    assert fake.withdrawn == [A.url.text]
    assert limited.announce(A)


def test_a_spare_lane_takes_a_free_seat_and_gives_it_back_when_it_is_left() -> None:
    fake = Fake()
    limited = LimitedTransport(fake, 2)
    first = limited.open(A, quiet)
    lane = limited.spare(A.url.origin)
    assert lane is not None
    lane.open(A, quiet).close()
    lane.open(A, quiet).close()
    assert limited.spare(A.url.origin) is None, "both seats are taken"
    lane.leave()
    assert fake.left == 1
    assert limited.spare(A.url.origin) is not None
    first.close()


def test_there_is_no_spare_lane_to_an_origin_that_was_not_asked_or_takes_no_more() -> None:
    limited = LimitedTransport(Fake(), 2)
    assert limited.spare(A.url.origin) is None
    limited.open(B, quiet)
    assert limited.spare(B.url.origin) is None
