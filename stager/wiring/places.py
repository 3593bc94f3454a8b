"""Where jobs run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from stager.cache.store import FileCache
from stager.clock import SystemClock
from stager.mapper.dispatch.batch import BatchSystem
from stager.mapper.dispatch.command import CommandDispatcher
from stager.mapper.dispatch.local import LocalDispatcher
from stager.mapper.dispatch.posting import Webhook
from stager.mapper.dispatch.signing import read_secret
from stager.mapper.dispatch.webhook import WebhookDispatcher
from stager.mapper.ports import JobPlace
from stager.model.events import JobSignal
from stager.service.runs import RunService
from stager.service.uploads import UploadService
from stager.settings import Settings
from stager.state.store import Store

if TYPE_CHECKING:
    from stager.mapper.dispatch.celery import CeleryDispatcher
    from stager.wiring.hearing import Hearing


LOST_SECONDS = 60.0
"""A compute node may be silent for so long, at least: a job can't be begun a second time as a fetch can."""


def job_slots(settings: Settings) -> int | None:
    """How many jobs may be handed over at once; None: as many as there are."""
    return settings.job_slots or (settings.cores if settings.dispatch == "local" else None)


def build_job_place(
    settings: Settings,
    cache: FileCache,
    emit: Callable[[JobSignal], None],
    hearing: Hearing | None,
    made: ExitStack,
) -> JobPlace:
    """The place that setting `dispatch` names; closed with `made`. One of Celery workers is heard by `hearing`.

    Raises:
        SettingsError: a setting of that place is missing or makes no sense.
    """
    runs = settings.state_dir / "runs"
    place: LocalDispatcher | CommandDispatcher | WebhookDispatcher | CeleryDispatcher
    match settings.dispatch:
        case "celery":
            assert hearing is not None
            place = _celery(settings, cache, emit, hearing)
        case "command":
            system = BatchSystem(
                submit=settings.dispatch_submit,
                status=settings.dispatch_status,
                cancel=settings.dispatch_cancel,
            )
            place = CommandDispatcher(
                cache,
                runs,
                emit,
                system=system,
                poll_seconds=settings.dispatch_poll_seconds,
                grace_seconds=settings.job_grace_seconds,
            )
        case "webhook":
            secret = read_secret(settings.webhook_secret_file)
            webhook = Webhook(settings.webhook_url, secret, ca_bundle=settings.ca_bundle)
            place = WebhookDispatcher(cache, runs, emit, webhook=webhook)
        case _:
            place = LocalDispatcher(cache, runs, emit, grace_seconds=settings.job_grace_seconds)
    made.callback(place.close)
    return place


def _celery(
    settings: Settings, cache: FileCache, emit: Callable[[JobSignal], None], hearing: Hearing
) -> CeleryDispatcher:
    from stager.farm.tasks import TaskSender
    from stager.mapper.dispatch.celery import CeleryDispatcher
    from stager.mapper.dispatch.nearest import Nearest
    from stager.signals.holdings import Holdings
    from stager.signals.jobs import JobBook
    from stager.signals.roster import Roster
    from stager.wiring.redis import redis_address

    address = redis_address(settings)
    hearing.place = CeleryDispatcher(
        cache,
        JobBook(address),
        TaskSender(address),
        emit,
        clock=SystemClock(),
        lost_seconds=max(settings.lease_seconds, LOST_SECONDS),
        nearest=Nearest(Roster(address), Holdings(address)),
        locality_wait_seconds=settings.locality_wait_seconds,
    )
    return hearing.place


def build_run_services(
    settings: Settings, cache: FileCache, store: Store, place: JobPlace
) -> tuple[RunService | None, UploadService | None]:
    """Takes reports on runs, if jobs are handed to somebody who reports; and what nodes of our own bring back."""
    return (
        RunService(store, place) if isinstance(place, WebhookDispatcher) else None,
        UploadService(cache, store) if settings.dispatch == "celery" else None,
    )
