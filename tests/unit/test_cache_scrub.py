"""Objects are read again: what is damaged is told from what can't be read, and from a cache that has gone."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from stager.cache import reading
from stager.cache.orphans import NamedObjects
from stager.cache.pace import Pace
from stager.cache.scrub import (
    FORGIVEN_BY,
    MOST_UNREADABLE,
    Condition,
    DiskTrust,
    ObjectName,
    Scrubbed,
    Scrubber,
    objects_in_order,
)
from stager.cache.store import FileCache
from stager.errors import CacheError, CacheGoneError, CacheIOError

AS_FAST_AS_CAN_BE = Pace(None)


@pytest.fixture(params=["2+2", "flat", "1+4"])
def cache(tmp_path: Path, request: pytest.FixtureRequest) -> FileCache:
    return FileCache(tmp_path / "cache", shards=request.param)


@pytest.fixture
def plain(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


def fill(cache: FileCache, count: int) -> list[str]:
    return sorted(cache.put(f"key{n}", b"%d" % n * 1000).object for n in range(count))


def damage(path: Path, content: bytes) -> Path:
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)
    return path


def scrub(
    cache: FileCache, *, threads: int = 2, after: str = "", pace: Pace = AS_FAST_AS_CAN_BE
) -> list[Scrubbed]:
    scrubber = Scrubber(cache.tree, pace, threads=threads)
    return [each for some in scrubber.run(objects_in_order(cache.tree, after)) for each in some]


def test_all_objects_are_read_in_the_order_of_their_digests(cache: FileCache) -> None:
    objects = fill(cache, 200)
    found = scrub(cache)
    assert [each.name.sha256 for each in found] == objects
    assert {each.condition for each in found} == {Condition.SOUND}
    assert sum(each.size for each in found) == sum(cache.object_path(sha).stat().st_size for sha in objects)


def test_it_goes_on_from_any_digest(cache: FileCache) -> None:
    objects = fill(cache, 100)
    for at in (0, 50, 98, 99):
        assert [each.name.sha256 for each in scrub(cache, after=objects[at])] == objects[at + 1 :]


def test_objects_of_a_layout_that_is_left_come_once(plain: FileCache) -> None:
    objects = fill(plain, 30)
    text = '{"version": 2, "shards": "4", "digest": "sha256", "id": "%s", "previous": ["2+2"], "settled_at": null}'
    draft = plain.root / "draft"
    draft.write_text(text % plain.tree.id)
    draft.rename(plain.root / "layout.json")
    plain.tree.check()
    for sha in objects[::2]:
        new = plain.root / "objects" / sha[:4] / sha
        new.parent.mkdir(exist_ok=True)
        new.hardlink_to(plain.root / "objects" / sha[:2] / sha[2:4] / sha)
    assert [each.name.sha256 for each in scrub(plain)] == objects


@pytest.mark.parametrize("content", [b"", b"other bytes", b"0" * 999])
def test_an_object_with_other_bytes_is_damaged(plain: FileCache, content: bytes) -> None:
    entry = plain.put("key", b"0" * 1000)
    path = damage(plain.path("key"), content)
    (found,) = scrub(plain)
    assert found.condition is Condition.DAMAGED
    assert found.path == str(path)
    assert f"its {len(content)} bytes have SHA-256 {sha256(content).hexdigest()}" in found.cause
    assert found.name.sha256 == entry.object


def test_a_large_object_is_read_to_its_end(plain: FileCache) -> None:
    data = os.urandom(3 * reading.BLOCK_BYTES + 12345)
    plain.put("key", data)
    assert [each.condition for each in scrub(plain)] == [Condition.SOUND]
    damage(plain.path("key"), data[:-1] + bytes([data[-1] ^ 1]))
    assert [each.condition for each in scrub(plain)] == [Condition.DAMAGED]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Lets reads of one path fail, so many times."""
    preadv, counted = os.preadv, list[int]()

    def fail(path: Path | None, number: int, times: int = 10**9) -> list[int]:
        file = None if path is None else path.stat().st_ino

        def reads(fd: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
            if (file is None or os.fstat(fd).st_ino == file) and not flags and len(counted) < times:
                counted.append(fd)
                raise OSError(number, os.strerror(number))
            return preadv(fd, buffers, offset, flags)

        monkeypatch.setattr(os, "preadv", reads)
        return counted

    return fail


def test_what_the_disk_does_not_give_is_unreadable_and_not_called_damaged(
    plain: FileCache, failing: Callable[..., list[int]]
) -> None:
    plain.put("good", b"good")
    plain.put("bad", b"bad")
    tried = failing(plain.path("bad"), errno.EIO)
    found = {each.name.sha256: each for each in scrub(plain)}
    bad = found.pop(sha256(b"bad").hexdigest())
    assert (bad.condition, bad.cause) == (Condition.UNREADABLE, "Input/output error")
    assert [each.condition for each in found.values()] == [Condition.SOUND]
    assert len(tried) == 2


def test_an_object_is_read_once_more_before_it_is_judged(
    plain: FileCache, failing: Callable[..., list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    plain.put("key", b"data")
    failing(plain.path("key"), errno.EIO, times=1)
    assert [each.condition for each in scrub(plain)] == [Condition.SOUND]
    assert "read differently the first time: Input/output error" in caplog.text


def test_what_this_user_may_not_read_is_not_judged(
    plain: FileCache, failing: Callable[..., list[int]]
) -> None:
    plain.put("key", b"data")
    failing(plain.path("key"), errno.EACCES)
    assert [each.condition for each in scrub(plain)] == [Condition.DENIED]


def test_a_disk_that_fails_is_not_a_cache_full_of_damaged_objects(
    plain: FileCache, failing: Callable[..., list[int]]
) -> None:
    fill(plain, MOST_UNREADABLE + 20)
    failing(None, errno.EIO)
    with pytest.raises(
        CacheIOError, match=r"20 objects and more can't be read.*: Input/output error; see to"
    ):
        scrub(plain)


def test_a_sound_object_now_and_then_does_not_make_a_failing_disk_a_good_one() -> None:
    trust = DiskTrust()
    sound, bad = (Scrubbed(ObjectName("0" * 64), each) for each in (Condition.SOUND, Condition.UNREADABLE))
    for _ in range(3 * MOST_UNREADABLE):  # one in so many is what single objects are
        trust.take(bad)
        for _ in range(FORGIVEN_BY):
            trust.take(sound)
    for _ in range(MOST_UNREADABLE - 1):
        trust.take(sound)
        trust.take(bad)
    trust.take(bad)
    with pytest.raises(CacheIOError, match="see to the disk"):
        trust.take(bad)


OF_THIS_PROCESS = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT, errno.ESTALE, errno.ENOTCONN]


@pytest.mark.parametrize("number", OF_THIS_PROCESS, ids=errno.errorcode.get)
def test_what_is_not_the_fault_of_an_object_ends_the_run(
    plain: FileCache, failing: Callable[..., list[int]], number: int
) -> None:
    plain.put("key", b"data")
    failing(plain.path("key"), number)
    with pytest.raises(CacheError, match=rf"can't verify .*: {os.strerror(number)}"):
        scrub(plain)


def test_without_memory_for_a_buffer_nothing_is_judged(
    plain: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.put("key", b"data")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr("stager.cache.reading.mmap.mmap", refuse)
    with pytest.raises(CacheIOError, match="Cannot allocate memory"):
        scrub(plain)


def test_a_cache_that_goes_meanwhile_is_not_one_that_has_come_to_its_end(plain: FileCache) -> None:
    fill(plain, 300)
    scrubber = Scrubber(plain.tree, Pace(None), threads=1)
    running = scrubber.run(objects_in_order(plain.tree))
    assert next(running)
    plain.root.rename(plain.root.with_name("away"))
    with pytest.raises(CacheGoneError):
        list(running)


def test_an_object_that_was_evicted_meanwhile_is_nothing_to_speak_of(plain: FileCache) -> None:
    (sha,) = fill(plain, 1)
    plain.object_path(sha).unlink()
    scrubber = Scrubber(plain.tree, Pace(None), threads=1)
    assert scrubber.scrub(ObjectName(sha)).condition is Condition.GONE


def test_it_stops_within_a_block_when_told(plain: FileCache) -> None:
    plain.put("key", bytes(4 * reading.BLOCK_BYTES))
    scrubber = Scrubber(plain.tree, Pace(reading.BLOCK_BYTES / 60), threads=1)  # a minute per block
    running = scrubber.run(objects_in_order(plain.tree), every=0.05)
    assert next(running) == []
    began = time.monotonic()
    scrubber.stop()
    assert list(running) == []
    assert time.monotonic() - began < 30


class Elapsed:
    """A clock that a bucket's waiting moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Waiting(threading.Event):
    def __init__(self, clock: Elapsed) -> None:
        super().__init__()
        self.clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self.clock.now += timeout or 0.0
        return False


def test_all_threads_together_read_no_faster_than_they_may() -> None:
    clock = Elapsed()
    pace, stopped = Pace(1000, clock), Waiting(clock)
    for _ in range(100):
        assert pace.take(100, stopped)
    assert clock.now == pytest.approx(10.0, abs=0.2)


def test_time_in_which_nothing_was_read_is_not_made_up_for() -> None:
    clock = Elapsed()
    pace, stopped = Pace(1000, clock), Waiting(clock)
    clock.now = 1000.0
    for _ in range(10):
        pace.take(1000, stopped)
    assert clock.now == pytest.approx(1010.0, abs=0.2)


def test_who_waits_for_its_turn_is_told_to_stop() -> None:
    pace, stopped = Pace(1), threading.Event()
    stopped.set()
    assert not pace.take(1_000_000, stopped)
    assert not Pace(None).take(1, stopped)


def test_what_somebody_has_in_memory_stays_there(plain: FileCache) -> None:
    plain.put("key", os.urandom(2 * reading.BLOCK_BYTES))
    path = plain.path("key")
    path.read_bytes()
    fd = os.open(path, os.O_RDONLY)
    try:
        hot = reading._is_in_memory(fd)
        assert [each.condition for each in scrub(plain)] == [Condition.SOUND]
        assert reading._is_in_memory(fd) == hot
    finally:
        os.close(fd)


def test_which_objects_have_names_is_known_in_eight_bytes_each() -> None:
    named = NamedObjects()
    digests = [sha256(b"%d" % n).hexdigest() for n in range(1000)]
    for digest in digests[::2]:
        named.add(digest)
    assert all(digest in named for digest in digests[::2])
    assert not any(digest in named for digest in digests[1::2])
    named.add(digests[1])
    assert digests[1] in named
    assert len(named) == 501
    assert named._parts.itemsize == 8


def iterate(names: Iterator[ObjectName]) -> list[str]:
    return [name.sha256 for name in names]


def test_restricted_objects_are_verified_too(plain: FileCache) -> None:
    data = b"secret"
    sha = sha256(data).hexdigest()
    path = plain.root / "restricted" / sha[:2] / sha[2:4] / sha
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    public = plain.put("key", b"public").object
    assert iterate(objects_in_order(plain.tree)) == sorted([sha, public])
    assert {each.condition for each in scrub(plain)} == {Condition.SOUND}
