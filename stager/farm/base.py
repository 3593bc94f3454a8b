"""The port: what every place that runs fetches can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from stager.errors import CancelledError, FetchError
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult, Signal
from stager.model.urls import parse_url

Emit = Callable[[Signal], None]
"""Told of every signal, from whatever thread it arises in; it must return soon."""


class Fetch(Protocol):
    """One try of one fetch.

    Raises:
        StagerError: the try failed; ``details["progressed"]`` is True when the next one can build
            on bytes that this one brought; `CancelledError` soon after `cancelled()` turned True.
    """

    def __call__(
        self,
        order: FetchOrder,
        *,
        progress: Callable[[int, int | None, int], None] | None = None,
        cancelled: Callable[[], bool] = ...,
    ) -> FetchResult:
        """Bring the bytes; `progress` hears bytes in place, total or None, and where it went on from."""
        ...


class FetchAhead(Protocol):
    """The same for one who knows what is next: `received` is called when the bytes are here, before they are stored."""

    def __call__(
        self,
        order: FetchOrder,
        *,
        progress: Callable[[int, int | None, int], None] | None = None,
        cancelled: Callable[[], bool] = ...,
        received: Callable[[], None] = ...,
    ) -> FetchResult:
        """See `Fetch`."""
        ...


class Fetcher(Protocol):
    """What makes tries, and holds connections meanwhile."""

    @property
    def fetch(self) -> FetchAhead:
        """One try."""
        ...

    def announce(self, order: FetchOrder) -> None:
        """`order` will be fetched next: ask its origin already, if a connection is idle. Takes no time."""
        ...

    def close(self) -> None:
        """Let the connections go."""
        ...


class Farm(Protocol):
    """Runs tries of fetches; decides nothing: whoever gives the orders knows order, limits and retries."""

    outlives: bool
    """Whether tries go on when this process is gone."""

    def start(self, order: FetchOrder, then: Sequence[FetchOrder] = ()) -> None:
        """Take orders and return at once; one that is already here (same fetch, same generation) is ignored.

        Those in `then` follow `order` one after another, so that together they take one connection.
        For each order taken, `Started`, any number of `Progress` and exactly one `Ready` or
        `Failed` are emitted.
        """
        ...

    def adopt(self, order: FetchOrder) -> None:
        """Answer for an order that a process before this one gave; only where tries outlive it."""
        ...

    def holds(self, fetch: str, generation: int) -> bool:
        """Whether this try is here, and will end."""
        ...

    def cancel(self, fetch: str, generation: int) -> None:
        """Break the try off; it ends with `Failed`. One that is not here is ignored."""
        ...

    def close(self, *, wait: bool = True) -> None:
        """End. Tries that don't outlive this process are broken off, keeping what is resumable.

        With `wait`, return when the last of these has ended.
        """
        ...


def cancelled_error(request: FetchRequest) -> CancelledError:
    """What a fetch ends with that was cancelled before its try began."""
    url = parse_url(request.url).redacted
    return CancelledError(f"fetch of {url} was cancelled", url=url)


def unexpected_error(request: FetchRequest, error: BaseException) -> FetchError:
    """What a fetch ends with that met a fault of this program."""
    url = parse_url(request.url).redacted
    return FetchError(
        f"fetch of {url} broke",
        cause=f"{type(error).__name__}: {error}",
        remedy="this is a fault of stager, not of the origin",
        url=url,
    )
