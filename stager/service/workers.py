"""Where fetches and jobs run, and which workers there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stager.model.views import WorkerView


def _nobody() -> Sequence[WorkerView]:
    return ()


@dataclass(frozen=True, slots=True)
class WorkerService:
    """What there is to know of workers.

    Attributes:
        farm: where fetches run, as set.
        dispatch: where jobs run, as set.
        flower_url: address of the dashboard; empty: there is none.
        workers: those that have given a sign of life of late, by name; raises `SignalsError` when Redis can't be used.
    """

    farm: str = "threads"
    dispatch: str = "local"
    flower_url: str = ""
    workers: Callable[[], Sequence[WorkerView]] = _nobody
