"""When a key was last used: on any mount, for any owner, with few writes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from stager.cache.access import APART_SECONDS, FLUSH_SECONDS, MAX_PENDING, AccessTimes
from stager.cache.store import FileCache
from stager.cache.walk import TreeReader
from stager.clock import ManualClock
from stager.model.catalogue import ROW
from stager.model.keys import key_digest
from tests.support.mounts import mounted
from tests.support.needs import needs


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(time.time() + 3600)


class Touched:
    def __init__(self, error: OSError | None = None) -> None:
        self.calls: list[tuple[str, float]] = []
        self.error = error

    def __call__(self, digest: str, when: float) -> bool:
        self.calls.append((digest, when))
        if self.error:
            raise self.error
        return True


class Told:
    def __init__(self) -> None:
        self.all: list[Mapping[str, float]] = []

    def __call__(self, accesses: Mapping[str, float]) -> None:
        self.all.append(dict(accesses))


def use(cache: FileCache, key: str) -> None:
    """Ask for it and have the time written, as by a process that ends now."""
    assert cache.lookup(key)
    cache.close()


def test_accesses_within_a_minute_are_written_once(clock: ManualClock) -> None:
    touched = Touched()
    times = AccessTimes(touched, clock)
    for _ in range(1000):
        times.note("k", clock.monotonic())
    assert touched.calls == []
    clock.advance(FLUSH_SECONDS)
    times.note("k", clock.monotonic())
    assert len(touched.calls) == 1


def test_a_process_writes_the_time_of_a_key_once_in_ten_minutes(clock: ManualClock) -> None:
    touched = Touched()
    times = AccessTimes(touched, clock)
    for _ in range(20):
        times.note("k", clock.monotonic())
        clock.advance(FLUSH_SECONDS)
        times.flush()
    assert len(touched.calls) == 2


def test_two_processes_write_the_time_of_a_key_once_in_ten_minutes(
    tmp_path: Path, clock: ManualClock
) -> None:
    one, other = FileCache(tmp_path, clock=clock), FileCache(tmp_path, clock=clock)
    one.put("k", b"x")
    use(one, "k")
    first = one.last_access("k")
    assert first == pytest.approx(clock.time(), abs=0.01)
    clock.advance(APART_SECONDS - 1)
    use(other, "k")
    assert one.last_access("k") == first
    clock.advance(2)
    use(FileCache(tmp_path, clock=clock), "k")
    assert one.last_access("k") == pytest.approx(clock.time(), abs=0.01)


def written(cache: FileCache, at: float) -> None:
    """Let that be when the key was last used."""
    (entry,) = (cache.root / "entries").rglob("*.json")
    os.utime(entry, (at, at))


def test_a_host_whose_clock_is_behind_does_not_make_a_file_older(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    cache.put("k", b"x")
    written(cache, before := time.time())
    use(FileCache(tmp_path, clock=ManualClock(before - 86_400)), "k")
    assert before - 1 < (cache.last_access("k") or 0) < time.time() + 1


def test_a_time_that_a_host_wrote_whose_clock_was_ahead_is_put_right_by_the_next_use(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    cache.put("k", b"x")
    written(cache, time.time() + 365 * 86_400)
    use(cache, "k")
    assert cache.last_access("k") == pytest.approx(time.time(), abs=60)


def test_a_time_to_come_counts_as_now_in_the_catalogue(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    cache.put("k", b"x")
    written(cache, time.time() + 365 * 86_400)
    digest = key_digest("k")
    row = TreeReader(tmp_path).rows([digest])[digest]
    assert row[ROW.index("last_access")] == pytest.approx(time.time(), abs=60)


def test_the_number_of_accesses_in_memory_is_bounded(clock: ManualClock) -> None:
    touched = Touched()
    times = AccessTimes(touched, clock)
    for number in range(MAX_PENDING + 1):
        times.note(str(number), clock.monotonic())
    assert len(touched.calls) == MAX_PENDING + 1
    times.used(str(number) for number in range(MAX_PENDING + 100))
    assert len(times._pending) == MAX_PENDING


def test_a_lookup_is_not_held_up_by_many_times_to_write(clock: ManualClock) -> None:
    def slowly(_digest: str, _when: float) -> bool:
        clock.advance(0.001)
        return True

    times = AccessTimes(slowly, clock)
    for number in range(1000):
        times.note(str(number), clock.monotonic())
    clock.advance(FLUSH_SECONDS)
    before = clock.monotonic()
    times.note("last", clock.monotonic())
    assert clock.monotonic() - before < 0.01
    times.flush(2.0)
    assert not times._pending


def test_a_removed_entry_does_not_stop_the_others(clock: ManualClock) -> None:
    touched = Touched(FileNotFoundError(errno.ENOENT, "gone"))
    times = AccessTimes(touched, clock)
    times.note("a", 0)
    times.note("b", 0)
    times.flush()
    assert len(touched.calls) == 2


def test_where_the_file_system_fails_it_is_not_tried_for_every_key(clock: ManualClock) -> None:
    touched = Touched(OSError(errno.EIO, "broken"))
    times = AccessTimes(touched, clock)
    times.note("a", 0)
    times.note("b", 0)
    times.flush()
    assert len(touched.calls) == 1


def test_what_may_not_be_written_is_handed_on_once_in_ten_minutes(clock: ManualClock) -> None:
    times = AccessTimes(Touched(PermissionError(errno.EPERM, "no")), clock)
    handed = times.refused = Told()
    noted = clock.time()
    times.note("a", clock.monotonic())
    times.flush()
    times.note("a", clock.monotonic())
    times.flush()
    assert handed.all == [{"a": noted}]
    clock.advance(APART_SECONDS)
    times.note("a", clock.monotonic())
    times.flush()
    assert len(handed.all) == 2


def test_what_was_written_is_told(clock: ManualClock) -> None:
    times = AccessTimes(Touched(), clock)
    told = times.told = Told()
    times.note("a", clock.monotonic())
    times.used(["b"])
    times.flush()
    assert told.all == [{"a": clock.time(), "b": clock.time()}]


def test_the_last_access_of_a_key_is_kept_without_atime(tmp_path: Path, clock: ManualClock) -> None:
    cache = FileCache(tmp_path, clock=clock)
    cache.put("k", b"x")
    assert cache.get("k")
    at = clock.time()
    clock.advance(1)
    cache.close()
    assert cache.last_access("k") == pytest.approx(at, abs=0.01)
    assert cache.path("k").stat().st_mtime != pytest.approx(at, abs=100)


@pytest.mark.parametrize("option", ["noatime", "relatime", "strictatime"])
def test_accesses_are_recorded_whatever_the_mount_does_with_atime(
    option: str, tmp_path: Path, clock: ManualClock
) -> None:
    with mounted(tmp_path / "m", f"size=4m,mode=755,{option}") as path:
        cache = FileCache(path / "cache", clock=clock)
        cache.put("k", b"x")
        use(cache, "k")
        assert cache.last_access("k") == pytest.approx(clock.time(), abs=0.01)


def test_on_a_mount_for_reading_accesses_are_handed_on(tmp_path: Path, clock: ManualClock) -> None:
    cache = FileCache(tmp_path / "cache", clock=clock)
    cache.put("k", b"x")
    before = cache.last_access("k")
    with mounted(tmp_path / "ro", source=cache.root) as path:
        reader = FileCache(path, clock=clock)
        handed = reader.access.refused = Told()
        use(reader, "k")
        assert [list(each.values()) for each in handed.all] == [[clock.time()]]
    assert cache.last_access("k") == before


AS_SOMEBODY_ELSE = """
import json, os, sys
from stager.cache.store import FileCache
from stager.cache.walk import TreeReader
from stager.clock import ManualClock
from stager.model.catalogue import ROW
from stager.model.keys import key_digest
os.setgid(65534); os.setuid(65534)
cache = FileCache(sys.argv[1], clock=ManualClock(float(sys.argv[2])))
cache.access.refused = lambda accesses: print(json.dumps(list(accesses.values())))
assert cache.get("k")
cache.close()
"""


def test_accesses_to_entries_of_another_user_are_handed_on(tmp_path: Path, clock: ManualClock) -> None:
    needs(os.geteuid() == 0, "root, to become somebody else")
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == 0 and directory.is_relative_to("/tmp") and directory != Path("/tmp"):
            directory.chmod(0o755)
    cache = FileCache(tmp_path / "cache", clock=clock)
    cache.put("k", b"x")
    done = subprocess.run(
        [sys.executable, "-c", AS_SOMEBODY_ELSE, cache.root, str(clock.time())],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (f"[{clock.time()}]\n", "")


def test_a_lookup_is_an_access_too(tmp_path: Path, clock: ManualClock) -> None:
    cache = FileCache(tmp_path, clock=clock)
    cache.put("k", b"x")
    use(cache, "k")
    assert cache.last_access("k") == pytest.approx(clock.time(), abs=0.01)


def test_times_are_written_when_the_process_ends(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    cache.put("k", b"x")
    code = (
        "import sys; from stager.cache.store import FileCache; from stager.clock import ManualClock\n"
        "FileCache(sys.argv[1], clock=ManualClock(1e10)).get('k')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
    assert cache.last_access("k") == pytest.approx(1e10, abs=0.01)
