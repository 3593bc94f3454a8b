"""What the loop needs from the rest: a place to write, a place for fetches, a place for jobs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from stager.model.events import DispatchOrder, JobSignal
from stager.model.fetches import FetchOrder, Signal
from stager.model.jobs import JobSpec
from stager.model.records import Changes, FetchRecord, JobRecord, NameRecord, Position
from stager.model.stages import StagedFile


class StateStore(Protocol):
    """Where the truth is kept."""

    def load(self) -> tuple[list[JobRecord], list[FetchRecord], list[NameRecord]]:
        """What is not over."""
        ...

    def staged(self) -> Iterable[StagedFile]:
        """Files of stage requests that are not over."""
        ...

    def save(self, changes: Changes, specs: Mapping[str, JobSpec]) -> None:
        """Write a batch, all or nothing, durable on return.

        Raises:
            StateError: nothing was written.
        """
        ...

    def specs(self, ids: Iterable[str]) -> dict[str, JobSpec]:
        """What these jobs run."""
        ...

    def fetches(self, ids: Iterable[str]) -> dict[str, FetchRecord]:
        """Fetches by id."""
        ...

    def position(self) -> Position | None:
        """Up to where the stream of signals was taken in; None before the first one."""
        ...


class FetchPlace(Protocol):
    """Where fetches run. It answers every order with exactly one `Ready` or `Failed`."""

    @property
    def outlives(self) -> bool:
        """Whether tries go on when this server is gone."""
        ...

    def start(self, order: FetchOrder, then: Sequence[FetchOrder] = ()) -> None:
        """Run this try, then those in `then`; returns at once."""
        ...

    def adopt(self, order: FetchOrder) -> None:
        """Answer for a try that a server before this one ordered."""
        ...

    def holds(self, fetch: str, generation: int) -> bool:
        """Whether this try is here, and will end."""
        ...

    def cancel(self, fetch: str, generation: int) -> None:
        """Give this try up within a second; its partial file stays."""
        ...


Deliver = Callable[[Sequence[Signal | JobSignal], Position], None]
"""Takes signals that were read together, and the place in the stream behind them; returns at once."""


class SignalSource(Protocol):
    """What others tell, in an order that is kept: a stream that can be read again from a known place."""

    def start(self, position: Position | None, deliver: Deliver) -> None:
        """Read what comes after `position` (None: everything there is). Called again, it begins anew from there."""
        ...

    def recorded(self, position: Position) -> None:
        """What was delivered up to `position` is durable and need not be kept."""
        ...


class JobPlace(Protocol):
    """Where jobs run. It answers every `hand_over` with `JobRefused`, or `JobStarted` and `JobEnded`."""

    def hand_over(self, order: DispatchOrder) -> None:
        """Run a job; returns at once. A second hand-over of the same ``job:epoch`` starts nothing."""
        ...

    def holds(self, job: str, epoch: int) -> bool:
        """Whether this hand-over is here, and its end will be told."""
        ...

    def stop(self, job: str, epoch: int) -> None:
        """End a job that was handed over, now or by a server before this one; `JobEnded` follows."""
        ...

    def clean_up(self, job: str, epoch: int) -> None:
        """The end of the job is recorded: what was only kept for that may go."""
        ...

    def tidy(self, open_jobs: Collection[str]) -> None:
        """At start: clean up after all jobs but these."""
        ...
