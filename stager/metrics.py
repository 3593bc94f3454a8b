"""Figures for Prometheus: every metric with its unit in one list, and where they are kept.

A name ends in its unit (``_seconds``, ``_bytes``) and, for what only grows, in ``_total``. Labels have few values,
known beforehand: never a URL, a host, a user or a job.

Some are counted where something happens (`Metrics.add`, `Metrics.observe`); the others are read when somebody asks
(`Metrics.reads`), so that they cost nothing otherwise.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """How a figure moves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One of them.

    Attributes:
        name: as Prometheus knows it; of a histogram without ``_bucket``, ``_sum`` and ``_count``.
        kind: how it moves.
        meaning: in a sentence, with the unit.
        labels: what it is told apart by.
        buckets: upper ends of a histogram's classes, seconds.
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_WAITS = (0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 43_200.0, 259_200.0)
_QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)

INFO = Metric("stager_info", _G, "Always 1; which version runs, and how it is set.", ("version", "farm", "dispatch"))  # fmt: skip

JOBS = Metric("stager_jobs", _G, "Jobs that are not over, by state.", ("state",))
JOBS_SUBMITTED = Metric("stager_jobs_submitted_total", _C, "Jobs taken in.")
JOBS_DISPATCHED = Metric("stager_jobs_dispatched_total", _C, "Jobs handed over.")
JOBS_ENDED = Metric("stager_jobs_ended_total", _C, "Jobs that are over, by how they ended.", ("state",))
OLDEST_WAITING = Metric("stager_oldest_waiting_job_age_seconds", _G, "Since when the job that has waited longest for its inputs and preconditions is here, seconds; 0: none waits.")  # fmt: skip
JOB_READY = Metric("stager_job_ready_seconds", _H, "From the submission of a job until its last precondition holds, seconds.", buckets=_WAITS)  # fmt: skip
JOB_DISPATCH = Metric("stager_job_dispatch_seconds", _H, "From then until it is handed over, seconds.", buckets=(*_QUICK[:-1], *_WAITS[3:]))  # fmt: skip

FETCHES = Metric("stager_fetches", _G, "Fetches that are not over, by state.", ("state",))
FETCHES_READY = Metric("stager_fetches_ready_total", _C, "Files that were there when they were needed, by where the bytes came from (origin, cache).", ("source",))  # fmt: skip
STAGED_BYTES = Metric("stager_staged_bytes_total", _C, "The sizes of those files, bytes.", ("source",))
RECEIVED_BYTES = Metric(
    "stager_received_bytes_total", _C, "What origins sent, in tries that failed too, bytes."
)
FETCH = Metric("stager_fetch_seconds", _H, "From the first try of a fetch until its file is there, seconds; only of those that the origin sent.", buckets=_WAITS)  # fmt: skip
FETCH_ERRORS = Metric(
    "stager_fetch_errors_total", _C, "Tries that failed, by the code of the error.", ("error",)
)
FETCHES_FAILED = Metric("stager_fetches_failed_total", _C, "Fetches that were given up, by the code of the error.", ("error",))  # fmt: skip
ORIGINS = Metric("stager_origins", _G, "Origins that have work, and those of them that are given fewer connections than allowed, or none for now.", ("condition",))  # fmt: skip

CACHE_USABLE = Metric("stager_cache_usable", _G, "1 if the cache can be used, else 0.")
CACHE_FILES = Metric("stager_cache_files", _G, "Files in the cache.")
CACHE_BYTES = Metric("stager_cache_bytes", _G, "What they take, bytes.")
CACHE_FREE = Metric("stager_cache_free_bytes", _G, "What is free on the cache's file system, bytes.")
CACHE_SIZE = Metric("stager_cache_filesystem_bytes", _G, "What can be in use on it, bytes.")
ROOM_WANTED = Metric(
    "stager_room_wanted_bytes", _G, "What fetches wait for because the cache is full, bytes."
)
EVICTED_FILES = Metric("stager_evicted_files_total", _C, "Files removed, by reason.", ("reason",))
EVICTED_BYTES = Metric("stager_evicted_bytes_total", _C, "Their sizes, bytes.", ("reason",))

