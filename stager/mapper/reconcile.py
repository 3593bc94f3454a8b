"""Looks, at start and now and then, for what fell between the parts; each kind has one repair and a counter.

Nothing here should ever find anything: every part keeps its word, kills and lost messages included. It is
there for the faults that nobody has thought of, and its counters say that there was one.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable

from stager.errors import StagerError
from stager.mapper.loop import Mapper
from stager.mapper.machine import Machine
from stager.mapper.ports import FetchPlace, JobPlace
from stager.mapper.repairs import Suspect, find, mend

log = logging.getLogger(__name__)

AT_ONCE = 2000
"""Jobs looked at in one go, so that nobody waits for it longer than for anything else."""
NAMES_AT_ONCE = 5000
"""Files of the cache looked at in one go."""
ANSWER_SECONDS = 60.0


class Reconciler:
    """One thread, which sleeps in between.

    Args:
        mapper: whose machine is looked at.
        farm: where its fetches run.
        place: where its jobs run.
        upkeep: looks at so many files of the cache; how many of each kind it put right.
        every_seconds: between two looks.
    """

    def __init__(
        self,
        mapper: Mapper,
        farm: FetchPlace,
        place: JobPlace,
        upkeep: Callable[[int], Counter[str]],
        *,
        every_seconds: float,
    ) -> None:
        self._mapper = mapper
        self._farm = farm
        self._place = place
        self._upkeep = upkeep
        self._every = every_seconds
        self._suspects: set[Suspect] = set()
        self._counts: Counter[str] = Counter()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconcile", daemon=True)

    @property
    def counts(self) -> dict[str, int]:
        """Repairs since the start, by kind."""
        return dict(self._counts)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> Counter[str]:
        """Look once; what was put right. What is found for the first time is put right if it is still so next time."""
        found: set[Suspect] = set()
        jobs, fetches = self._mapper.inspect(lambda m: (list(m.jobs), list(m.fetches))).result(ANSWER_SECONDS)
        for start in range(0, max(len(jobs), len(fetches)), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            found |= self._mapper.inspect(self._finder(jobs[some], fetches[some])).result(ANSWER_SECONDS)
        twice, self._suspects = found & self._suspects, found
        done: Counter[str] = Counter()
        if twice:
            done += self._mapper.repair(lambda m, now: self._mend(m, twice, now)).result(ANSWER_SECONDS)
            self._suspects -= twice
        done += self._upkeep(NAMES_AT_ONCE)
        self._counts += done
        for kind, count in done.items():
            log.warning("put right: %s (%d)", kind, count)
        return done

    def _finder(self, jobs: list[str], fetches: list[str]) -> Callable[[Machine], set[Suspect]]:
        return lambda machine: find(machine, jobs, fetches, self._farm.holds, self._place.holds)

    def _mend(self, machine: Machine, suspects: set[Suspect], now: float) -> Counter[str]:
        jobs, fetches = [name for _, name in suspects], [name for _, name in suspects]
        still = suspects & find(machine, jobs, fetches, self._farm.holds, self._place.holds)
        return mend(machine, still, now)

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except (StagerError, TimeoutError) as error:  # the database or the cache is away; others say so
                log.info("could not look for what is left over: %s", error)
            except Exception:
                log.exception("internal fault while looking for what is left over")
            if self._closed.wait(self._every):
                return
