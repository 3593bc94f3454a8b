"""Verification end to end: from the command line, without and with a server."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from stager import steps
from stager.cache.entries import EntryFiles
from stager.cache.migrate import Migration
from stager.cache.objects import MARK
from stager.cache.orphans import YOUNG_SECONDS, NamedObjects, Orphan, Orphans
from stager.cache.owner import here
from stager.cache.quarantine import Quarantine
from stager.cache.stamp import file_system_time
from stager.cache.store import FileCache
from stager.cache.trash import DAMAGED, Trash
from stager.cache.tree import open_tree
from stager.client import Client
from stager.clock import SystemClock
from stager.errors import CacheError, CacheGoneError, CacheIOError, ConflictError
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.model.verify import Problem, VerifyReport, VerifyRequest
from stager.service.cache_site import CacheSite
from stager.service.scrub_schedule import ScrubSchedule
from stager.service.verify_orphans import clear_orphans
from stager.settings import Settings
from stager.wiring.cache import build_cache_site
from stager.wiring.server import JobServer
from tests.support.api import ask
from tests.support.commandline import Here, on_terminal
from tests.support.origin import Origin, content
from tests.support.processes import ServerProcess, environment
from tests.support.until import until

DEAD = f"{here()}-999999999-1-0"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", state_dir=tmp_path / "state", verify_days=0)


@pytest.fixture
def site(settings: Settings) -> Iterator[CacheSite]:
    settings.state_dir.mkdir()
    site = build_cache_site(settings)
    yield site
    site.close()


@pytest.fixture
def stager(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.setenv("STAGER_CACHE_DIR", str(settings.cache_dir))
    monkeypatch.setenv("STAGER_STATE_DIR", str(settings.state_dir))
    return Here(capsys)


def fill(cache: FileCache, count: int = 20) -> list[str]:
    return sorted(cache.put(f"key{n}", b"%d" % n * 100).object for n in range(count))


def damage(path: Path) -> Path:
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)
    path.chmod(0o444)
    return path


def old(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(b"x")
    os.utime(path, (time.time() - 2 * YOUNG_SECONDS,) * 2, follow_symlinks=False)
    return path


def walk(site: CacheSite) -> None:
    for _ in site.files.rebuild():
        pass


def verify(site: CacheSite, **request: object) -> VerifyReport:
    running = site.verification.verify(VerifyRequest(**request))  # type: ignore[arg-type]
    while True:
        try:
            next(running)
        except StopIteration as end:
            report: VerifyReport = end.value
            return report


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())


# -- without a server ----------------------------------------------------------------------------


def test_a_sound_cache_is_said_to_be_sound(site: CacheSite) -> None:
    objects = fill(site.cache)
    report = verify(site)
    assert (report.objects, report.sound, report.found) == (20, 20, 0)
    assert report.bytes == sum(site.cache.object_path(sha).stat().st_size for sha in objects)
    assert report.ended_at is not None
    assert report.share == 1.0
    assert site.verification.last_verification() == report


def test_without_repair_a_damaged_object_is_only_told(site: CacheSite) -> None:
    fill(site.cache)
    path = damage(site.cache.path("key7"))
    walk(site)
    before = files(site.cache.root)
    report = verify(site)
    (finding,) = report.findings
    assert (finding.problem, finding.path, finding.keys) == (Problem.DAMAGED, str(path), ("key7",))
    assert not finding.repaired
    assert files(site.cache.root) == before


@pytest.mark.parametrize("known", [True, False], ids=["catalogue", "no catalogue"])
def test_with_repair_it_is_taken_away_with_its_entries(site: CacheSite, *, known: bool) -> None:
    fill(site.cache)
    site.cache.put("same bytes", b"7" * 100)
    path = damage(site.cache.path("key7"))
    if known:
        walk(site)
    report = verify(site, repair=True)
    assert [finding.repaired for finding in report.findings if finding.problem is Problem.DAMAGED] == [True]
    assert not path.exists()
    now = FileCache(site.cache.root)  # one that has answered a hit a moment ago believes in it for a second
    assert not now.contains("key7")
    assert not now.contains("same bytes")
    assert site.cache.path("key8").read_bytes() == b"8" * 100
    (kept,) = (site.cache.root / "trash").rglob("damaged-*")
    assert kept.name == f"damaged-{path.name}"
    left = [name for name in files(site.cache.root) if path.name in name and not name.startswith("trash")]
    assert left == []
    assert len(list((site.cache.root / "entries").rglob("*.json"))) == 19
    site.cache.put("key7", b"7" * 100)
    assert verify(site).found == 0


def test_an_entry_that_is_moved_to_another_layout_while_entries_are_looked_at_is_not_missed(
    site: CacheSite,
) -> None:
    """That of an object which was taken away by who was killed then: it goes however young it is."""
    fill(site.cache, 3)
    vacant = site.cache.put("vacant", b"vacant")
    trash = Trash(site.cache.tree, SystemClock())
    trash.throw(str(site.cache.path("vacant")), f"{DAMAGED}{vacant.object}")
    migration = Migration(site.cache.root, "flat")
    migration.announce()
    tree = open_tree(site.cache.root, "2+2")
    FileCache(site.cache.root).put("new", b"new")
    looking = clear_orphans(tree, EntryFiles(tree), Quarantine(tree, trash), repair=True)
    for number, _ in enumerate(looking):
        if number == 0:  # one entry was looked at
            for _ in migration.move_entries():
                pass
    left = {json.loads(path.read_bytes())["key"] for path in (site.cache.root / "entries").rglob("*.json")}
    assert left == {"key0", "key1", "key2", "new"}


def test_an_orphan_that_somebody_stores_again_while_it_goes_stays(
    site: CacheSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    unnamed = orphans(site.cache)["object"]
    let_time_pass(monkeypatch)
    tree = open_tree(site.cache.root, "2+2")
    looking = Orphans(tree, EntryFiles(tree))
    looking.begin()
    (found,) = looking.objects(NamedObjects())
    other = FileCache(site.cache.root)

    def observer(step: str) -> None:
        if step == "evict.taken":
            other.put("result:j1/out", b"unnamed")

    steps.observe(observer)
    looking.remove(found)
    steps.observe(None)
    assert other.path("result:j1/out").read_bytes() == b"unnamed"
    assert unnamed.read_bytes() == b"unnamed"


def test_a_job_that_reads_damaged_bytes_is_named_and_keeps_them(site: CacheSite) -> None:
    entry = site.cache.put("key", b"data" * 100)
    held = site.cache.pin("job1", "input.dat", entry.object, entry.size)
    damage(site.cache.path("key"))
    report = verify(site, repair=True)
    assert report.findings[0].readers == ("job1 (input.dat)",)
    assert report.findings[0].repaired
    assert held.exists()
    site.cache.put("key", b"data" * 100)
    assert site.cache.pin("job2", "input.dat", entry.object, entry.size).read_bytes() == b"data" * 100


def test_an_input_that_is_a_symbolic_link_is_not_pulled_away(site: CacheSite) -> None:
    entry = site.cache.put("key", b"data" * 100)
    inputs = site.cache.job_dir("job1") / "inputs"
    (inputs / "input.dat").symlink_to(damage(site.cache.path("key")))
    (finding,) = verify(site, repair=True).findings
    assert not finding.repaired
    assert "job job1 has no other file" in finding.cause
    assert (inputs / "input.dat").stat().st_size == entry.size


def test_a_pinned_object_is_fetched_anew_and_is_held_again(site: CacheSite) -> None:
    site.cache.put("key", b"data" * 100)
    pin = site.pins.pin("key", reason="needed")
    damage(site.cache.path("key"))
    assert verify(site, repair=True).findings[0].repaired
    site.cache.put("key", b"data" * 100)
    assert [found.id for found in site.pins.pins("key")] == [pin.id]
    assert site.cache.path("key").read_bytes() == b"data" * 100


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets every read of an object fail so."""

    def fails(number: int) -> None:
        def preadv(*_: object) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "preadv", preadv)

    return fails


