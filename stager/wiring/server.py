"""A job server, put together as the settings say."""

from __future__ import annotations

import random
from contextlib import ExitStack
from functools import cached_property
from typing import Self

from stager import __version__
from stager.cache.upkeep import Upkeep
from stager.clock import SystemClock
from stager.errors import SignalsError
from stager.mapper.admission import Admission
from stager.mapper.grants import Grants
from stager.mapper.loop import Mapper
from stager.mapper.machine import Machine
from stager.mapper.reconcile import Reconciler
from stager.metrics import Metrics
from stager.model.catalogue import DAY
from stager.model.credentials import CredentialRow
from stager.model.eviction import Purged
from stager.model.fetches import FetchState
from stager.model.records import Changes
from stager.model.views import OriginView
from stager.service.accounts import AccountService
from stager.service.audit import AuditLog
from stager.service.counted_store import CountedStore
from stager.service.events import EventService
from stager.service.figures import Figures
from stager.service.flow import Flow
from stager.service.grants import GrantService
from stager.service.ids import IdMaker
from stager.service.jobs import ANSWER_SECONDS, JobService
from stager.service.readiness import Readiness, cache_look, mapper_look
from stager.service.repeats import Repeats
from stager.service.site import SiteService
from stager.service.stage import StageService
from stager.service.stage_pins import StagePins
from stager.service.watch import Watch
from stager.settings import Settings
from stager.state.lock import StateLock
from stager.state.store import Store
from stager.wiring import retry_policy
from stager.wiring.accounts import build_account_care
from stager.wiring.cache import build_cache_site, build_feed
from stager.wiring.cache_care import CacheCare
from stager.wiring.credential_care import build_credential_service, build_credential_watch
from stager.wiring.eviction import build_keeper
from stager.wiring.farms import build_farm, fetch_seats, files_in_a_seat
from stager.wiring.hearing import build_hearing, build_roster
from stager.wiring.known_cache import open_known_cache
from stager.wiring.leading import open_store
from stager.wiring.places import build_job_place, build_run_services, job_slots


