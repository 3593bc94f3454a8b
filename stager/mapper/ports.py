"""What the loop needs from the rest: a place to write, a place for fetches, a place for jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from stager.model.events import DispatchOrder
from stager.model.fetches import FetchOrder
from stager.model.jobs import JobSpec
from stager.model.records import Changes, FetchRecord, JobRecord, NameRecord


class StateStore(Protocol):
    """Where the truth is kept."""

    def load(self) -> tuple[list[JobRecord], list[FetchRecord], list[NameRecord]]:
        """What is not over."""
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


class FetchPlace(Protocol):
    """Where fetches run. It answers every `start` with exactly one `Ready` or `Failed`."""

    def start(self, order: FetchOrder) -> None:
        """Run this try; returns at once."""
        ...

    def cancel(self, fetch: str, generation: int) -> None:
        """Give this try up within a second; its partial file stays."""
        ...


class JobPlace(Protocol):
    """Where jobs run. It answers every `hand_over` with `JobRefused`, or `JobStarted` and `JobEnded`."""

    def hand_over(self, order: DispatchOrder) -> None:
        """Run a job; returns at once. A second hand-over of the same ``job:epoch`` starts nothing."""
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
