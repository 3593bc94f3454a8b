"""When a try is given up though nothing broke: cancelled, no answer, or no end."""

from __future__ import annotations

from collections.abc import Callable

from stager.clock import Clock
from stager.model.urls import parse_url
from stager.transfer.classify import cancelled_error, fetch_too_long
from stager.transfer.exchange import no_connection
from stager.transfer.options import TransferOptions


class GivingUp:
    """Watches one try.

    Args:
        url: what is fetched; canonical.
        cancelled: whether somebody wants the try to end.
        options: how long is too long.
        clock: the time.
    """

    def __init__(
        self, url: str, cancelled: Callable[[], bool], options: TransferOptions, clock: Clock
    ) -> None:
        self._url = url
        self._cancelled = cancelled
        self._options = options
        self._clock = clock
        self._silent = 0.0
        self._until: float | None = None

    def answered(self) -> None:
        """The head of an answer is here."""
        self._silent = 0.0

    def pulse(self, seconds: float) -> None:
        """So much more time has passed without an answer.

        Raises:
            CancelledError: see `check_cancelled`.
            ConnectionFailedError: that is too long.
        """
        self.check_cancelled()
        self._silent += seconds
        if self._silent >= self._options.read_timeout_seconds:
            raise no_connection(parse_url(self._url), f"no answer in {self._silent:.0f} s")

    def check_time(self, in_place: int) -> None:
        """Called now and then from the first answer on; `in_place` is what came so far, bytes.

        Waiting for a seat at the origin does not count, since that is no fault of this file.

        Raises:
            FetchTooLongError: it has taken too long.
        """
        now, longest = self._clock.monotonic(), self._options.max_fetch_seconds
        if self._until is None:
            self._until = now + longest
        elif now > self._until:
            raise fetch_too_long(parse_url(self._url), longest, in_place)

    def check_cancelled(self) -> None:
        """Raise `CancelledError` if somebody wants that."""
        if self._cancelled():
            raise cancelled_error(parse_url(self._url))