class JobServer:
    """A job server in this process: its threads run from `start` (or ``with``) to `close`.

    Args:
        settings: where everything is and how much of it may run at once.
        waits_for_credentials: whether jobs wait for one that is missing; otherwise they fail.
        metrics: where figures are kept; None: nowhere.

    Raises:
        ServerBusyError: another server uses the state directory, the database or the Redis.
        CacheError, StateError: the cache or the database can't be used.
        SettingsError: settings that don't go together.
    """

    def __init__(
        self, settings: Settings, *, waits_for_credentials: bool = True, metrics: Metrics | None = None
    ) -> None:
        clock = SystemClock()
        ids = IdMaker(clock)
        with ExitStack() as made:
            made.callback(StateLock(settings.state_dir).close)
            self.cache = open_known_cache(settings)
            self._store = store = open_store(settings, made)
            self.cache_site = build_cache_site(settings, self.cache, clock)
            made.callback(self.cache_site.close)

            def new_machine() -> Machine:
                admission = Admission(
                    slots=fetch_seats(settings),
                    per_origin=settings.origin_connections,
                    ageing_seconds=settings.ageing_seconds,
                    batch=files_in_a_seat(settings),
                    longest_pause_seconds=settings.retry_longest_seconds,
                )
                machine = Machine(
                    admission,
                    retry_policy(settings),
                    job_slots=job_slots(settings),
                    fetch_ids=ids,
                    grants=Grants(settings.grant_seconds, store.grants()),
                    job_bytes=settings.max_job_bytes,
                )
                machine.flights.can_lock = waits_for_credentials
                return machine

            watch = Watch()
            self._feed = build_feed(settings, self.cache_site, store, clock)
            made.callback(self._feed.close)
            self.cache_site.files.reserved = self._reserved

            def tell(changes: Changes) -> None:
                care = self._credential_watch
                for one in (self.flow, watch, self._feed, self._stage_pins, self._keeper, care, self.events):
                    one.tell(changes)

            counted = None if metrics is None else CountedStore(store, metrics)
            self._mapper = Mapper(
                new_machine,
                store if counted is None else counted,
                clock=clock,
                jitter=random.random,
                on_change=tell,
                make_room=lambda order: self._keeper.make_room(order),  # noqa: PLW0108 - there is none yet
            )
            self.flow = Flow(self._mapper, clock)
            made.callback(self.flow.close)
            self._keeper = build_keeper(settings, self.cache_site, self._mapper, clock)
            self._stage_pins = StagePins(self._mapper, self.cache_site.pins, store.stages, clock)
            made.callback(self._stage_pins.close)
            self.grants = GrantService(self._mapper, clock)
            self._account_care = build_account_care(settings, store, clock, ids, made)
            self._credential_watch = build_credential_watch(settings, self._mapper, self.grants, made)
            self.credentials = build_credential_service(settings, self._credential_changed)
            self._hearing = build_hearing(settings, made, leads=store.leads)
            self._job_place = build_job_place(
                settings, self.cache, self._mapper.job_signal, self._hearing, made
            )
            self._farm = build_farm(settings, self.cache, self._mapper.fetch_signal, self._hearing, made)
            made.callback(self._mapper.stop)
            made.callback(self._keeper.close)
            made.callback(self._credential_watch.close)
            self.reconciler = Reconciler(
                self._mapper,
                self._farm,
                self._job_place,
                Upkeep(
                    self.cache.root, live_jobs=self._live_jobs, job_seconds=settings.result_days * DAY
                ).step,
                every_seconds=settings.reconcile_seconds,
            )
            made.callback(self.reconciler.close)
            self.care = CacheCare(settings, self.cache_site, self._mapper, clock)
            made.callback(self.care.close)
            self.jobs = JobService(
                self.cache,
                store,
                self._mapper,
                watch,
                clock=clock,
                ids=ids,
                result_days=settings.result_days,
                max_inputs=settings.max_job_inputs,
            )
            self.events = self._build_events(store)
            self.stages = StageService(self.cache, store, self._mapper, watch, clock=clock, ids=ids)
            self.runs, self.uploads = build_run_services(settings, self.cache, store, self._job_place)
            self.site = SiteService(
                settings.farm,
                settings.dispatch,
                settings.flower_url,
                build_roster(settings, made),
                self._origins,
                self._repairs,
                lambda: self.care.watch.state,
            )
            self.jobs.trouble = self.care.watch.trouble
            if metrics is not None and counted is not None:
                Figures(
                    metrics,
                    __version__,
                    site=self.site,
                    store=counted,
                    mapper=self._mapper,
                    eviction=self.cache_site.eviction,
                    catalogue=self.cache_site.catalogue,
                    clock=clock,
                )
            self._made = made.pop_all()

    @property
    def accounts(self) -> AccountService:
        """Users and their tokens."""
        return self._account_care.accounts

    @property
    def audit(self) -> AuditLog:
        """Who did what."""
        return self._account_care.audit

    @cached_property
    def repeats(self) -> Repeats:
        """Knows calls that come twice."""
        return Repeats(self._store.answers, SystemClock())

    @cached_property
    def readiness(self) -> Readiness:
        """Asks the parts of this server."""
        looks = {
            "mapper": mapper_look(self._mapper),
            "state": self._answering,
            "cache": cache_look(self.site),
        }
        hearing = self._hearing
        if hearing is not None:
            looks["redis"] = lambda: SignalsError.code if hearing.is_away else ""
        return Readiness(looks)

    def _answering(self) -> str:
        self._store.ping()
        return ""

    def _credential_changed(self, credential: CredentialRow, is_there: bool) -> None:
        self._credential_watch.kick()
        kind = "credential.given" if is_there else "credential.removed"
        self.events.record(kind, credential.scope.owner, host=credential.scope.host)

    def _build_events(self, store: Store) -> EventService:
        self.cache_site.eviction.evicted.append(self._evicted)
        return EventService(store.chronicle, self._mapper, self.jobs)

    def _evicted(self, purged: Purged) -> None:
        if purged.files:
            self.events.record("cache.evicted", files=purged.files, bytes=purged.bytes)

    def _repairs(self) -> dict[str, int]:
        told = self._hearing.repairs() if self._hearing is not None else {}
        return self.reconciler.counts | told

    def _live_jobs(self) -> frozenset[str]:
        """The jobs that are not over."""
        found: frozenset[str] = self._mapper.inspect(lambda machine: frozenset(machine.jobs)).result(
            ANSWER_SECONDS
        )
        return found

    def _reserved(self) -> int:
        """Bytes that fetches which run have still to write, as far as they know."""
        running = self._mapper.inspect(
            lambda machine: [f.id for f in machine.fetches.values() if f.state is FetchState.RUNNING]
        ).result(ANSWER_SECONDS)
        told = [self._mapper.progress(fetch) for fetch in running]
        return sum(max(0, one.total - one.received) for one in told if one is not None and one.total)

    def _origins(self) -> list[OriginView]:
        found: list[OriginView] = self._mapper.inspect(
            lambda machine: list(machine.flights.admission.origins())
        ).result(ANSWER_SECONDS)
        return found

    def start(self) -> None:
        """Go on with what is not over, and take commands."""
        self.cache.sweep()
        self._store.stages.sweep(unfinished=True)
        self._stage_pins.start()
        self._mapper.start(self._farm, self._job_place, self._hearing)
        self.reconciler.start()
        self.care.start()
        self._feed.start()
        self._keeper.start()
        self._credential_watch.start()
        self._account_care.start()
        self.flow.start()

    def close(self) -> None:
        """Stop. Transfers are broken off and resumed by the next start; jobs go on running meanwhile."""
        self._made.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
