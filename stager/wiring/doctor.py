"""All looks at an installation that need no server, as its settings say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from stager import __version__
from stager.cache.health import cache_checks
from stager.cache.mounts import mount_of
from stager.farm.names import FETCH_QUEUE, WORK_QUEUE
from stager.model.checks import Checked, Health, judged_skew
from stager.service.examination import Check
from stager.settings import Settings
from stager.wiring import build_reach, check_farm_installed
from stager.wiring.credentials import credential_checks
from stager.wiring.provenance import file_check, setting_checks
from stager.wiring.schemes import scheme_checks
from stager.wiring.versions import version_checks

CLOCK_SECONDS = 2.0
CLOUD_KEYS = (IPv4Address("169.254.169.254"), IPv6Address("fd00:ec2::254"))


def checks(settings: Settings, given: Mapping[str, Any]) -> list[Check]:
    """What to look at; `given` is what the command line set.

    What a look needs is imported by it: a package that is missing costs that look only.
    """
    found = [
        Check("settings", partial(setting_checks, settings, given)),
        Check("settings file", lambda: [file_check()]),
        Check("versions", lambda: list(version_checks())),
        Check("cache", partial(_cache, settings)),
        Check("fetches", lambda: list(reach_checks(settings))),
        Check("schemes", lambda: list(scheme_checks(settings))),
        Check("credentials", lambda: list(credential_checks(settings))),
        Check("state directory", lambda: list(state_directory(settings.state_dir))),
        Check("database", lambda: _database("database", database_url(settings))),
        Check("catalogue", partial(_catalogue, settings)),
    ]
    if settings.node_cache_dir:
        found.append(Check("node cache", partial(_node_cache, settings)))
    if "celery" in {settings.farm, settings.dispatch} or "redis_url" in settings.model_fields_set:
        found += [Check("Redis", partial(_redis, settings)), Check("workers", partial(_workers, settings))]
    else:
        why = "neither farm nor dispatch is celery, and redis_url is not set"
        found.append(Check("Redis", lambda: [Checked("Redis", Health.SKIPPED, why)]))
    return found


def database_url(settings: Settings) -> str:
    """Where the server's state is."""
    return settings.database_url or f"sqlite:///{settings.state_dir / 'stager.db'}"


def _cache(settings: Settings) -> list[Checked]:
    return list(
        cache_checks(
            str(settings.cache_dir),
            shards=settings.shards,
            keep_free=settings.min_free_bytes,
            keep_free_inodes=settings.min_free_inodes,
        )
    )


def reach_checks(settings: Settings) -> Iterator[Checked]:
    """Where fetches may reach, and whether that is more than a site can mean."""
    policy = build_reach(settings).policy
    for name, value in policy.describe():
        yield Checked(f"fetches may reach {name}", Health.OK, value)
    for address in CLOUD_KEYS:
        if policy.refusal("", address, 80) is None:
            yield Checked(
                "fetches may reach a cloud's keys",
                Health.WARNING,
                f"{address} is allowed, where a virtual machine is given its credentials",
                "take it out of allowed_networks, or every user can read them",
            )


def _node_cache(settings: Settings) -> list[Checked]:
    root = str(Path(settings.node_cache_dir).expanduser())
    return list(cache_checks(root, shards=settings.shards, name="node cache"))


def _database(name: str, url: str) -> list[Checked]:
    from stager.state.health import database_checks, database_file

    file = database_file(url)
    place = [local(name, Path(file))] if file else []
    return [*place, *database_checks(name, url)]


def _catalogue(settings: Settings) -> list[Checked]:
    from stager.wiring.cache import catalogue_url

    return _database("catalogue", catalogue_url(settings))


def local(name: str, file: Path) -> Checked:
    """Whether a database's file is on a disk of this host."""
    mount = mount_of(file.parent)
    if mount is None:
        return Checked(f"{name} disk", Health.SKIPPED, "the kernel does not say what it is on")
    if mount.is_network:
        remedy = "set state_dir to a directory on a local disk: locks and shared memory fail there, and it gets damaged"
        return Checked(
            f"{name} disk", Health.FAILED, f"{file} is on {mount.fstype}, a network file system", remedy
        )
    return Checked(f"{name} disk", Health.OK, f"on {mount.fstype}, of this host")


def state_directory(directory: Path) -> Iterator[Checked]:
    """Whether others can read what is for the server alone."""
    name = "state directory"
    if not directory.is_dir():
        yield Checked(
            name, Health.SKIPPED, f"{directory} does not exist; the first start of a server makes it"
        )
        return
    mode = directory.stat().st_mode & 0o777
    if mode & 0o022:
        yield Checked(
            name, Health.FAILED, f"others can write to {directory} (mode {mode:o})", f"chmod 700 {directory}"
        )
    elif mode & 0o055:
        yield Checked(
            name,
            Health.WARNING,
            f"others can look into {directory} (mode {mode:o})",
            f"chmod 700 {directory}",
        )
    else:
        yield Checked(name, Health.OK, f"{directory}, for its owner alone")


def token_file(path: Path) -> Checked:
    """Whether others can read the token."""
    if not path.is_file():
        return Checked(
            "token file", Health.SKIPPED, f"{path} does not exist; the first start of a server makes it"
        )
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        remedy = f"remove it, since others may have read it, and start the server; or chmod 600 {path}"
        return Checked("token file", Health.FAILED, f"{path} is open to others (mode {mode:o})", remedy)
    return Checked("token file", Health.OK, f"{path}, for its owner alone")


def _redis(settings: Settings) -> list[Checked]:
    check_farm_installed()

    from stager.signals.health import redis_checks
    from stager.wiring.redis import redis_address

    return list(redis_checks(redis_address(settings)))


def _workers(settings: Settings) -> list[Checked]:
    check_farm_installed()

    from stager.signals.health import worker_cards
    from stager.wiring.redis import redis_address

    cards = worker_cards(redis_address(settings))
    needed = {FETCH_QUEUE: settings.farm, WORK_QUEUE: settings.dispatch}
    found = []
    for queue, place in needed.items():
        if place != "celery":
            continue
        names = [card.name for card, _ in cards if queue in card.queues]
        if names:
            found.append(Checked(f"{queue} workers", Health.OK, f"processes: {len(names)}"))
        else:
            remedy = f"start some: `stager worker --queue {queue}`"
            found.append(Checked(f"{queue} workers", Health.FAILED, "none says that it is there", remedy))
    others = sorted({card.version for card, _ in cards} - {__version__})
    if others:
        remedy = "upgrade the server first, then the workers"
        text = f"workers of version {', '.join(others)}, here {__version__}"
        found.append(Checked("worker versions", Health.WARNING, text, remedy))
    ahead = {card.node: seconds for card, seconds in cards if seconds is not None}
    found += [
        judged_skew(f"clock of {node}", seconds, f"the clock of {node}", CLOCK_SECONDS)
        for node, seconds in sorted(ahead.items())
    ]
    return found
