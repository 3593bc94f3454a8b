"""What a probe finds on real file systems, and what it says when a part of one is missing or lies."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from stager.cache.layout import PROBE
from stager.cache.mounts import Mount
from stager.cache.owner import here
from stager.cache.probe import Finding, ProbeReport, Verdict, costs, features, probe, races, surroundings
from stager.cache.probe.advice import advice
from stager.cache.probe.workplace import FOREIGN_SECONDS
from stager.cache.store import FileCache
from stager.errors import NotFoundError
from stager.settings import Settings
from tests.support.commandline import Here
from tests.support.needs import needs

DEAD = f"{here()}-999999999-1-0"
ELSEWHERE = "other-00000000-1-1-0"
RACES = ("exclusive create", "hard link as claim", "rename as claim", "rename over a file")


def nfs(*options: str) -> Mount:
    return Mount("/data", "nfs4", "srv:/export", ("rw", "vers=4.1", *options))


@pytest.fixture
def stager(capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(capsys)


@pytest.mark.parametrize("memory", [False, True], ids=["disk", "memory"])
def test_a_local_file_system_is_fit_and_nothing_is_left_behind(tmp_path: Path, *, memory: bool) -> None:
    if memory:
        needs(os.access("/dev/shm", os.W_OK), "/dev/shm")
        directory = Path("/dev/shm") / f"probe-{os.getpid()}"
        directory.mkdir()
    else:
        directory = tmp_path
    try:
        report = probe(directory)
        assert not [one for one in report.findings if one.verdict is Verdict.UNFIT], report
        assert all(report.finding(name).verdict is Verdict.OK for name in RACES)
        assert report.finding("hard links").value is True
        assert report.finding("create, write, fsync, close").value > 0
        assert report.finding("rename over a file").value["reads"] > 0
        assert list(directory.iterdir()) == []
    finally:
        if memory:
            directory.rmdir()


def test_what_takes_two_hosts_is_not_claimed_by_one(tmp_path: Path) -> None:
    stale = probe(tmp_path).finding("stale look-ups")
    assert (stale.verdict, "second host" in stale.why + stale.measured) == (Verdict.NOT_MEASURED, True)


def test_a_quick_probe_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(races, "contest", None)
    report = probe(tmp_path, quick=True)
    assert report.finding("hard links").verdict is Verdict.OK
    assert not {one.name for one in report.findings} & set(RACES)


def test_a_cache_in_use_can_be_probed_and_is_unchanged(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c")
    cache.put("k", b"data")
    before = sorted(cache.root.rglob("*"))
    probe(cache.root, quick=True)
    assert sorted(cache.root.rglob("*")) == before


def test_without_hard_links_it_says_what_a_cache_loses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    report = probe(tmp_path)
    assert report.verdict is Verdict.LIMITED
    assert "symbolic links" in report.finding("hard links").why
    assert report.finding("hard link as claim").verdict is Verdict.NOT_MEASURED
    assert report.finding("files without a name").value is False
    assert report.finding("rename as claim").verdict is Verdict.OK
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "number", "name", "says"),
    [
        ("utime", errno.EIO, "times that are set", "Input/output error"),
        ("rename", errno.ENOSPC, "rename", "no room left"),
        ("fsync", errno.EDQUOT, "create, write, fsync, close", "quota"),
        ("unlink", errno.EROFS, "unlink", "check the mount"),
    ],
)
def test_an_error_of_one_question_is_its_answer_and_the_others_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, name: str, says: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        report = probe(tmp_path, quick=True)
    assert report.verdict is Verdict.UNFIT
    assert says in report.finding(name).measured + report.finding(name).why
    assert report.finding("longest name").verdict is Verdict.OK


def test_a_time_that_is_not_kept_is_unfit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "utime", lambda *_, **__: None)
    assert features.times(str(tmp_path)).verdict is Verdict.UNFIT


@pytest.mark.parametrize(("bytes_", "verdict"), [(100, Verdict.UNFIT), (200, Verdict.LIMITED)])
def test_short_names_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_: int, verdict: Verdict
) -> None:
    make = features._made

    def made(path: str, content: bytes = b"") -> str:
        if len(Path(path).name) > bytes_:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return make(path, content)

    monkeypatch.setattr(features, "_made", made)
    found = features.longest_name(str(tmp_path))
    assert (found.value, found.verdict) == (bytes_, verdict)


def test_names_that_fold_case_or_change_their_form_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "exists", lambda _: True)
    assert features.case(str(tmp_path)).verdict is Verdict.LIMITED
    monkeypatch.setattr(os, "listdir", lambda _: ["e\u0301"])
    assert features.unicode_names(str(tmp_path)).value == "changed"


def test_a_lock_that_keeps_nobody_out_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(features.LOCKS, "flock", lambda _: None)
    found = features.file_locks(str(tmp_path))
    assert (found.verdict, found.value) == (Verdict.LIMITED, {"flock": "keeps nobody out", "fcntl": "works"})


@pytest.mark.parametrize("won", [[[0, 1], [1]], [[0], []]], ids=["two winners", "no winner"])
def test_a_name_without_exactly_one_winner_is_unfit(won: list[list[int]]) -> None:
    assert races.judged_winners("create", won, 2, "two processes").verdict is Verdict.UNFIT
    assert races.judged_winners("create", [[0], [1]], 2, "two processes").verdict is Verdict.OK


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ({"torn": 1}, Verdict.UNFIT),
        ({"missing": 1}, Verdict.UNFIT),
        ({"stale": 1}, Verdict.OK),
    ],
)
def test_torn_and_missing_reads_are_unfit_and_repeated_ones_are_not(
    answer: dict[str, int], verdict: Verdict
) -> None:
    whole = {"reads": 9, "torn": 0, "missing": 0, "stale": 0}
    assert races.judged_reads([whole, whole | answer]).verdict is verdict


def test_a_reader_of_a_file_that_is_written_in_place_meets_torn_versions(tmp_path: Path) -> None:
    """The reader itself: it would find what it is there for."""
    from stager.cache.probe import contestant

    (tmp_path / "t").write_bytes(b"\0" * 99 + b"\1")
    found = contestant.read(str(tmp_path), "me", 0)
    assert found["torn"] == found["reads"]
    (tmp_path / "t").write_bytes(bytes([contestant.LAST]) * contestant.BLOCK)
    assert contestant.read(str(tmp_path), "me", 60) == {"reads": 1, "torn": 0, "missing": 0, "stale": 0}


def test_a_contestant_that_fails_is_an_error_that_names_the_cause(tmp_path: Path) -> None:
    task = {"action": "create", "work": str(tmp_path / "none" / "there"), "me": "1", "count": 1}
    assert races.contest([task]) == [{"won": []}]
    with pytest.raises(OSError, match="Not a directory"):
        races.contest([task | {"work": __file__}])


def test_slow_steps_are_named_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "SLOW_WRITE_MS", 0.0)
    found = costs.durable_write(str(tmp_path))
    assert found.verdict is Verdict.SLOW
    (set_,) = advice(None, {found.name: found})
    assert set_.name == "fetch_threads"


@pytest.mark.parametrize(
    ("mount", "verdict", "says"),
    [
        (nfs("hard"), Verdict.OK, "vers=4.1"),
        (nfs("soft"), Verdict.LIMITED, "soft"),
        (nfs("hard", "noac"), Verdict.SLOW, "noac"),
        (Mount("/", "ext4", "/dev/sda", ("ro",)), Verdict.UNFIT, "read-only"),
        (None, Verdict.NOT_MEASURED, "kernel"),
    ],
)
def test_the_mount_is_judged_by_its_options(mount: Mount | None, verdict: Verdict, says: str) -> None:
    found = surroundings.file_system(mount)
    assert found.verdict is verdict
    assert says in found.measured + found.why


def test_quotas_of_the_mount_are_named() -> None:
    assert surroundings.quota(Mount("/", "xfs", "/dev/sda", ("rw", "usrquota"))).value == ["usrquota"]
    assert surroundings.quota(Mount("/", "xfs", "/dev/sda", ("rw", "noquota"))).value == []


def test_what_is_recommended_for_nfs_are_settings_that_exist_and_options_that_are_missing() -> None:
    def given(mount: Mount) -> dict[str, str]:
        return {one.name: one.value for one in advice(mount, {})}

    assert given(nfs("hard", "lookupcache=positive", "local_lock=none")).keys() == {"state_dir"}
    found = given(nfs("soft", "noac", "nolock"))
    assert found | {"hard": "", "lookupcache": "positive", "ac": "", "local_lock": "none"} == found


def test_every_recommended_setting_exists() -> None:
    slow = Finding("create, write, fsync, close", Verdict.SLOW, "", value=99.0)
    room = Finding("free space", Verdict.OK, "", value={"free": 1, "total": 1000})
    found = list(advice(nfs(), {slow.name: slow, room.name: room}))
    names = {one.name for one in found if one.kind == "setting"}
    assert names == {"min_free_bytes", "fetch_threads", "state_dir"}
    assert names <= set(Settings.model_fields)


def test_the_worst_finding_counts_and_what_was_not_measured_does_not() -> None:
    def report(*verdicts: Verdict) -> Verdict:
        return ProbeReport("/", tuple(Finding("x", verdict, "") for verdict in verdicts), ()).verdict

    assert report(Verdict.OK, Verdict.NOT_MEASURED) is Verdict.OK
    assert report(Verdict.OK, Verdict.LIMITED, Verdict.SLOW) is Verdict.SLOW
    assert report(Verdict.SLOW, Verdict.UNFIT, Verdict.LIMITED) is Verdict.UNFIT


@pytest.mark.parametrize(
    ("name", "age", "stays"),
    [
        (DEAD, 0, False),
        (f"{DEAD}.card", 0, False),
        (ELSEWHERE, 60, True),
        (ELSEWHERE, FOREIGN_SECONDS + 60, False),
        (f"{ELSEWHERE}.card", FOREIGN_SECONDS + 60, False),
    ],
)
def test_what_a_dead_probe_left_goes_with_the_next_one(
    tmp_path: Path, name: str, age: float, *, stays: bool
) -> None:
    left = tmp_path / f"{PROBE}{name}"
    if name.endswith(".card"):
        left.touch()
    else:
        left.mkdir()
        (left / "file").touch()
    moment = left.stat().st_mtime - age
    os.utime(left, (moment, moment))
    probe(tmp_path, quick=True)
    assert left.exists() is stays


def test_what_a_dead_probe_left_does_not_make_a_directory_foreign(tmp_path: Path) -> None:
    (tmp_path / f"{PROBE}{DEAD}").mkdir()
    FileCache(tmp_path).put("k", b"data")


def test_a_directory_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        probe(tmp_path / "none")
    with pytest.raises(NotFoundError, match="not a directory"):
        probe(__file__)
    assert list(tmp_path.iterdir()) == []


# -- the command ---------------------------------------------------------------------------------


def test_the_command_says_a_line_per_question_and_what_it_comes_to(stager: Here, tmp_path: Path) -> None:
    done = stager("cache", "probe", "--quick", tmp_path)
    assert done.code == 0, done
    rows = [line.split("\t") for line in done.lines]
    assert ["ok", "hard links"] in [row[:2] for row in rows]
    assert done.error == f"stager: {tmp_path} is fit for a cache"


def test_the_command_as_json_is_one_object_with_everything(stager: Here, tmp_path: Path) -> None:
    found: dict[str, Any] = json.loads(stager("cache", "probe", "--json", "--quick", tmp_path).out)
    assert found.keys() == {"directory", "verdict", "findings", "recommendations"}
    assert found["directory"] == str(tmp_path)
    assert {"name", "verdict", "measured", "why", "value"} == found["findings"][0].keys()


def test_the_configured_cache_is_probed_unless_another_directory_is_named(
    stager: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGER_CACHE_DIR", str(tmp_path))
    assert json.loads(stager("cache", "probe", "--json", "--quick").out)["directory"] == str(tmp_path)


def test_the_status_says_fit_limited_or_unfit(
    stager: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "SLOW_WRITE_MS", 0.0)
    done = stager("cache", "probe", "--quick", tmp_path)
    assert (done.code, done.error.endswith("usable for a cache, with the limits above")) == (1, True)
    monkeypatch.setattr(os, "utime", lambda *_, **__: None)
    done = stager("cache", "probe", "--quick", tmp_path)
    assert (done.code, done.error.endswith("not fit for a cache")) == (2, True)
    assert stager("cache", "probe", tmp_path / "none").code == 3
