from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stager.cache.access import FLUSH_SECONDS, MAX_PENDING, AccessTimes
from stager.cache.store import FileCache
from stager.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Touched:
    def __init__(self, error: OSError | None = None) -> None:
        self.calls: list[tuple[str, float]] = []
        self.error = error

    def __call__(self, digest: str, when: float) -> None:
        self.calls.append((digest, when))
        if self.error:
            raise self.error


def test_accesses_within_a_minute_are_written_once(clock: ManualClock) -> None:
    touched = Touched()
    times = AccessTimes(touched, clock)
    for _ in range(1000):
        times.note("k", clock.monotonic())
    assert touched.calls == []
    clock.advance(FLUSH_SECONDS)
    times.note("k", clock.monotonic())
    assert len(touched.calls) == 1


def test_the_number_of_accesses_in_memory_is_bounded(clock: ManualClock) -> None:
    touched = Touched()
    times = AccessTimes(touched, clock)
    for number in range(MAX_PENDING + 1):
        times.note(str(number), clock.monotonic())
    assert len(touched.calls) == MAX_PENDING + 1


def test_a_lookup_is_not_held_up_by_many_times_to_write(clock: ManualClock) -> None:
    times = AccessTimes(lambda *_: clock.advance(0.001), clock)
    for number in range(1000):
        times.note(str(number), clock.monotonic())
    clock.advance(FLUSH_SECONDS)
    before = clock.monotonic()
    times.note("last", clock.monotonic())
    assert clock.monotonic() - before < 0.01
    times.flush(2.0)
    assert not times._pending


def test_a_removed_entry_does_not_stop_the_others(clock: ManualClock) -> None:
    touched = Touched(FileNotFoundError())
    times = AccessTimes(touched, clock)
    times.note("a", 0)
    times.note("b", 0)
    times.flush()
    assert len(touched.calls) == 2


def test_where_times_can_not_be_written_it_is_not_tried_for_every_key(clock: ManualClock) -> None:
    touched = Touched(PermissionError())
    times = AccessTimes(touched, clock)
    times.note("a", 0)
    times.note("b", 0)
    times.flush()
    assert len(touched.calls) == 1


def test_the_last_access_of_a_key_is_kept_without_atime(tmp_path: Path, clock: ManualClock) -> None:
    cache = FileCache(tmp_path, clock=clock)
    cache.put("k", b"x")
    FileCache(tmp_path, clock=clock).get("k")
    clock.advance(3600)
    at = clock.time()
    assert cache.get("k")
    clock.advance(1)
    cache.close()
    assert cache.last_access("k") == pytest.approx(at, abs=0.01)
    assert cache.path("k").stat().st_mtime != pytest.approx(at, abs=100)


def test_a_lookup_is_an_access_too(tmp_path: Path, clock: ManualClock) -> None:
    cache = FileCache(tmp_path, clock=clock)
    cache.put("k", b"x")
    assert cache.lookup("k")
    cache.close()
    assert cache.last_access("k") == pytest.approx(clock.time(), abs=0.01)


def test_times_are_written_when_the_process_ends(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    cache.put("k", b"x")
    code = (
        "import sys; from stager.cache.store import FileCache; from stager.clock import ManualClock\n"
        "FileCache(sys.argv[1], clock=ManualClock(1e9)).get('k')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
    assert cache.last_access("k") == pytest.approx(1e9, abs=0.01)
