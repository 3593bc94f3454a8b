"""The installation as its operator sees it: where things run, who does them, how origins cope, what was put right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stager.model.views import OriginView, WorkerView
from stager.service.cache_watch import CacheState


def _nothing() -> Sequence[WorkerView]:
    return ()


def _no_origins() -> Sequence[OriginView]:
    return ()


def _cache_unknown() -> None:
    return None


def _no_repairs() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class SiteService:
    """What there is to know beside jobs.

    Attributes:
        farm: where fetches run, as set.
        dispatch: where jobs run, as set.
        flower_url: address of the dashboard; empty: there is none.
        workers: those that have given a sign of life of late, by name; raises `SignalsError` when Redis can't be used.
        origins: those that have work or had some lately.
        repairs: what reconciliation put right since the start, by kind.
        cache_state: whether the cache can be used; None: nobody looks.
    """

    farm: str = "threads"
    dispatch: str = "local"
    flower_url: str = ""
    workers: Callable[[], Sequence[WorkerView]] = _nothing
    origins: Callable[[], Sequence[OriginView]] = _no_origins
    repairs: Callable[[], Mapping[str, int]] = _no_repairs
    cache_state: Callable[[], CacheState | None] = _cache_unknown
