"""Whether this server can do its work now, and which part of it can't."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError

from stager.errors import NotReadyError, StagerError
from stager.mapper.loop import Mapper
from stager.service.cache_watch import OK
from stager.service.site import SiteService

ANSWER_SECONDS = 2.0
"""A part that needs longer does not answer: it is asked by what decides within seconds where requests go."""
SILENT = "does not answer"

Look = Callable[[], str]
"""What is wrong with a part; empty: nothing."""


class Readiness:
    """Asks the parts, each for a limited time and in a thread of its own: a mount may never answer.

    Args:
        looks: by the name of the part.
    """

    def __init__(self, looks: Mapping[str, Look]) -> None:
        self._looks = dict(looks)
        self._asked: dict[str, Future[str]] = {}
        self._lock = threading.Lock()

    def parts(self) -> dict[str, str]:
        """What is wrong with each; empty: nothing."""
        asked = {name: self._ask(name) for name in self._looks}
        return {name: self._answer(future) for name, future in asked.items()}

    def answers(self, name: str) -> bool:
        """Whether a part answers at all, whatever it says."""
        return self._answer(self._ask(name)) != SILENT

    def check(self) -> dict[str, str]:
        """The names of all parts, each with ``ok``.

        Raises:
            NotReadyError: not all are.
        """
        found = self.parts()
        wrong = {name: why for name, why in found.items() if why}
        if wrong:
            raise NotReadyError(
                "the server is not ready",
                cause="; ".join(f"{name}: {why}" for name, why in wrong.items()),
                remedy="see its log, or `stager doctor` on its host",
                parts={name: why or OK for name, why in found.items()},
            )
        return dict.fromkeys(found, OK)

    def _ask(self, name: str) -> Future[str]:
        """The answer of a part; one that has not come yet is waited for again, not asked for twice."""
        with self._lock:
            asked = self._asked.get(name)
            if asked is not None and not asked.done():
                return asked
            asked = self._asked[name] = Future()
        threading.Thread(
            target=_settle, args=(asked, self._looks[name]), name=f"ready-{name}", daemon=True
        ).start()
        return asked

    @staticmethod
    def _answer(future: Future[str]) -> str:
        try:
            return future.result(ANSWER_SECONDS)
        except LateError:
            return SILENT


def _settle(future: Future[str], look: Look) -> None:
    try:
        future.set_result(look())
    except StagerError as error:
        future.set_result(error.code)
    except Exception as error:  # noqa: BLE001 - whatever it is: the part does not work
        future.set_result(type(error).__name__)


def mapper_look(mapper: Mapper) -> Look:
    """Whether the loop takes up what it is asked; that it refuses during an outage of the database is an answer."""

    def look() -> str:
        mapper.inspect(lambda _: None).result()
        return ""

    return look


def cache_look(site: SiteService) -> Look:
    """Whether the cache can be used, as of the last look at it."""

    def look() -> str:
        state = site.cache_state()
        return "" if state is None or state.state == OK else state.state

    return look
