"""The server's one ear at Redis, and who listens to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

from stager.errors import SignalsError
from stager.mapper.ports import Deliver
from stager.model.events import JobSignal
from stager.model.fetches import Progress, Signal
from stager.model.records import Position
from stager.model.views import WorkerView
from stager.settings import Settings
from stager.wiring import check_farm_installed

if TYPE_CHECKING:
    from stager.farm.celery import CeleryFarm
    from stager.mapper.dispatch.celery import CeleryDispatcher
    from stager.signals.roster import WorkerCard

log = logging.getLogger(__name__)


class Hearing:
    """The stream of signals; `farm` and `place` hear of each before it is delivered. See `SignalSource`.

    Args:
        settings: where Redis is.
        made: closes it.
        leads: the database says that this server is the only one.

    Raises:
        ServerBusyError: another server uses the Redis.
        SettingsError: what it needs is not installed, or the address makes no sense.
    """

    def __init__(self, settings: Settings, made: ExitStack, *, leads: bool = False) -> None:
        check_farm_installed()

        from stager.signals.stream import StreamReader
        from stager.wiring.names import node_name
        from stager.wiring.redis import redis_address

        self.farm: CeleryFarm | None = None
        self.place: CeleryDispatcher | None = None
        self._reader = StreamReader(
            redis_address(settings),
            server=f"{node_name(settings)}:{settings.state_dir}",
            on_progress=self._progress,
            on_emptied=self._emptied,
            on_jobs=self._jobs,
        )
        made.callback(self._reader.close)
        try:
            self._reader.claim(by_force=leads)
        except SignalsError as error:  # it may come up later than we do
            log.error("%s; trying again until it can", error)  # noqa: TRY400 - it says all there is

    def start(self, position: Position | None, deliver: Deliver) -> None:
        """See `SignalSource.start`."""

        def hear(signals: Sequence[Signal | JobSignal], at: Position) -> None:
            if self.farm is not None:
                signals = self.farm.heard(signals)
            if self.place is not None:
                self.place.heard(signals)
            deliver(signals, at)

        self._reader.start(position, hear)

    @property
    def is_away(self) -> bool:
        """Whether Redis can't be used now."""
        return self._reader.is_away

    def recorded(self, position: Position) -> None:
        """See `SignalSource.recorded`."""
        self._reader.recorded(position)

    def repairs(self) -> dict[str, int]:
        """What farm and place had to take away from workers, or to send again, since the start."""
        counts = {
            "fetch-of-silent-worker": self.farm.lost_workers if self.farm is not None else 0,
            "fetch-task-lost": self.farm.lost_tasks if self.farm is not None else 0,
            "job-of-silent-node": self.place.lost_nodes if self.place is not None else 0,
            "job-task-lost": self.place.lost_tasks if self.place is not None else 0,
        }
        return {kind: count for kind, count in counts.items() if count}

    def _progress(self, reports: Sequence[Progress], held: Sequence[tuple[str, int]]) -> None:
        if self.farm is not None:
            self.farm.alive(reports, held)

    def _jobs(self, jobs: Sequence[tuple[str, int]]) -> None:
        if self.place is not None:
            self.place.alive(jobs)

    def _emptied(self) -> None:
        for listener in (self.farm, self.place):
            if listener is not None:
                listener.emptied()


def build_hearing(settings: Settings, made: ExitStack, *, leads: bool = False) -> Hearing | None:
    """The ear, if there is anything to hear: closed with `made`. For `leads` see `Hearing`."""
    return Hearing(settings, made, leads=leads) if _has_workers(settings) else None


def build_roster(settings: Settings, made: ExitStack) -> Callable[[], list[WorkerView]]:
    """Says which workers there are; its connection is closed with `made`."""
    if not _has_workers(settings):
        return list

    from stager.signals.roster import Roster
    from stager.wiring.redis import redis_address

    roster = Roster(redis_address(settings))
    made.callback(roster.close)

    def workers() -> list[WorkerView]:
        return [_view(card) for card in roster.workers()]

    return workers


def _view(card: WorkerCard) -> WorkerView:
    told = asdict(card)
    del told["said_at"]
    return WorkerView(**told | {"queues": list(card.queues)})


def _has_workers(settings: Settings) -> bool:
    return "celery" in {settings.farm, settings.dispatch}
