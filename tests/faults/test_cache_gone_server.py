"""A server whose cache is unmounted, hidden, moved away or made read-only: said once, waited for, gone on with."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stager.cache.store import FileCache
from stager.clock import SystemClock
from stager.errors import CacheGoneError
from stager.mapper import flights
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.service import cache_watch
from stager.service.cache_watch import CacheWatch
from stager.settings import Settings
from stager.wiring.server import JobServer
from tests.support.mounts import mounted, move, remount, unmount
from tests.support.origin import Origin, content
from tests.support.until import until

DATA = b"measured" * 4000


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch looks often."""
    monkeypatch.setattr(cache_watch, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr(CacheWatch.__init__, "__kwdefaults__", {"every_seconds": 0.05})
    monkeypatch.setattr(flights, "CACHE_SECONDS", 0.2)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        for number in range(10):
            running.serve(f"/{number}.dat", content(DATA + b"%d" % number, etag=f'"{number}"'))
        yield running


@contextmanager
def serving(root: Path, cache: Path) -> Iterator[JobServer]:
    settings = Settings(
        cache_dir=cache,
        state_dir=root / "state",
        retry_first_seconds=0.01,
        reconcile_seconds=0.05,
        keeper_seconds=0.1,
        fetch_threads=2,
        max_cache_bytes=1 << 40,
        job_grace_seconds=1.0,
    )
    with JobServer(settings) as server:
        yield server


def submit(server: JobServer, origin: Origin, *numbers: int) -> list[str]:
    command = ("/bin/sh", "-c", "cat inputs/* > results/out")
    return server.jobs.submit(
        [JobSpec(command, (JobInput(origin.url(f"/{n}.dat")),), results=("out",)) for n in numbers]
    )


def check_done(server: JobServer, jobs: list[str]) -> None:
    for job in jobs:
        view = server.jobs.wait(job, 60)
        assert view.state is JobState.DONE, view


def check_waiting(server: JobServer, jobs: list[str], reason: str) -> None:
    """The jobs wait, for that reason."""
    for job in jobs:
        detail = server.jobs.job(job)
        assert detail.state is JobState.WAITING
        assert detail.inputs[0].error is not None
        assert reason in detail.inputs[0].error["what"]


def state(server: JobServer) -> str:
    return server.care.watch.state.state


def files(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


def known(server: JobServer) -> int:
    return server.cache_site.files.ls(limit=None).total


def lose_and_find(
    server: JobServer,
    origin: Origin,
    away: Callable[[], object],
    back: Callable[[], object],
    *,
    shown: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Take the cache away with all it holds, let jobs come, and bring it back."""
    root = server.cache.root
    check_done(server, submit(server, origin, 0, 1, 2))
    until(lambda: known(server) >= 6, "the catalogue knows inputs and results")
    rows = known(server)
    asked = len(origin.seen())
    caplog.clear()
    away()
    left = files(root) if root.exists() else None
    until(lambda: state(server) == shown, "it is noticed")
    jobs = submit(server, origin, 3, 4, 0)  # two that are new, one that is in the cache
    until(lambda: server.jobs.job(jobs[0]).inputs[0].error, "the reason is shown")
    with pytest.raises(CacheGoneError):
        server.reconciler.look()
    check_waiting(server, jobs[:2], str(root))
    assert server.site.cache_state().reason  # type: ignore[union-attr]
    assert (files(root) if root.exists() else None) == left, "something was written where the cache was"
    assert known(server) == rows, "what is away is not lost"
    assert len(origin.seen()) == asked, "an origin was asked for what can't be kept"
    said = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert len(said) == 1, [r.getMessage() for r in said]
    back()
    until(lambda: state(server) == "ok", "it is back")
    check_done(server, jobs)
    for number in range(5):
        assert server.cache.path(origin.url(f"/{number}.dat")).read_bytes() == DATA + b"%d" % number
    assert len(origin.seen("/0.dat")) == 1


def test_a_cache_that_is_moved_away_and_back(
    tmp_path: Path, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    cache, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    with serving(tmp_path, cache) as server:
        lose_and_find(
            server,
            origin,
            lambda: cache.rename(elsewhere),
            lambda: elsewhere.rename(cache),
            shown="gone",
            caplog=caplog,
        )


def test_a_share_that_is_unmounted_and_mounted_again(
    tmp_path: Path, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    cache, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    with mounted(cache, "size=64m,mode=755"):
        try:
            with serving(tmp_path, cache) as server:
                lose_and_find(
                    server,
                    origin,
                    lambda: move(cache, elsewhere),
                    lambda: move(elsewhere, cache),
                    shown="gone",
                    caplog=caplog,
                )
        finally:
            unmount(elsewhere)


def test_another_cache_that_is_mounted_in_its_place(
    tmp_path: Path, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    other = tmp_path / "other"
    with mounted(other, "size=64m,mode=755"):
        FileCache(other).put(origin.url("/3.dat"), b"of another cache")
        with serving(tmp_path, cache) as server:
            try:
                lose_and_find(
                    server,
                    origin,
                    lambda: move(other, cache),
                    lambda: move(cache, other),
                    shown="gone",
                    caplog=caplog,
                )
            finally:
                if cache.is_mount():
                    move(cache, other)


def test_a_cache_that_is_mounted_read_only_for_a_while(tmp_path: Path, origin: Origin) -> None:
    cache = tmp_path / "cache"
    with mounted(cache, "size=64m,mode=755"), serving(tmp_path, cache) as server:
        check_done(server, submit(server, origin, 0))
        until(lambda: not server.jobs.counts()["running"], "nothing is open")
        remount(cache, "ro")
        until(lambda: state(server) == "read-only", "it is noticed")
        jobs = submit(server, origin, 5, 6)
        until(lambda: server.jobs.job(jobs[0]).inputs[0].error, "the reason is shown")
        check_waiting(server, jobs, str(cache))
        assert server.cache.path(origin.url("/0.dat")).read_bytes() == DATA + b"0"
        remount(cache, "rw")
        check_done(server, jobs)
        assert state(server) == "ok"


def test_directories_that_were_made_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FileCache(tmp_path / "cache")
    cache.put("key", b"data")
    told: list[bool] = []
    watch = CacheWatch(cache, SystemClock(), told.append)
    (cache.root / "objects").chmod(0o555)
    if os.geteuid() == 0:  # whom no mode keeps from writing
        access = os.access
        monkeypatch.setattr(
            os,
            "access",
            lambda path, mode, **more: (
                access(path, mode, **more) and not (mode & os.W_OK and not Path(path).stat().st_mode & 0o200)
            ),
        )
    found = watch.look()
    assert found.state == "read-only"
    assert str(cache.root / "objects") in found.reason
    (cache.root / "objects").chmod(0o755)
    assert watch.look().state == "ok"
    assert told == [False, True]


def test_a_file_system_that_does_not_answer_is_said_not_to(tmp_path: Path) -> None:
    from stager.clock import ManualClock

    clock = ManualClock()
    watch = CacheWatch(FileCache(tmp_path / "cache"), clock, lambda _: None)
    watch._asked = clock.monotonic()
    clock.advance(cache_watch.SILENT_SECONDS - 1)
    assert watch.state.state == "ok"
    clock.advance(2)
    assert watch.state.state == "not-answering"
    assert "has not answered for 16 s" in watch.state.reason


def test_a_server_that_finds_its_cache_gone_makes_no_new_one_in_its_place(
    tmp_path: Path, origin: Origin
) -> None:
    cache = tmp_path / "cache"
    with serving(tmp_path, cache) as server:
        check_done(server, submit(server, origin, 0))
    cache.rename(tmp_path / "away")
    cache.mkdir()
    with pytest.raises(CacheGoneError, match="is the file system mounted"), serving(tmp_path, cache):
        pass
    assert list(cache.iterdir()) == []
    cache.rmdir()
    (tmp_path / "away").rename(cache)
    with serving(tmp_path, cache) as server:
        check_done(server, submit(server, origin, 0))
    cache.rename(tmp_path / "away")
    (tmp_path / "state" / "cache.json").unlink()
    with serving(tmp_path, cache) as server:
        check_done(server, submit(server, origin, 1))