URL = "https://example.org/run%d.dat"


def test_what_the_disk_has_lost_is_taken_away_if_it_can_be_fetched_again(
    site: CacheSite, fail: Callable[[int], None]
) -> None:
    site.cache.put(URL % 1, b"data")
    walk(site)
    fail(errno.EIO)
    (finding,) = verify(site, repair=True).findings
    assert (finding.problem, finding.repaired) == (Problem.UNREADABLE, True)


@pytest.mark.parametrize("known", [True, False], ids=["catalogue", "no catalogue"])
@pytest.mark.parametrize("keys", [("result:j1/out",), (URL % 1, "result:j1/out"), ("put by hand",)])
def test_what_nothing_can_fetch_again_stays_though_it_can_not_be_read_now(
    site: CacheSite, fail: Callable[[int], None], keys: tuple[str, ...], *, known: bool
) -> None:
    for key in keys:
        site.cache.put(key, b"data")
    if known:
        walk(site)
    fail(errno.EIO)
    (finding,) = verify(site, repair=True).findings
    assert (finding.problem, finding.repaired) == (Problem.UNREADABLE, False)
    assert "nothing could fetch it again" in finding.cause
    assert FileCache(site.cache.root).path(keys[-1]).read_bytes() == b"data"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ETIMEDOUT, errno.ESTALE])
