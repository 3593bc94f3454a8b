"""Figures that are read when somebody asks for them: how things stand, rather than what happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import TimeoutError as LateError

from stager import metrics as m
from stager.clock import Clock
from stager.errors import StagerError
from stager.mapper.loop import Mapper
from stager.mapper.machine import Machine
from stager.metrics import Metrics, Values
from stager.model.eviction import Purged
from stager.service.cache_eviction import EvictionService
from stager.service.cache_watch import OK
from stager.service.counted_store import CountedStore
from stager.service.site import SiteService
from stager.state.catalogue import Catalogue

ANSWER_SECONDS = 2.0
"""The mapper answers within milliseconds; who collects figures does not wait longer for it."""
QUEUES = ("fetch", "work")

Found = Iterable[tuple[m.Metric, Values]]


class Figures:
    """What there is to read of a server.

    Args:
        metrics: where figures are; they ask here.
        version: of this program.
        site: where things run.
        store: counts jobs and fetches.
        mapper: is asked how origins cope, and how quickly it answers.
        eviction: knows the room that there is.
        catalogue: knows what is in the cache.
        clock: the time.
    """

    def __init__(
        self,
        metrics: Metrics,
        version: str,
        *,
        site: SiteService,
        store: CountedStore,
        mapper: Mapper,
        eviction: EvictionService,
        catalogue: Catalogue,
        clock: Clock,
    ) -> None:
        self._metrics = metrics
        self._version = version
        self._site = site
        self._store = store
        self._mapper = mapper
        self._eviction = eviction
        self._catalogue = catalogue
        self._clock = clock
        eviction.evicted.append(self._evicted)
        for source, read in {
            "queues": self._queues,
            "mapper": self._asked,
            "site": self._how_it_is,
            "workers": self._workers,
            "catalogue": self._content,
            "cache": self._room,
        }.items():
            metrics.reads(source, read)

    def _queues(self) -> Found:
        yield from self._store.read()
        since = self._store.oldest_waiting()
        yield m.OLDEST_WAITING, {(): 0.0 if since is None else max(0.0, self._clock.time() - since)}

    def _asked(self) -> Found:
        began = self._clock.monotonic()
        try:
            conditions = self._mapper.inspect(_conditions).result(ANSWER_SECONDS)
        except LateError:
            raise StagerError(f"the mapper did not answer within {ANSWER_SECONDS:.0f} s") from None
        yield m.MAPPER_ANSWER, {(): self._clock.monotonic() - began}
        yield m.ORIGINS, {(name,): conditions[name] for name in ("known", "limited", "paused")}

    def _how_it_is(self) -> Found:
        yield m.INFO, {(self._version, self._site.farm, self._site.dispatch): 1.0}
        yield m.REPAIRS, {(kind,): count for kind, count in self._site.repairs().items()}
        state = self._site.cache_state()
        yield m.CACHE_USABLE, {(): float(state is None or state.state == OK)}

    def _workers(self) -> Found:
        found = Counter(queue for worker in self._site.workers() for queue in worker.queues)
        yield m.WORKERS, {(queue,): found[queue] for queue in QUEUES}

    def _content(self) -> Found:
        files, size = self._catalogue.size()
        yield m.CACHE_FILES, {(): files}
        yield m.CACHE_BYTES, {(): size}

    def _room(self) -> Found:
        limits = self._eviction.limits()
        yield m.CACHE_FREE, {(): limits.free}
        yield m.CACHE_SIZE, {(): limits.total}
        yield m.ROOM_WANTED, {(): limits.waiting_bytes}

    def _evicted(self, purged: Purged) -> None:
        for tally in purged.gone:
            self._metrics.add(m.EVICTED_FILES, tally.files, tally.reason)
            self._metrics.add(m.EVICTED_BYTES, tally.bytes, tally.reason)


def _conditions(machine: Machine) -> Counter[str]:
    found: Counter[str] = Counter()
    for origin in machine.flights.admission.origins():
        found["known"] += 1
        found["limited"] += origin.limit < origin.maximum
        found["paused"] += origin.paused_until is not None
    return found
