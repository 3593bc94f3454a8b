"""A cache that is full: room is made before the fetch that needs it, or the fetch waits and says why."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from stager.model.eviction import Purge, Purged
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.model.keys import key_digest
from stager.settings import Settings
from stager.transfer.buffers import BLOCK_BYTES
from stager.wiring.server import JobServer
from tests.support.needs import needs
from tests.support.origin import Origin, content
from tests.support.until import until

MEGABYTE = 1 << 20
PATIENCE = 60.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    needs(os.geteuid() == 0, "root, to mount a small file system")
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m,mode=755", "none", path], capture_output=True, check=False
    )
    needs(done.returncode == 0, f"the right to mount: {done.stderr.decode()}")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


def settings(root: Path, cache: Path, **more: Any) -> Settings:
    given: dict[str, Any] = {
        "cache_dir": cache,
        "state_dir": root / "state",
        "keeper_seconds": 3600.0,
        "max_used_percent": 100.0,
        "input_days": 0.0,  # what `fill` makes is old, and the first look at the limits comes at any time
        "retry_first_seconds": 0.01,
        "job_grace_seconds": 1.0,
    }
    return Settings(**(given | more))


def job(*urls: str) -> JobSpec:
    return JobSpec(("/bin/sh", "-c", "cat inputs/* | sha256sum"), tuple(JobInput(url) for url in urls))


def printed(server: JobServer, name: str) -> str:
    view = server.jobs.wait(name, PATIENCE)
    assert view.state is JobState.DONE, (view, server.jobs.job(name).inputs)
    return server.jobs.log_file(name, "stdout").read_text().split()[0]


def fill(server: JobServer, count: int) -> list[str]:
    """So many megabytes of files that nobody needs, the first one the longest unused."""
    for number in range(count):
        server.cache.put(f"old/{number}", os.urandom(MEGABYTE))
        entry = server.cache.root / "entries"
        for path in entry.rglob("*.json"):
            if f'"old/{number}"' in path.read_text():
                os.utime(path, (number + 1, number + 1))
    keys = [f"old/{number}" for number in range(count)]
    # The server's own walk may have seen some while they were young, and of two times the later one counts.
    server.cache_site.catalogue.drop(map(key_digest, keys))
    for _ in server.cache_site.files.rebuild():
        pass
    return keys


def purge(server: JobServer, wanted: Purge) -> Purged:
    running = server.cache_site.eviction.purge(wanted)
    while True:
        try:
            next(running)
        except StopIteration as end:
            purged: Purged = end.value
            return purged


def kept(server: JobServer, keys: list[str]) -> list[str]:
    return [key for key in keys if server.cache.lookup(key) is not None]


@pytest.mark.parametrize("farm", ["threads", "process", "aio"])
def test_room_is_made_before_a_download_that_needs_it(
    tmp_path: Path, small_disk: Path, origin: Origin, farm: str
) -> None:
    data = os.urandom(4 * MEGABYTE)
    url = origin.serve("/large.dat", content(data, etag='"1"'))
    with JobServer(settings(tmp_path, small_disk / "c", farm=farm)) as server:
        old = fill(server, 10)
        (name,) = server.jobs.submit([job(url)])
        assert printed(server, name) == sha256(data).hexdigest()
        left = kept(server, old)
        assert left == old[-len(left) :], "the longest unused went"
        assert 5 <= len(left) <= 8, "no more went than was needed"
        tries = server.jobs.job(name).inputs[0].tries
        assert tries <= 3, "and the fetch did not try in vain meanwhile"


def test_a_fetch_for_which_no_room_can_be_made_waits_and_says_why_and_goes_on_by_itself(
    tmp_path: Path, small_disk: Path, origin: Origin
) -> None:
    data = os.urandom(6 * MEGABYTE)
    url = origin.serve("/large.dat", content(data, etag='"1"'))
    with JobServer(settings(tmp_path, small_disk / "c", retry_deadline_seconds=0.001)) as server:
        old = fill(server, 9)
        pins = [server.cache_site.pins.pin(key, None, reason="paper", owner="ada") for key in old]
        (name,) = server.jobs.submit([job(url)])

        def waits() -> bool:
            error = server.jobs.job(name).inputs[0].error or {}
            return "pinned" in str(error.get("cause"))

        until(waits, "the fetch says that pins hold the room", PATIENCE)
        shown = server.jobs.job(name)
        assert shown.state is JobState.WAITING
        assert shown.inputs[0].error is not None
        assert shown.inputs[0].error["what"] == "waits for 6.3MB of room"
        assert "9.5MB pinned" in shown.inputs[0].error["cause"]
        limits = server.cache_site.eviction.limits()
        assert limits.waiting_bytes == 6 * MEGABYTE
        assert "pinned" in limits.waiting_for
        assert kept(server, old) == old

        for pin in pins:
            server.cache_site.pins.unpin(pin.id)
        purged = purge(server, Purge(urls=(old[0],)))  # anything that is freed lets it try again
        assert purged.bytes == MEGABYTE
        assert printed(server, name) == sha256(data).hexdigest()
        assert server.cache_site.eviction.limits().waiting_bytes == 0


def test_what_other_jobs_wait_for_is_not_evicted_to_make_room(
    tmp_path: Path, small_disk: Path, origin: Origin
) -> None:
    first, large = os.urandom(3 * MEGABYTE), os.urandom(8 * MEGABYTE)
    urls = origin.serve("/first.dat", content(first, etag='"1"')), origin.serve("/large.dat", content(large))
    with JobServer(settings(tmp_path, small_disk / "c")) as server:
        spec = job(urls[0])
        (patient,) = server.jobs.submit([JobSpec(spec.command, spec.inputs, after=("go",))])
        until(lambda: server.jobs.job(patient).inputs[0].state == "ready", "its input is there", PATIENCE)
        old = fill(server, 6)
        (name,) = server.jobs.submit([job(urls[1])])
        assert printed(server, name) == sha256(large).hexdigest()
        assert kept(server, old) == []
        before = origin.seen("/first.dat")
        server.jobs.meet("go")
        assert printed(server, patient) == sha256(first).hexdigest()
        assert origin.seen("/first.dat") == before, "it was not fetched again"


def test_a_job_whose_input_was_evicted_all_the_same_fetches_it_again(tmp_path: Path, origin: Origin) -> None:
    data = os.urandom(100_000)
    url = origin.serve("/run.dat", content(data, etag='"1"'))
    with JobServer(settings(tmp_path, tmp_path / "c")) as server:
        spec = job(url)
        (patient,) = server.jobs.submit([JobSpec(spec.command, spec.inputs, after=("go",))])
        until(lambda: server.jobs.job(patient).inputs[0].state == "ready", "its input is there", PATIENCE)
        server.cache_site.eviction.needed = tuple  # as on another host, which does not know
        for _ in server.cache_site.files.rebuild():
            pass
        assert purge(server, Purge(urls=(url,))).bytes == len(data)
        server.jobs.meet("go")
        assert printed(server, patient) == sha256(data).hexdigest()
        assert len(origin.seen("/run.dat")) == 2


def failing_once(
    call: Callable[..., object], number: int, applies: Callable[..., bool], at: int
) -> Callable[..., object]:
    """`call`, which fails with errno `number` the `at`-th time that it applies."""
    count = [0]
    lock = threading.Lock()

    def fail(*args: object, **more: object) -> object:
        if applies(*args):
            with lock:
                count[0] += 1
                fails = count[0] == at
            if fails:
                raise OSError(number, os.strerror(number), str(args[0]))
        return call(*args, **more)

    return fail


def to_partial(*args: object) -> bool:
    return any(isinstance(arg, str) and arg.endswith(".part") for arg in args)


def is_private(fd: object, *_: object) -> bool:
    try:
        return Path(f"/proc/self/fd/{fd}").readlink().suffix == ".part"
    except OSError:
        return False


STEPS: dict[str, tuple[str, Callable[..., bool], int]] = {
    "create": ("open", to_partial, 1),
    "write": ("pwrite", is_private, 2),
    "fsync": ("fsync", is_private, 1),
    "close": ("close", is_private, 1),
    "link": ("link", to_partial, 1),
}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", STEPS)
def test_a_disk_or_quota_that_is_full_at_any_step_makes_the_fetch_wait_until_something_was_evicted(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    data = os.urandom(3 * BLOCK_BYTES + 1)
    url = origin.serve("/run.dat", content(data, etag='"1"'))
    name, applies, at = STEPS[step]
    with JobServer(settings(tmp_path, tmp_path / "c", retry_attempts=1)) as server:
        old = fill(server, 6)
        monkeypatch.setattr(os, name, failing_once(getattr(os, name), number, applies, at))
        (waiting,) = server.jobs.submit([job(url)])
        assert printed(server, waiting) == sha256(data).hexdigest(), "one refusal was no try"
        assert len(kept(server, old)) < len(old), "room was made although the disk says that there is some"
        assert list((server.cache.root / "partial").rglob("*.part")) == []
        sent = origin.seen("/run.dat")[-1].sent
        kept_bytes = sent < len(data)
        assert kept_bytes == (step in {"write", "link"}), (
            "what is known to be stored is kept, the rest is dropped"
        )


def test_eviction_does_not_keep_jobs_from_being_dispatched(tmp_path: Path) -> None:
    with JobServer(settings(tmp_path, tmp_path / "c")) as server:
        for number in range(800):
            server.cache.put(f"old/{number}", str(number).encode())
        for _ in server.cache_site.files.rebuild():
            pass
        gone: list[Purged] = []
        working = threading.Thread(target=lambda: gone.append(purge(server, Purge(to_size=0))))
        working.start()
        slowest, rounds = 0.0, 0
        while working.is_alive() or not rounds:
            began = time.monotonic()
            (name,) = server.jobs.submit([JobSpec(("/bin/true",))])
            assert server.jobs.wait(name, PATIENCE).state is JobState.DONE
            slowest, rounds = max(slowest, time.monotonic() - began), rounds + 1
        working.join()
        assert gone[0].files == 800
        assert slowest < 5.0


def test_a_keeper_that_has_nothing_to_do_uses_no_time(tmp_path: Path) -> None:
    with JobServer(settings(tmp_path, tmp_path / "c")) as server:
        keeper = server._keeper
        until(lambda: server.cache_site.eviction.limits().looked_at is not None, "it has looked", PATIENCE)
        (thread,) = (t for t in threading.enumerate() if t is keeper._thread)
        clock = time.pthread_getcpuclockid(thread.ident or 0)
        before = time.clock_gettime(clock)
        for _ in range(20):
            (name,) = server.jobs.submit([JobSpec(("/bin/true",))])
            server.jobs.wait(name, PATIENCE)
        assert time.clock_gettime(clock) - before < 0.01


@pytest.mark.parametrize("farm", ["threads", "process", "aio"])
@pytest.mark.parametrize("limit", [0, 3 * MEGABYTE])
def test_a_file_that_can_never_fit_fails_at_once_and_nothing_is_evicted_for_it(
    tmp_path: Path, small_disk: Path, origin: Origin, farm: str, limit: int
) -> None:
    size = 30 * MEGABYTE if not limit else 4 * MEGABYTE
    url = origin.serve("/large.dat", content(os.urandom(size), etag='"1"'))
    with JobServer(settings(tmp_path, small_disk / "c", farm=farm, max_cache_bytes=limit)) as server:
        old = fill(server, 2)
        (name,) = server.jobs.submit([job(url)])
        view = server.jobs.wait(name, PATIENCE)
        assert view.state is JobState.FAILED
        error = server.jobs.job(name).inputs[0].error
        assert error is not None
        assert error["code"] == "cache-too-small", error
        assert error["remedy"] == ("raise that limit" if limit else "use a larger file system for cache_dir")
        assert ("max_cache_bytes" if limit else "its file system holds") in error["cause"]
        assert kept(server, old) == old
    assert not [path for path in (small_disk / "c" / "partial").rglob("*") if path.is_file()]


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    needs(os.geteuid() == 0, "root, to mount a file system with few inodes")
    path = tmp_path / "few"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=700,mode=755", "none", str(path)]
    done = subprocess.run(mount, capture_output=True, check=False)
    needs(done.returncode == 0, f"the right to mount: {done.stderr.decode()}")
    yield path
    subprocess.run(["umount", path], check=True)


def test_inodes_are_made_free_like_bytes_and_waited_for_with_the_reason(
    tmp_path: Path, few_inodes: Path, origin: Origin
) -> None:
    data = os.urandom(2 * MEGABYTE)
    url = origin.serve("/run.dat", content(data, etag='"1"'))
    more = {"shards": "flat", "min_free_inodes": 450, "retry_deadline_seconds": 0.001}
    with JobServer(settings(tmp_path, few_inodes / "c", **more)) as server:
        for number in range(140):
            server.cache.put(f"old/{number}", f"body {number}".encode())
        for _ in server.cache_site.files.rebuild():
            pass
        for number in range(140):  # as jobs do; in memory a link takes an inode too
            held = server.cache.object_path(sha256(f"body {number}".encode()).hexdigest())
            (few_inodes / f"held{number}").hardlink_to(held)
        (name,) = server.jobs.submit([job(url)])

        def waits() -> bool:
            error = server.jobs.job(name).inputs[0].error
            return error is not None and "inodes too few" in str(error["cause"])

        until(waits, "the fetch says that it waits for inodes", PATIENCE)
        view = server.cache_site.eviction.limits()
        assert (view.inodes, view.limits.min_free_inodes) == (700, 450)
        assert view.free_inodes < 450
        assert "inodes too few" in view.waiting_for
        for number in range(140):
            (few_inodes / f"held{number}").unlink()
        server.cache_site.eviction.freed()
        assert printed(server, name) == sha256(data).hexdigest()
        assert 80 < len(server.cache) < 140, "no more went than was needed"
