"""Eviction and the keeper, put together as the settings say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stager.cache.eviction import Evictor
from stager.cache.holders import held_files, jobs_holding
from stager.cache.pinned import is_pinned, pinned
from stager.cache.store import FileCache
from stager.cache.symbolic import SymbolicInputs
from stager.cache.trash import Trash, needs_trash
from stager.cache.tree import Tree, open_existing_tree
from stager.clock import Clock
from stager.mapper.loop import Mapper
from stager.model.eviction import Limits
from stager.service.cache_eviction import EvictionService
from stager.service.cache_site import CacheSite
from stager.service.keeper import Keeper
from stager.settings import Settings
from stager.state.catalogue import Catalogue

_ELSEWHERE = "another name outside of the cache (import --link)"


def build_limits(settings: Settings) -> Limits:
    """How much the cache may hold."""
    return Limits(
        max_cache_bytes=settings.max_cache_bytes,
        max_used_percent=settings.max_used_percent,
        low_percent=settings.low_percent,
        input_days=settings.input_days,
        result_promise_days=settings.result_promise_days,
        result_days=settings.result_days,
        owner_quota_bytes=settings.owner_quota_bytes,
        owner_quotas=settings.owner_quotas,
        protected=settings.protected,
        min_free_bytes=settings.min_free_bytes,
        min_free_inodes=settings.min_free_inodes,
    )


def build_eviction_service(
    settings: Settings, cache: FileCache, catalogue: Catalogue, clock: Clock
) -> EvictionService:
    """What evicts."""
    tree = open_existing_tree(cache.root, cache.tree.id)
    trash = Trash(tree, clock)
    uses_trash = settings.trash == "always" or needs_trash(tree)
    grace = settings.grace_seconds if uses_trash else 0.0
    return EvictionService(
        cache,
        catalogue,
        Evictor(tree, trash if grace else None, now=clock.time),
        trash,
        build_limits(settings),
        clock,
        holders=lambda objects: _holders(tree, objects),
        is_pinned=lambda sha256: is_pinned(tree, sha256),
        linked=SymbolicInputs(tree),
        inside=lambda: held_files(tree),
        grace_seconds=grace,
    )


def build_keeper(settings: Settings, site: CacheSite, mapper: Mapper, clock: Clock) -> Keeper:
    """The keeper of a server's cache."""
    keeper = Keeper(site.eviction, mapper, clock, every_seconds=settings.keeper_seconds)
    site.eviction.freed = keeper.freed
    site.eviction.kept = keeper.complete
    return keeper


def _holders(tree: Tree, objects: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Who holds these objects, for people."""
    return {sha256: _holders_of(tree, sha256) or [_ELSEWHERE] for sha256 in objects}


def _holders_of(tree: Tree, sha256: str) -> list[str]:
    jobs = [f"job {job}, as {name}" for job, name in jobs_holding(tree, sha256)]
    pins = pinned(tree, sha256)
    return jobs + [
        f"pin {pin.id} of {pin.holder}" + (f": {pin.reason}" if pin.reason else "") for pin in pins
    ]