def test_trouble_of_this_process_costs_no_object(
    site: CacheSite, fail: Callable[[int], None], number: int
) -> None:
    for each in range(10):
        site.cache.put(URL % each, b"%d" % each)
    walk(site)
    before = files(site.cache.root)
    fail(number)
    with pytest.raises(CacheError, match=os.strerror(number)):
        verify(site, repair=True)
    assert files(site.cache.root) == before


def test_a_disk_that_fails_costs_twenty_objects_however_often_the_server_tries(
    site: CacheSite, fail: Callable[[int], None]
) -> None:
    for each in range(80):
        old(site.cache.object_path(site.cache.put(URL % each, b"%d" % each).object))
    walk(site)
    fail(errno.EIO)
    request = VerifyRequest(repair=True, threads=1)
    for _ in range(10):
        with pytest.raises(CacheIOError, match="see to the disk"):
            site.verification.verify_some(request, time.time() - YOUNG_SECONDS)
    assert len(list(site.cache)) > 60


ORPHANS = ["object", "entry", "temporary", "draft", "trash"]


def orphans(cache: FileCache) -> dict[str, Path]:
    """One of each kind, two hours old."""
    root = cache.root
    lost = cache.put("lost", b"lost")
    (entry,) = (path for path in (root / "entries").rglob("*.json") if lost.object in path.read_text())
    cache.object_path(lost.object).unlink()
    sha = sha256(b"unnamed").hexdigest()
    unnamed = root / "objects" / sha[:2] / sha[2:4] / sha
    unnamed.parent.mkdir(parents=True, exist_ok=True)
    unnamed.write_bytes(b"unnamed")
    return {
        "object": unnamed,
        "entry": old(entry),
        "temporary": old(root / "partial" / "aa" / f"{'a' * 64}.{DEAD}.tmp"),
        "draft": old(entry.with_name(f"{entry.name}.{DEAD}")),
        "trash": old(old(root / "trash" / "2024-01-01" / "f").parent),
    }


def let_time_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours, by the clock of the file system: a change of status can't be dated back."""
    monkeypatch.setattr(
        "stager.cache.orphans.file_system_time", lambda tree: file_system_time(tree) + 2 * YOUNG_SECONDS
    )


