"""Calls that may come twice, because the answer was lost: the second one is answered like the first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from stager.clock import Clock
from stager.errors import KeyReusedError, UnderWayError
from stager.model.answered import DAY_SECONDS, Answered, Call
from stager.state.answers import AnswerStore

_FORGET_EVERY = 1000
"""Answers that are too old are removed once in so many calls."""


class UnansweredError(TimeoutError):
    """Who asked has waited for long enough; what was asked for may still be carried out.

    Args:
        pending: done when it is known whether it was.
    """

    def __init__(self, pending: Future[Any]) -> None:
        super().__init__()
        self.pending = pending


class Repeats:
    """The answers to calls with a key, for a day.

    Args:
        store: where they are kept.
        clock: the time.
    """

    def __init__(self, store: AnswerStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: set[str] = set()
        self._calls = 0

    @contextmanager
    def taken_up(self, call: Call) -> Iterator[str | None]:
        """Inside, no other call with that key is taken up; gives what it was answered with, if it was.

        After an `UnansweredError` none is until it is known what became of this one.

        Raises:
            UnderWayError: one with that key is being answered just now.
            KeyReusedError: something else was asked for with that key.
        """
        with self._lock:
            if call.digest in self._under_way:
                raise UnderWayError(
                    "a call with this Idempotency-Key is being answered", remedy="ask again in a moment"
                )
            self._under_way.add(call.digest)
            self._calls += 1
            is_due = self._calls % _FORGET_EVERY == 0
        pending: Future[Any] | None = None
        try:
            yield self._known(call, is_due=is_due)
        except UnansweredError as error:
            pending = error.pending
            raise
        finally:
            if pending is None:
                self._done_with(call)
            else:
                pending.add_done_callback(lambda _: self._done_with(call))

    def answered(self, call: Call, answer: str) -> Answered:
        """That call with its answer, to be written."""
        return Answered(call, answer, self._clock.time())

    def keep(self, answered: Answered) -> None:
        """Write an answer after what it answers.

        Raises:
            StateError: it is not written.
        """
        self._store.keep(answered)

    def _done_with(self, call: Call) -> None:
        with self._lock:
            self._under_way.discard(call.digest)

    def _known(self, call: Call, *, is_due: bool) -> str | None:
        since = self._clock.time() - DAY_SECONDS
        found = self._store.find(call.digest)
        if is_due or (found is not None and found.at < since):
            self._store.forget(since)
        if found is None or found.at < since:
            return None
        if found.call.asked != call.asked:
            raise KeyReusedError(
                "this Idempotency-Key was sent with another request",
                cause="a key is for one request and its repetitions",
                remedy="make a new key for each request",
            )
        return found.answer
