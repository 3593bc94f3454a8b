"""Whether Redis is as a farm needs it, and whose clocks differ."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from stager.model.checks import Checked, Health, judged_skew
from stager.signals import keys
from stager.signals.connection import RedisAddress
from stager.signals.roster import WorkerCard, parse_card

OLDEST = (6, 2)
"""Version of Redis (Valkey counts on from 7.2) that has all commands that are used."""
CLOCK_SECONDS = 2.0
LOCAL = ("127.", "localhost", "[::1]", "::1", "/")


def redis_checks(address: RedisAddress) -> Iterator[Checked]:
    """All about Redis.

    Raises:
        SignalsError: it can't be reached, or does not let us in.
    """
    client = address.connect()
    try:
        with address.speaking():
            info: dict[str, Any] = client.info("all")
            before = time.time()
            seconds, microseconds = client.time()
            middle = (before + time.time()) / 2
    finally:
        client.close()
    yield _version(address, info)
    yield _way(address)
    yield judged_skew(
        "Redis clock", seconds + microseconds / 1e6 - middle, "the clock of Redis", CLOCK_SECONDS
    )
    yield _memory(info)
    yield _persistence(info)


def worker_cards(address: RedisAddress) -> list[tuple[WorkerCard, float | None]]:
    """The workers that say they are there, each with how far its clock is ahead of ours (None: it does not say).

    Raises:
        SignalsError: Redis can't be used.
    """
    found = []
    client = address.connect()
    try:
        with address.speaking():
            for name in sorted(client.scan_iter(match=keys.WORKER + "*", count=1000)):
                text, left = client.get(name), client.pttl(name)
                now = time.time()
                card = parse_card(text) if isinstance(text, bytes) else None
                if card is None:
                    continue
                spoken = keys.WORKER_SECONDS - float(left) / 1000
                found.append((card, card.said_at + spoken - now if card.said_at else None))
    finally:
        client.close()
    return found


def _version(address: RedisAddress, info: dict[str, Any]) -> Checked:
    name = "Valkey" if "valkey_version" in info else "Redis"
    text = str(info.get("valkey_version") or info.get("redis_version", "?"))
    found = f"{name} {text} at {address.shown} answers"
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        return Checked("Redis", Health.WARNING, found, f"use {'.'.join(map(str, OLDEST))} or newer")
    return Checked("Redis", Health.OK, found)


def _way(address: RedisAddress) -> Checked:
    if address.is_tls:
        return Checked("Redis connection", Health.OK, "encrypted (TLS)")
    if address.shown.startswith(LOCAL):
        return Checked("Redis connection", Health.OK, "not encrypted, and stays on this host")
    remedy = "use rediss:// between hosts: URLs of fetches, which may be signed, go that way"
    return Checked("Redis connection", Health.WARNING, "not encrypted", remedy)


def _memory(info: dict[str, Any]) -> Checked:
    policy, limit = str(info.get("maxmemory_policy", "?")), int(info.get("maxmemory", 0))
    used = int(info.get("used_memory", 0))
    shown = (
        f"{policy}; {used / 2**20:,.0f} MiB used of {f'{limit / 2**20:,.0f} MiB' if limit else 'no limit'}"
    )
    if policy != "noeviction":
        remedy = "set maxmemory-policy noeviction: orders and signals would vanish silently"
        return Checked("Redis memory", Health.FAILED, shown, remedy)
    if limit and used > limit * 0.9:
        return Checked("Redis memory", Health.WARNING, shown, "give it more (maxmemory)")
    return Checked("Redis memory", Health.OK, shown)


def _persistence(info: dict[str, Any]) -> Checked:
    name = "Redis persistence"
    if info.get("aof_enabled"):
        if info.get("aof_last_write_status") != "ok":
            return Checked(
                name, Health.FAILED, "the last write of its log failed", "see its log; is its disk full?"
            )
        return Checked(name, Health.OK, "appendonly")
    if info.get("rdb_last_bgsave_status") != "ok":
        return Checked(name, Health.WARNING, "the last snapshot failed", "see its log; is its disk full?")
    remedy = "set appendonly yes: what is in it can be made again, but all that is on is begun anew"
    return Checked(
        name, Health.WARNING, "no log (appendonly no): a restart forgets the last seconds or all", remedy
    )
