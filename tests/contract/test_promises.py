"""Promised space, in one process and by Redis for many; and what a cache says that has no room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.cache.space import LocalPromises, Promises, Space
from stager.errors import CacheFullError
from stager.signals import promises as shared
from stager.signals.connection import RedisAddress
from stager.signals.promises import SharedPromises
from tests.support.valkey import Valkey


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["local", "redis"])
def promises(
    request: pytest.FixtureRequest, redis: Valkey, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Promises]:
    if request.param == "local":
        yield LocalPromises()
        return
    monkeypatch.setattr(shared, "KEEP_SECONDS", 0.0)
    with redis.client() as client:
        client.flushall()
    made = SharedPromises(RedisAddress(redis.url))
    yield made
    made.close()


def test_promises_add_up_and_one_that_does_not_fit_changes_nothing(promises: Promises) -> None:
    assert promises.promise("a", 60, 100) is None
    assert promises.promise("b", 50, 100) == 60
    assert promises.promise("b", 40, 100) is None


def test_a_second_promise_takes_the_place_of_the_first(promises: Promises) -> None:
    assert promises.promise("a", 90, 100) is None
    assert promises.promise("a", 95, 100) is None


def test_what_is_written_is_promised_no_more(promises: Promises) -> None:
    assert promises.promise("a", 90, 100) is None
    promises.keep({"a": 10})
    assert promises.promise("b", 90, 100) is None
    promises.withdraw("a")
    promises.withdraw("never-heard-of")
    assert promises.promise("c", 10, 100) is None


def test_the_room_is_what_the_file_system_has_less_what_is_kept_free(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize
    Space(tmp_path, LocalPromises()).reserve("a", 1000)
    with pytest.raises(CacheFullError, match=r"no room for 1,000 bytes: .* are to be kept free"):
        Space(tmp_path, LocalPromises(), keep_free=free + (1 << 40)).reserve("a", 1000)


def test_promises_to_others_are_named(tmp_path: Path) -> None:
    promises = LocalPromises()
    promises.promise("other", 1 << 60, 1 << 61)
    with pytest.raises(CacheFullError, match="promised to other fetches"):
        Space(tmp_path, promises).reserve("a", 1)


def test_without_redis_nothing_is_promised_and_nothing_stops(tmp_path: Path) -> None:
    promises = SharedPromises(RedisAddress("redis://127.0.0.1:1/0"))
    Space(tmp_path, promises).reserve("a", 1000)
    assert promises.promise("a", 1000, 0) is None, "the file system itself says when it is full"
    promises.keep({"a": 1})
    promises.withdraw("a")
    promises.close()


def test_a_late_word_about_what_is_left_promises_nothing_anew(promises: Promises) -> None:
    assert promises.promise("a", 90, 100) is None
    promises.withdraw("a")
    promises.keep({"a": 50})
    assert promises.promise("b", 100, 100) is None