def test_what_is_left_over_is_told_and_cleared_away_on_request(
    site: CacheSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(site.cache, 5)
    there = orphans(site.cache)
    os.utime(there["trash"], (1, 1))
    let_time_pass(monkeypatch)
    counts = {
        "entry-without-object": 1,
        "object-without-entry": 1,
        "file-without-owner": 2,
        "trash-past-its-grace": 1,
    }
    assert verify(site).counts == counts
    assert all(path.exists() for path in there.values())
    report = verify(site, repair=True)
    assert (report.counts, report.repaired) == (counts, 5)
    assert not any(path.exists() for path in there.values())
    assert verify(site, repair=True).found == 0
    assert len(list(site.cache)) == 5


def test_what_is_young_is_left_alone(site: CacheSite) -> None:
    there = orphans(site.cache)
    for path in there.values():
        os.utime(path)
    assert verify(site, repair=True).found == 0
    assert all(path.exists() for path in there.values())


def test_an_old_object_that_is_published_again_is_young(
    site: CacheSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_time_pass(monkeypatch)
    entry = site.cache.put("key", b"data")
    site.cache.remove("key")
    path = Path(site.cache.publish_bytes("key", b"data", entry.object))
    os.utime(path, (1, 1))
    site.cache.publish_bytes("key", b"data", entry.object)
    assert path.stat().st_mtime > time.time() - 60


def test_an_old_object_that_is_linked_again_is_young(site: CacheSite, tmp_path: Path) -> None:
    entry = site.cache.put("key", b"data")
    path = old(site.cache.path("key"))
    (tmp_path / "file").write_bytes(b"data")
    with (tmp_path / "file").open("rb") as file:
        site.cache.link_object(file.fileno(), entry.object)
    assert path.stat().st_mtime > time.time() - 60


def test_an_object_that_gets_its_entry_while_others_are_looked_at_stays(
    site: CacheSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    unnamed = orphans(site.cache)["object"]
    let_time_pass(monkeypatch)  # and no renewal helps: as if the object were another user's
    found = Orphans.objects

    def objects(self: Orphans, named: NamedObjects) -> Iterator[Orphan]:
        site.cache.put("result:j1/out", b"unnamed")
        yield from found(self, named)

    monkeypatch.setattr(Orphans, "objects", objects)
    assert Problem.OBJECT not in verify(site, repair=True).counts
    assert unnamed.read_bytes() == b"unnamed"


def test_an_object_that_was_marked_as_shared_just_now_stays(
    site: CacheSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    unnamed = orphans(site.cache)["object"]
    let_time_pass(monkeypatch)
    mark = unnamed.with_name(unnamed.name + MARK)
    mark.touch()
    os.utime(mark, (time.time() + 2 * YOUNG_SECONDS,) * 2)
    assert Problem.OBJECT not in verify(site, repair=True).counts
    assert unnamed.exists()


def test_objects_that_somebody_holds_are_no_orphans(site: CacheSite, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = site.cache.put("key", b"data")
    site.cache.pin("job", "input", entry.object, entry.size)
    site.cache.remove("key")
    let_time_pass(monkeypatch)
    verify(site, repair=True)
    assert site.cache.object_path(entry.object).exists()


def test_an_interrupted_verification_is_gone_on_with(site: CacheSite) -> None:
    objects = fill(site.cache, 300)
    running = site.verification.verify(VerifyRequest(bytes_per_second=30_000, threads=1))
    for done in running:
        if done.objects >= 50:
            break
    running.close()
    half = site.verification.last_verification()
    assert half is not None
    assert half.ended_at is None
    assert 50 <= half.objects < 300
    assert half.after == objects[half.objects - 1]
    report = verify(site)
    assert (report.objects, report.sound, report.resumed) == (300, 300, 1)
    assert report.began_at == half.began_at
    assert verify(site).resumed == 0


def test_from_the_beginning_if_asked_for(site: CacheSite) -> None:
    fill(site.cache, 100)
    running = site.verification.verify(VerifyRequest(bytes_per_second=20_000, threads=1))
    next(running)
    running.close()
    assert verify(site, anew=True).objects == 100


def test_a_sample_is_so_many_of_the_objects_and_another_one_each_time(site: CacheSite) -> None:
    fill(site.cache, 400)
    counts = [verify(site, sample=0.25).objects for _ in range(3)]
    assert all(50 < count < 150 for count in counts)
    seeds = {VerifyReport("", 0.0, sample=0.25, seed=seed).is_drawn("0" * 64) for seed in (0, 1 << 31)}
    assert seeds == {True, False}


def test_it_is_as_slow_as_it_should_be(site: CacheSite) -> None:
    for number in range(10):
        site.cache.put(f"large{number}", os.urandom(100_000))
    began = time.monotonic()
    verify(site, bytes_per_second=1_000_000)
    assert 0.8 < time.monotonic() - began < 60


def test_there_is_one_verification_at_a_time(site: CacheSite) -> None:
    fill(site.cache)
    running = site.verification.verify(VerifyRequest(bytes_per_second=100))
    next(running)
    with pytest.raises(ConflictError, match="runs already"):
        verify(site)
    running.close()
    assert verify(site).objects == 20


def test_in_a_cache_that_goes_nothing_is_called_lost(site: CacheSite) -> None:
    fill(site.cache, 200)
    walk(site)
    running = site.verification.verify(VerifyRequest(bytes_per_second=20_000, threads=1, repair=True))
    next(running)
    away = site.cache.root.with_name("away")
    site.cache.root.rename(away)
    site.cache.root.mkdir()
    with pytest.raises(CacheGoneError):
        list(running)
    with pytest.raises(CacheGoneError):
        verify(site)
    assert list(site.cache.root.iterdir()) == []
    site.cache.root.rmdir()
    away.rename(site.cache.root)
    assert site.files.ls().total == 200
    report = verify(site, repair=True)
    assert (report.sound, report.found) == (200, 0)


# -- the command ---------------------------------------------------------------------------------


def test_the_command_tells_by_its_status_that_something_is_damaged(stager: Here, site: CacheSite) -> None:
    fill(site.cache)
    done = stager("cache", "verify")
    assert done.code == 0
    assert "20 objects" in done.out
    assert "all is as it should be" in done.out
    path = damage(site.cache.path("key3"))
    told = stager("cache", "verify")
    assert told.code == 1
    assert f"damaged\t{path}\t" in told.out
    assert "--repair" in told.error
    repaired = stager("cache", "verify", "--repair")
    assert repaired.code == 0
    assert "1 damaged; 1 put right" in repaired.out
    assert stager("cache", "verify", "--status").out == repaired.out
    assert stager("cache", "verify").code == 0


def test_as_json_it_is_one_report(stager: Here, site: CacheSite) -> None:
    fill(site.cache)
    damage(site.cache.path("key3"))
    done = stager("cache", "verify", "--json", "--rate", "100MB/s", "--threads", 1)
    report = json.loads(done.out)
    assert (report["objects"], report["counts"]) == (20, {"damaged": 1})
    assert VerifyReport.from_dict(report).findings[0].problem is Problem.DAMAGED


@pytest.mark.parametrize(
    ("option", "value"), [("--rate", "fast"), ("--sample", "0%"), ("--sample", "200%"), ("--threads", "-1")]
)
def test_values_that_make_no_sense_are_refused(
    stager: Here, site: CacheSite, option: str, value: str
) -> None:
    done = stager("cache", "verify", option, value)
    assert done.code == 2
    assert value in done.error
    assert site.verification.last_verification() is None


def test_nothing_was_verified_yet(stager: Here, site: CacheSite) -> None:
    assert site.verification.last_verification() is None
    assert stager("cache", "verify", "--status").code == 3


@pytest.mark.usefixtures("stager")
def test_on_a_terminal_there_is_a_bar(site: CacheSite) -> None:
    for number in range(8):
        site.cache.put(f"large{number}", os.urandom(200_000))
    code, drawn = on_terminal("cache", "verify", "--rate", "2MB/s", "--threads", 1)
    assert code == 0
    assert " of " in drawn
    assert "KiB/s" in drawn or "MiB/s" in drawn
    assert "left" in drawn


# -- with a server -------------------------------------------------------------------------------


def test_a_damaged_object_is_fetched_anew_for_the_jobs_that_wait(tmp_path: Path) -> None:
    settings = Settings(
        cache_dir=tmp_path / "cache", state_dir=tmp_path / "state", verify_days=0, retry_first_seconds=0.01
    )
    data = b"measured" * 1000
    with Origin() as origin, JobServer(settings) as server:
        url = origin.serve("/run.dat", content(data, etag='"1"'))
        (job,) = server.jobs.submit(
            [
                JobSpec(
                    ("/bin/sh", "-c", "cat inputs/run.dat > results/out"),
                    (JobInput(url),),
                    after=("go",),
                    results=("out",),
                )
            ]
        )
        until(lambda: server.jobs.job(job).inputs[0].size is not None, "the input is there")
        damage(server.cache.path(url))
        report = verify(server.cache_site, repair=True)
        (finding,) = report.findings
        assert (finding.repaired, finding.fetched_again) == (True, 1)
        server.jobs.meet("go")
        assert server.jobs.wait(job, 60).state is JobState.DONE
        _, file = server.jobs.open_result(job, "out")
        with file:
            assert file.read() == data
        assert len(origin.seen("/run.dat")) == 2
        assert "range" not in origin.seen("/run.dat")[1].headers
        assert "if-none-match" not in origin.seen("/run.dat")[1].headers


def test_the_server_verifies_what_is_due_on_its_own(site: CacheSite) -> None:
    objects = fill(site.cache, 30)
    walk(site)
    for sha in objects[:20]:
        old(site.cache.object_path(sha))
    damaged = damage(site.cache.object_path(objects[3]))
    old(damaged)
    schedule = ScrubSchedule(
        site.verification, SystemClock(), days=YOUNG_SECONDS / 86_400, bytes_per_second=10**9
    )
    schedule._pause = 0.0
    now = time.time()
    schedule.start()
    until(lambda: not site.catalogue.unverified(now - YOUNG_SECONDS), "all is verified")
    until(lambda: not damaged.exists(), "what is damaged is taken away")
    schedule.close()
    new = {row.object for row in site.catalogue.unverified(now)}
    assert new == set(objects[20:]), "what was stored just now is not read again"


def test_a_verification_that_somebody_asks_for_goes_before_the_servers_own(site: CacheSite) -> None:
    for sha in fill(site.cache, 50):
        old(site.cache.object_path(sha))
    walk(site)
    schedule = ScrubSchedule(
        site.verification, SystemClock(), days=YOUNG_SECONDS / 86_400, bytes_per_second=100
    )
    schedule._pause = 0.0
    schedule.start()
    until(lambda: site.verification.is_running, "the server verifies")
    assert verify(site).sound == 50
    schedule.close()


def test_over_http_progress_is_told_and_a_client_that_leaves_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ServerProcess(tmp_path) as server:
        for name, value in environment(server.root).items():
            monkeypatch.setenv(name, value)
        stager = Here(capsys)
        cache = FileCache(os.environ["STAGER_CACHE_DIR"])
        fill(cache, 100)
        damage(cache.path("key5"))
        assert stager("cache", "verify").code == 1
        repaired = stager("cache", "verify", "--repair", "--json")
        assert repaired.code == 0
        assert json.loads(repaired.out)["counts"] == {"damaged": 1}
        from stager.cli.connect import connected

        with connected() as client:
            running = client.cache.verify(VerifyRequest(bytes_per_second=2000))
            first = next(running)
            assert first.total is None or first.total >= first.bytes
            running.close()
            until(lambda: not running_now(client), "the server has noticed")
            half = client.cache.last_verification()
            assert half is not None
            assert half.ended_at is None
            report = finish(client.cache.verify())
            assert (report.objects, report.resumed) == (99, 1)
            list(client.cache.rebuild())
            finish(client.cache.verify())
            assert client.cache.show("key1").verified_at is not None


def running_now(client: Client) -> bool:
    return bool(ask(client, "GET", "cache/verify")["running"])


def finish(running: Iterator[object]) -> VerifyReport:
    while True:
        try:
            next(running)
        except StopIteration as end:
            report: VerifyReport = end.value
            return report


def test_a_server_that_stops_ends_a_verification_cleanly(tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path / "cache", state_dir=tmp_path / "state", verify_days=0)
    with JobServer(settings) as server:
        fill(server.cache, 100)
        running = server.cache_site.verification.verify(VerifyRequest(bytes_per_second=500))
        next(running)
        ended = threading.Thread(target=lambda: list(running))
        ended.start()
    ended.join(60)
    assert not ended.is_alive()
    assert server.cache_site.verification.last_verification().ended_at is None  # type: ignore[union-attr]
