"""A cache on a real NFS share that one host moves to another layout while the other one uses it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stager.cache.migrate import GRACE_SECONDS
from tests.support.guests import Guest
from tests.support.pair import Pair

pytestmark = pytest.mark.timeout(900)  # the grace alone is a minute and a half, and guests are slow

TEXTS = {f"k{number}": f"text {number}" for number in range(30)}


def ask(pair: Pair, guest: Guest, function: str, *arguments: object) -> Any:
    return guest.call(f"tests.support.guest_migration:{function}", pair.root, *arguments, timeout=400)


def test_the_other_host_misses_nothing_while_a_cache_is_moved(pair: Pair) -> None:
    ask(pair, pair.first, "put_all", TEXTS)
    for guest in (pair.first, pair.second):
        assert ask(pair, guest, "get_all", list(TEXTS)) == TEXTS
    with ThreadPoolExecutor(2) as pool:
        reader = pool.submit(ask, pair, pair.second, "read_until_moved", TEXTS, "4+4")
        moved = pool.submit(ask, pair, pair.first, "migrate", "4+4", GRACE_SECONDS).result()
        rounds, wrong = reader.result()
    assert wrong == []
    assert rounds > 2
    assert moved["objects"] == moved["entries"] == len(TEXTS)
    for guest in (pair.first, pair.second):
        assert ask(pair, guest, "get_all", list(TEXTS)) == TEXTS
    objects = [path for path in (pair.truth / "objects").rglob("*") if path.is_file()]
    assert {len(path.relative_to(pair.truth).parts[1]) for path in objects} == {4}


def test_what_the_other_host_writes_while_a_cache_is_moved_is_there_afterwards(pair: Pair) -> None:
    ask(pair, pair.second, "put_all", TEXTS)  # it has the cache open, and knows nothing of what is to come
    with ThreadPoolExecutor(2) as pool:
        writer = pool.submit(ask, pair, pair.second, "write_until_moved", "flat")
        pool.submit(ask, pair, pair.first, "migrate", "flat", 3.0).result()
        texts = TEXTS | writer.result()
    assert len(texts) > len(TEXTS)
    for guest in (pair.first, pair.second):
        assert ask(pair, guest, "get_all", list(texts)) == texts
    assert not list(pair.truth.glob("entries/*/*/*.json"))
