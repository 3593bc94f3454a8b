"""A fetch that does what the test says, when the test says so."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from stager.errors import CancelledError, StagerError
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult

PATIENCE = 60.0
"""Seconds after which a test that waits for something is a failure."""


def result(order: FetchOrder) -> FetchResult:
    digest = order.request.sha256 or sha256(order.request.url.encode()).hexdigest()
    return FetchResult(order.request.url, digest, 7, Path("/objects") / digest, cached=False)


class ScriptedFetch:
    """Answers with the scripted errors of a URL first, then with success; can be held before it answers."""

    def __init__(self, errors: dict[str, list[BaseException]] | None = None) -> None:
        self._errors: defaultdict[str, deque[BaseException]] = defaultdict(deque)
        for url, script in (errors or {}).items():
            self._errors[FetchRequest(url).url].extend(script)
        self._held = False
        self._changed = threading.Condition()
        self._let_go: set[str] = set()
        self.orders: list[FetchOrder] = []
        self.running: list[str] = []
        self.most_at_once = 0
        self.cancelled: list[str] = []

    def __call__(
        self,
        order: FetchOrder,
        *,
        progress: Callable[[int, int | None, int], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> FetchResult:
        url = order.request.url
        with self._changed:
            self.orders.append(order)
            self.running.append(url)
            self.most_at_once = max(self.most_at_once, len(self.running))
            self._changed.notify_all()
        try:
            if progress is not None:
                progress(3, 7, 0)
            with self._changed:
                while self._held and url not in self._let_go and not cancelled():
                    self._changed.wait(0.01)  # as the real one: it looks now and then
                if cancelled():
                    self.cancelled.append(url)
                    raise CancelledError("cancelled", progressed=True)
            script = self._errors[url]
            if script:
                raise script.popleft()
            return result(order)
        finally:
            with self._changed:
                self.running.remove(url)
                self._changed.notify_all()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, no try answers unless it is let go by name."""
        self._held = True
        try:
            yield
        finally:
            with self._changed:
                self._held = False
                self._changed.notify_all()

    def let_go(self, url: str) -> None:
        with self._changed:
            self._let_go.add(url)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[ScriptedFetch], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), PATIENCE), "it did not come to that"

    def urls(self) -> list[str]:
        return [order.request.url for order in self.orders]


class ManualTimer:
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, Callable[[], None]]] = []
        self._added = threading.Condition()

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        with self._added:
            self.calls.append((when, call))
            self._added.notify_all()

    def close(self) -> None:
        self.calls.clear()

    def fire(self) -> float:
        """Wait for a call to be asked for and make it; its time is returned."""
        with self._added:
            assert self._added.wait_for(lambda: self.calls, PATIENCE), "nothing was to be called later"
            self.calls.sort(key=lambda c: c[0])
            when, call = self.calls.pop(0)
        call()
        return when


class TransientError(StagerError):
    code = "test-transient"
    transient = True
