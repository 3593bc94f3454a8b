"""What the fetcher needs from a driver that reads origins: the port."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from stager.transfer.decisions import Request
from stager.transfer.fields import Headers
from stager.transfer.wire import End

Pulse = Callable[[float], None]
"""Called with the seconds that passed without news, several times per second; raises to give up."""


class Answer(Protocol):
    """An answer whose head is read and whose body is not, as a try sees it."""

    status: int
    headers: Headers
    end: End | None
    """How the body ended; None while it has not."""

    @property
    def trailer(self) -> Headers:
        """Fields that came behind the body, once it has ended; as `headers`."""
        ...

    def take(self) -> bytes | None:
        """The whole body, if its length is known and all of it came with the head; then it has ended.

        Returns:
            None otherwise, or if some of it was read: it is to be read as it comes.
        """
        ...

    def close(self) -> None:
        """Give the connection back, for another request when the body was read to its end."""
        ...


class Response(Answer, Protocol):
    """The same as a driver sees it that waits for every byte."""

    def readinto(self, buffer: memoryview) -> int | None:
        """Read raw bytes of the body.

        Returns:
            how many, 0 at the end (see `end`), None when nothing came for a fraction of a second.

        Raises:
            FetchError: the body's framing is broken. A connection that breaks is an `end`.
        """
        ...


class Lane(NamedTuple):
    """A way for one stream more to an origin: `open` as of `Transport`, without waiting for a seat; `leave` at the end."""

    open: Callable[[Request, Pulse], Response]
    leave: Callable[[], None]


class Transport(Protocol):
    """Sends requests."""

    def open(self, request: Request, pulse: Pulse) -> Response:
        """Send `request` and read the head of the answer.

        Raises:
            FetchError: no connection, no answer, or no HTTP.
        """
        ...

    def announce(self, request: Request) -> bool:
        """Send `request` already, for the `open` that follows, if there is an idle connection.

        Returns:
            whether it was sent; if not, nothing is lost. If so, `open` or `withdraw` must follow.
        """
        ...

    def spare(self, origin: str) -> Lane | None:
        """A lane to that origin if it may have one more connection now."""
        ...

    def withdraw(self, url: str) -> None:
        """Forget the announced request for `url`, if it was not opened."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
