"""Long work that a page starts and does not wait for: it goes on in a thread, and the page shows how far it is."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stager.errors import NotFoundError, StagerError

log = logging.getLogger(__name__)

MOST = 30
"""Kept, with what they came to; the oldest that are over are forgotten."""
END_SECONDS = 10.0
"""At the end of the server they have so long to come to a good place."""


@dataclass(slots=True)
class Errand:
    """A piece of work.

    Attributes:
        name: random; names it in an address.
        what: it is, in a word.
        asked: what was asked for, by field of the form.
        progress: how far it is, as it told last; None: it has told nothing yet.
        result: what it came to; None: nothing yet.
        error: why it failed.
    """

    name: str
    what: str
    asked: Mapping[str, str]
    progress: Any = None
    result: Any = None
    error: StagerError | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def runs(self) -> bool:
        """Whether it is not over."""
        return not self.over.is_set()


class Errands:
    """All of one server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[str, Errand] = {}

    def begin(self, what: str, asked: Mapping[str, str], work: Generator[Any, None, Any]) -> Errand:
        """Let it run. `work` yields how far it is now and then and returns what it came to; closed, it ends well."""
        errand = Errand(secrets.token_urlsafe(9), what, dict(asked))
        with self._lock:
            over = [name for name, one in self._all.items() if not one.runs]
            for name in over[: max(0, len(self._all) - MOST + 1)]:
                del self._all[name]
            self._all[errand.name] = errand
        threading.Thread(target=_run, args=(errand, work), name=f"errand-{what}", daemon=True).start()
        return errand

    def find(self, name: str) -> Errand:
        """The one with that name.

        Raises:
            NotFoundError: there is none (any more).
        """
        with self._lock:
            found = self._all.get(name)
        if found is None:
            raise NotFoundError(
                "that is not known any more",
                cause="the server was started again since",
                remedy="begin it anew",
            )
        return found

    def close(self) -> None:
        """End all that run."""
        with self._lock:
            running = [one for one in self._all.values() if one.runs]
        for one in running:
            one.stop.set()
        for one in running:
            one.over.wait(END_SECONDS)


def _run(errand: Errand, work: Generator[Any, None, Any]) -> None:
    try:
        while not errand.stop.is_set():
            errand.progress = next(work)
        errand.error = StagerError(
            "it was interrupted", cause="the server was stopped", remedy="begin it anew"
        )
    except StopIteration as end:
        errand.result = end.value
    except StagerError as error:
        errand.error = error
    except Exception:
        log.exception("internal fault in an errand (%s)", errand.what)
        errand.error = StagerError("internal error of the server", remedy="see its log")
    finally:
        work.close()
        errand.over.set()
