"""What jobs left: whether it is still there, until when, and if not, when it went and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import BinaryIO

from stager.cache.entries import EntryFiles
from stager.cache.gone import Gone, note_gone, read_gone
from stager.cache.pinned import pinned
from stager.cache.store import FileCache
from stager.clock import Clock
from stager.errors import ConflictError, NotFoundError, ResultGoneError
from stager.mapper.dispatch.results import result_key
from stager.model.catalogue import DAY
from stager.model.eviction import Why
from stager.model.keys import key_digest
from stager.model.views import ResultView

REMOVED = "it was removed by command"
EVICTED = {
    Why.CHOSEN: "it was purged by command",
    Why.UNUSED: "it was purged by command, for nobody had used it for long",
    Why.EXPIRED: "its time was up (`result_days`)",
    Why.QUOTA: "its owner had more than their quota",
    Why.UNNAMED: "room was needed",
    Why.ROOM: "room was needed, after its promised time",
}
"""What is said of a result that was evicted."""


class Results:
    """Results in one cache.

    Args:
        cache: where they are.
        clock: the time.
        days: after so many days a result goes; 0: never for its age.
    """

    def __init__(self, cache: FileCache, clock: Clock, days: float) -> None:
        self._cache = cache
        self._clock = clock
        self._seconds = days * DAY

    def look(self, job: str, results: Iterable[ResultView]) -> list[ResultView]:
        """The same, each with what became of it."""
        return [self._look(job, result) for result in results]

    def _look(self, job: str, result: ResultView) -> ResultView:
        key = result_key(job, result.name)
        entry = EntryFiles(self._cache.tree).current(key_digest(key))  # looking is no use
        if entry is not None:
            promised = entry.keep_until
            expires = max(entry.stored_at + self._seconds, promised or 0.0) if self._seconds else None
            return replace(result, kept=True, promised_until=promised, expires_at=expires)
        gone = read_gone(self._cache.tree, key)
        return replace(
            result, kept=False, gone_at=gone.at if gone else None, gone_because=gone.why if gone else ""
        )

    def open(self, job: str, result: ResultView) -> BinaryIO:
        """The bytes, open for reading.

        Raises:
            ResultGoneError: they are there no more.
        """
        key = result_key(job, result.name)
        with suppress(NotFoundError):
            return self._cache.open(key)
        gone = read_gone(self._cache.tree, key)
        when = f" on {datetime.fromtimestamp(gone.at, UTC):%Y-%m-%d %H:%M} UTC" if gone else ""
        raise ResultGoneError(
            f"result {result.name!r} of job {job} went{when}",
            cause=gone.why if gone else "it is not in the cache any more, and why is not known",
            remedy="submit the job again; `stager cache pin` keeps a result for longer",
            job=job,
            name=result.name,
            gone_at=gone.at if gone else None,
        )

    def remove(self, job: str, results: Sequence[ResultView]) -> list[ResultView]:
        """Remove these, all or, if one of them is pinned, none; those that were there.

        Raises:
            ConflictError: one is pinned.
            CacheError: some may still be there.
        """
        there = [result for result in self.look(job, results) if result.kept]
        for result in there:
            for pin in pinned(self._cache.tree, result.sha256):
                raise ConflictError(
                    f"result {result.name!r} of job {job} is pinned by {pin.holder}",
                    cause=pin.reason or "no reason is given",
                    remedy=f"`stager cache unpin {pin.id}` first",
                )
        for result in there:
            key = result_key(job, result.name)
            self._cache.remove(key)
            note_gone(self._cache.tree, key, Gone(self._clock.time(), REMOVED))
        return there
