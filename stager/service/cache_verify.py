"""Verification of what is in the cache: re-hashed, repaired, cleared up; gone on with after an interruption."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from stager.cache.entries import EntryFiles
from stager.cache.objects import find_object
from stager.cache.pace import Pace
from stager.cache.quarantine import Quarantine
from stager.cache.scrub import Condition, DiskTrust, ObjectName, Scrubbed, Scrubber, objects_in_order
from stager.cache.store import FileCache
from stager.cache.trash import Trash
from stager.clock import Clock
from stager.errors import ConflictError
from stager.model.catalogue import CachedFile, Kind
from stager.model.verify import Finding, Problem, VerifyProgress, VerifyReport, VerifyRequest
from stager.service.verify_orphans import clear_orphans
from stager.service.verify_state import VerifyFile
from stager.state.catalogue import Catalogue

log = logging.getLogger(__name__)

KEEP_SECONDS = 5.0
"""Between two writings of how far it is."""
SOME = 1000
"""Objects verified at a time by the server on its own."""
GIVE_WAY_SECONDS = 30.0
"""Until it has given way, at most."""
TELL_SECONDS = 0.2
"""Between two tellings of it."""
RATE_SECONDS = 5.0
"""Over which the rate is told."""
_PROBLEMS = {
    Condition.DAMAGED: Problem.DAMAGED,
    Condition.UNREADABLE: Problem.UNREADABLE,
    Condition.DENIED: Problem.DENIED,
}


def lost_to_nobody(_sha256: str) -> int:
    """Without a server no job waits."""
    return 0


class VerifyService:
    """Verifies one cache; one verification at a time.

    Args:
        cache: whose objects.
        catalogue: is told what was verified, and knows under which keys an object is.
        clock: the time.
        state_dir: keeps how far it is.
        lose: called with an object that was taken away; how many fetches bring it anew.
    """

    def __init__(
        self,
        cache: FileCache,
        catalogue: Catalogue,
        clock: Clock,
        state_dir: Path,
        lose: Callable[[str], int] = lost_to_nobody,
    ) -> None:
        self.lose = lose
        self._cache = cache
        self._catalogue = catalogue
        self._clock = clock
        self._file = VerifyFile(state_dir, str(cache.root))
        entries = EntryFiles(cache.tree)
        self._entries = entries
        self._quarantine = Quarantine(cache.tree, Trash(cache.tree, clock))
        self._trust = DiskTrust()
        self._running = threading.Lock()
        self._scrubber: Scrubber | None = None
        self._stop = threading.Event()
        self._asked = 0  # who waits for the server's own to end
        self._gives_way = False  # what runs now is the server's own, which can go on later
        self._report: VerifyReport | None = None

    def last_verification(self) -> VerifyReport | None:
        """The verification that runs, or the last one; None: there was none."""
        return self._report or self._file.read()

    @property
    def is_running(self) -> bool:
        """Whether one runs now."""
        return self._running.locked()

    def stop(self) -> None:
        """Let the one that runs end soon; the next one goes on from there."""
        self._stop.set()
        if self._scrubber is not None:
            self._scrubber.stop()

    def verify(self, request: VerifyRequest | None = None) -> Generator[VerifyProgress, None, VerifyReport]:
        """Verify; goes on with the last one if that was interrupted.

        Closing the generator interrupts it, at once.

        Raises:
            ConflictError: one runs already.
            CacheError: the cache has gone, or its disk fails; what was done is kept.
        """
        request = request or VerifyRequest()
        with self._alone():
            self._trust = DiskTrust()  # whoever asks for it has seen to the disk
            report = self._begin(request)
            began, before = self._clock.monotonic(), report.seconds
            try:
                yield from self._objects(report, request)
                if not self._stop.is_set() and request.sample >= 1:
                    yield from self._orphans(report, request)
                if not self._stop.is_set():
                    report.ended_at = self._clock.time()
            finally:
                report.seconds = before + self._clock.monotonic() - began
                self._file.write(report)
            return report

    def verify_some(self, request: VerifyRequest, before: float, after: str = "") -> str:
        """Verify the next objects, by the catalogue, that were neither stored nor verified since `before`.

        It gives way to whoever calls `verify`.

        Returns:
            The digest from which on to go on; empty: there are no more.

        Raises:
            ConflictError: a verification runs.
            CacheError: the cache has gone, or its disk fails.
            StateError: the catalogue can't be read.
        """
        with self._alone(gives_way=True):
            self._cache.check()
            rows = self._catalogue.unverified(before, after=after, limit=SOME)
            report = VerifyReport(str(self._cache.root), self._clock.time(), after=after)
            names = [ObjectName(row.object, row.restricted) for row in rows]
            due = self._without_new(names, before)
            for done in self._new_scrubber(request).run(due):
                self._take_in(report, done, request)
                self._catalogue.drop(
                    row.digest
                    for each in done
                    if each.condition is Condition.GONE
                    for row in self._rows(each)
                )
            if self._stop.is_set():
                return report.after
            return rows[-1].object if rows else ""

    # -- inside ----------------------------------------------------------------------------------

    def _without_new(self, names: list[ObjectName], before: float) -> list[ObjectName]:
        """Those that are older than that: the digest of the others was computed when they were written."""
        new: dict[str, float] = {}
        for name in names:
            found = find_object(self._cache.tree, name.sha256, restricted=name.restricted)
            if found is not None and found[1].st_mtime >= before:
                new[name.sha256] = found[1].st_mtime
        if new:
            self._catalogue.verified(new, min(new.values()))
        return [name for name in names if name.sha256 not in new]

    def _rows(self, each: Scrubbed) -> list[CachedFile]:
        return self._catalogue.of_object(each.name.sha256)

    @contextmanager
    def _alone(self, *, gives_way: bool = False) -> Iterator[None]:
        if not self._acquire(gives_way=gives_way):
            raise ConflictError(
                "a verification runs already",
                remedy="wait for it; `stager cache verify --status` shows how far it is",
            )
        try:
            self._gives_way = gives_way
            self._stop.clear()
            if gives_way and self._asked:
                self._stop.set()
            yield
        finally:
            self._scrubber = None
            self._gives_way = False
            self._running.release()

    def _acquire(self, *, gives_way: bool) -> bool:
        if gives_way:
            return not self._asked and self._running.acquire(blocking=False)
        self._asked += 1  # from here on the server's own begins no more
        try:
            if self._running.acquire(timeout=TELL_SECONDS):
                return True
            if not self._gives_way:
                return False
            self.stop()
            return self._running.acquire(timeout=GIVE_WAY_SECONDS)
        finally:
            self._asked -= 1

    def _begin(self, request: VerifyRequest) -> VerifyReport:
        self._cache.check()
        last = None if request.anew else self._file.read()
        if last is not None and last.ended_at is None and last.sample == request.sample:
            last.resumed += 1
            self._report = last
        else:
            seed = random.getrandbits(32)
            self._report = VerifyReport(
                str(self._cache.root), self._clock.time(), sample=request.sample, seed=seed
            )
        self._file.write(self._report)
        return self._report

    def _new_scrubber(self, request: VerifyRequest) -> Scrubber:
        threads = request.threads or len(os.sched_getaffinity(0))
        scrubber = self._scrubber = Scrubber(
            self._cache.tree, Pace(request.bytes_per_second), threads=threads, trust=self._trust
        )
        if self._stop.is_set():
            scrubber.stop()
        return scrubber

    def _objects(self, report: VerifyReport, request: VerifyRequest) -> Iterator[VerifyProgress]:
        scrubber = self._new_scrubber(request)
        names = (
            name for name in objects_in_order(self._cache.tree, report.after) if report.is_drawn(name.sha256)
        )
        rates: deque[tuple[float, int]] = deque([(self._clock.monotonic(), report.bytes)])
        before = report.bytes
        kept = told = rates[0][0]
        running = scrubber.run(names)
        try:
            for done in running:
                self._take_in(report, done, request)
                now = self._clock.monotonic()
                if now - kept >= KEEP_SECONDS:
                    self._file.write(report)
                    kept = now
                if now - told >= TELL_SECONDS:
                    told = now
                    rates.append((now, before + scrubber.bytes_read))
                    while now - rates[0][0] > RATE_SECONDS and len(rates) > 2:  # noqa: PLR2004 - a span has two ends
                        rates.popleft()
                    yield _progress(report, rates)
        finally:
            running.close()
        yield _progress(report, rates)

    def _orphans(self, report: VerifyReport, request: VerifyRequest) -> Iterator[VerifyProgress]:
        told = self._clock.monotonic()
        for sha256 in self._quarantine.held() if request.repair else ():
            self._drop_rows(sha256)  # of entries that went just before a kill
        for finding in clear_orphans(
            self._cache.tree, self._entries, self._quarantine, repair=request.repair
        ):
            if finding is not None:
                self._note(report, finding)
                if finding.repaired and finding.object:
                    self._drop_rows(finding.object)
            if self._stop.is_set():
                return
            if self._clock.monotonic() - told >= TELL_SECONDS:
                told = self._clock.monotonic()
                yield replace(_progress(report, deque()), share=1.0, total=report.bytes, doing="orphans")

    def _take_in(self, report: VerifyReport, done: list[Scrubbed], request: VerifyRequest) -> None:
        sound = []
        for each in done:
            report.objects += each.condition is not Condition.GONE
            report.bytes += each.size
            report.after = each.name.sha256
            if each.condition is Condition.SOUND:
                sound.append(each.name.sha256)
            elif each.condition is not Condition.GONE:
                self._note(report, self._judge(each, repair=request.repair))
        report.sound += len(sound)
        if sound:
            self._catalogue.verified(sound, self._clock.time())

    def _note(self, report: VerifyReport, finding: Finding) -> None:
        report.add(finding)
        log.warning("%s: %s %s", finding.problem, finding.path, finding.cause)

    def _judge(self, bad: Scrubbed, *, repair: bool) -> Finding:
        problem = _PROBLEMS[bad.condition]
        rows = self._rows(bad)
        readers = [] if problem is Problem.DENIED else self._quarantine.readers(bad)
        repaired, again = False, 0
        held = [reader for reader in readers if reader.by_path]
        cause = bad.cause
        if repair and held:
            cause += f", and job {held[0].job} has no other file"
        elif repair and problem is Problem.UNREADABLE and not self._can_be_fetched(rows):
            cause += (
                ", and it stays: perhaps the disk gives it another time, and nothing could fetch it again"
            )
        elif repair and problem is not Problem.DENIED:
            repaired = self._quarantine.take(bad)
            again = self._forget(rows, bad.name.sha256) if repaired else 0
        return Finding(
            problem,
            bad.path,
            bad.name.sha256,
            cause,
            keys=tuple(row.shown for row in rows),
            readers=tuple(f"{reader.job} ({reader.name})" for reader in readers),
            repaired=repaired,
            fetched_again=again,
        )

    def _can_be_fetched(self, rows: list[CachedFile]) -> bool:
        """Whether all that have these bytes are known, and there is a URL for each."""
        urls = all(row.kind is Kind.INPUT and row.host for row in rows)
        return bool(rows) and urls and self._catalogue.walked_at is not None

    def _forget(self, rows: list[CachedFile], sha256: str) -> int:
        """The object is gone: so are its entries, the rows, and what waited for it waits again."""
        self._quarantine.forget(row.digest for row in rows)
        self._drop_rows(sha256)
        return self.lose(sha256)

    def _drop_rows(self, sha256: str) -> None:
        """The rows of an object that is gone go with the entries."""
        rows = self._catalogue.of_object(sha256)
        gone = [row.digest for row in rows if self._entries.current(row.digest) is None]
        if gone and find_object(self._cache.tree, sha256) is None:
            self._cache.check()
            self._catalogue.drop(gone)


def _progress(report: VerifyReport, rates: deque[tuple[float, int]]) -> VerifyProgress:
    """How far it is, by what was read at some moments of late."""
    read = max(rates[-1][1], report.bytes) if rates else report.bytes
    span = rates[-1][0] - rates[0][0] if rates else 0.0
    rate = (rates[-1][1] - rates[0][1]) / span if span > 0 else 0.0
    total = int(report.bytes / report.share) if report.share > 0 else None
    return VerifyProgress(report.objects, read, total, report.share, report.found, rate)