WORKERS = Metric("stager_workers", _G, "Worker processes of a farm that gave a sign of life of late, by queue.", ("queue",))  # fmt: skip
REPAIRS = Metric("stager_repairs_total", _C, "What was found astray and put right, by kind; there should be none.", ("kind",))  # fmt: skip
STATE_WRITE = Metric(
    "stager_state_write_seconds", _H, "A transaction of the mapper, seconds.", buckets=_QUICK
)
STATE_ERRORS = Metric("stager_state_errors_total", _C, "Transactions that the database refused.")
MAPPER_ANSWER = Metric("stager_mapper_answer_seconds", _G, "How long the job mapper just took to answer, seconds; missing: it did not.")  # fmt: skip
LOOP_LAG = Metric("stager_event_loop_lag_seconds", _G, "How long the event loop of the API just took to come round, seconds.")  # fmt: skip
HTTP_REQUESTS = Metric("stager_http_requests_total", _C, "Answers of the API, by method, route and status.", ("method", "route", "status"))  # fmt: skip
HTTP = Metric("stager_http_request_seconds", _H, "Until an answer began, seconds; without requests that ask to wait.", ("method", "route"), _QUICK)  # fmt: skip
UNREAD = Metric(
    "stager_metrics_unread_total", _C, "Times that figures could not be read, by source.", ("source",)
)

METRICS: tuple[Metric, ...] = (
    INFO, JOBS, JOBS_SUBMITTED, JOBS_DISPATCHED, JOBS_ENDED, OLDEST_WAITING, JOB_READY, JOB_DISPATCH,
    FETCHES, FETCHES_READY, STAGED_BYTES, RECEIVED_BYTES, FETCH, FETCH_ERRORS, FETCHES_FAILED, ORIGINS,
    CACHE_USABLE, CACHE_FILES, CACHE_BYTES, CACHE_FREE, CACHE_SIZE, ROOM_WANTED, EVICTED_FILES, EVICTED_BYTES,
    WORKERS, REPAIRS, STATE_WRITE, STATE_ERRORS, MAPPER_ANSWER, LOOP_LAG, HTTP_REQUESTS, HTTP, UNREAD,
)  # fmt: skip
"""All of them; those of the process itself (``process_...``) come from the library."""
MOST_SERIES = 500
"""Of one metric: were a label's values not as few as they should be, the rest is left out instead of filling memory."""

Values = Mapping[tuple[str, ...], float]
"""Values of the labels → figure."""
Read = Callable[[], Iterable[tuple[Metric, Values]]]


class Metrics:
    """The figures of one process. All methods may be called from any thread."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, of which no use is made
        self._registry = CollectorRegistry()
        self._counters = {
            m.name: self._counter(m) for m in METRICS if m.kind is Kind.COUNTER and m is not REPAIRS
        }
        self._histograms = {m.name: self._histogram(m) for m in METRICS if m.kind is Kind.HISTOGRAM}
        self._known: dict[str, set[tuple[str, ...]]] = {}
        ProcessCollector(registry=self._registry)

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.meaning, metric.labels, registry=self._registry)

    def _histogram(self, metric: Metric) -> Histogram:
        return Histogram(
            metric.name, metric.meaning, metric.labels, buckets=metric.buckets, registry=self._registry
        )

    def add(self, metric: Metric, amount: float = 1.0, *labels: str) -> None:
        """Something happened, once or `amount` times."""
        counter = self._counters[metric.name]
        if not labels:
            counter.inc(amount)
        elif self._is_within(metric, labels):
            counter.labels(*labels).inc(amount)

    def observe(self, metric: Metric, seconds: float, *labels: str) -> None:
        """Something took so long."""
        histogram = self._histograms[metric.name]
        if not labels:
            histogram.observe(seconds)
        elif self._is_within(metric, labels):
            histogram.labels(*labels).observe(seconds)

    def reads(self, source: str, read: Read) -> None:
        """Ask `read` for these figures whenever somebody wants to know.

        What it raises leaves its figures out, and is counted. It is not asked while it has not answered.
        """
        self._registry.register(_Reading(source, read, self))

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All figures, and the media type: OpenMetrics for who accepts it, else Prometheus' own."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type

    def _is_within(self, metric: Metric, labels: tuple[str, ...]) -> bool:
        known = self._known.setdefault(metric.name, set())
        if labels not in known:
            if len(known) >= MOST_SERIES:
                return False
            known.add(labels)
        return True


class _Reading(Collector):
    """What is read when somebody asks."""

    def __init__(self, source: str, read: Read, metrics: Metrics) -> None:
        self._source = source
        self._read = read
        self._metrics = metrics
        self._lock = threading.Lock()

    def describe(self) -> Sequence[Family]:
        """See `Collector`: nothing, or it would be read when it is registered."""
        return ()

    def collect(self) -> Iterator[Family]:
        """See `Collector`."""
        if not self._lock.acquire(blocking=False):  # it stands still: a mount that does not answer, say
            self._metrics.add(UNREAD, 1, self._source)
            return
        try:
            found = list(self._read())
        except Exception as error:  # noqa: BLE001 - the other figures are still worth having
            log.debug("figures of %s can't be read: %s", self._source, error)
            self._metrics.add(UNREAD, 1, self._source)
            return
        finally:
            self._lock.release()
        for metric, values in found:
            kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
            family = kind(metric.name, metric.meaning, labels=metric.labels)
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family
