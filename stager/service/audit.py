"""The audit log: noted beside the requests, written a moment later by a thread."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from stager.clock import Clock
from stager.model.audit import AuditEntry
from stager.model.catalogue import DAY
from stager.model.redaction import redacted_text
from stager.state.audit import AuditStore

log = logging.getLogger(__name__)

MOST_WAITING = 100_000
"""Entries that wait to be written; the database has stood still for long when there are more."""
TOGETHER = 1000
"""Entries written in one transaction."""
LONGEST_SUBJECT = 2000
"""Characters of what a request was about."""
_LINES = 20
"""Refusals that are told in the log, per writing: a flood of them is one more line."""
_DENIED = frozenset({401, 403, 429})


class AuditLog:
    """What was done, by whom.

    Args:
        store: where it is kept.
        clock: the time.
        ids: makes the id of an entry.
        days: how long entries are kept; 0: for ever.
    """

    def __init__(self, store: AuditStore, clock: Clock, ids: Iterator[str], days: float) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._days = days
        self._waiting: deque[AuditEntry] = deque()
        self._lost = 0
        self._swept_at = 0.0

    def note(self, entry: AuditEntry) -> None:
        """Have it written within about a second; takes a microsecond. Called by the event loop."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(entry)
        else:
            self._lost += 1

    def entries(
        self,
        *,
        limit: int = 100,
        before: str | None = None,
        who: str | None = None,
        since: float | None = None,
    ) -> list[AuditEntry]:
        """Entries (of that user; from then on), newest first."""
        return self._store.entries(limit=limit, before=before, who=who, since=since)

    def write(self) -> None:
        """Write what waits, and remove what is too old. To be called by one thread, every second or so.

        Raises:
            StateError: the database refused; what waits goes on waiting.
        """
        while self._waiting:
            some = [self._waiting[n] for n in range(min(len(self._waiting), TOGETHER))]
            shown = [replace(one, id=next(self._ids), subject=_shown(one.subject)) for one in some]
            self._store.add(shown)
            for _ in some:
                self._waiting.popleft()
            _tell(shown)
        if self._lost:
            lost, self._lost = self._lost, 0
            log.error("%d entries of the audit log are lost: the database stood still", lost)
        now = self._clock.time()
        if self._days and now - self._swept_at >= DAY:
            self._swept_at = now
            self._store.sweep(now - self._days * DAY)


def _shown(subject: str) -> str:
    return redacted_text(subject)[:LONGEST_SUBJECT]


def _tell(entries: list[AuditEntry]) -> None:
    refused = [entry for entry in entries if entry.status in _DENIED]
    for one in refused[:_LINES]:
        about = {"action": "refused", "who": one.who, "status": one.status, "request_id": one.request}
        shown = one.subject.encode("unicode_escape").decode()  # a line stays a line
        log.warning("refused: %s by %s from %s", shown, one.who or "nobody", one.address, extra=about)
    if len(refused) > _LINES:
        log.warning("refused: %d more", len(refused) - _LINES)
