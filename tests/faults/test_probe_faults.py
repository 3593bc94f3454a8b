"""A probe that is interrupted or killed, and mounts on which little or nothing can be written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stager.cache.layout import PROBE
from stager.cache.probe import Verdict, probe
from stager.cache.probe.peer import PEER_QUESTIONS
from tests.support.commandline import Ended, end, run, running
from tests.support.needs import needs
from tests.support.until import until

HOLDS = """
import sys, threading
from stager.cache.probe import races, probe

def held(tasks):
    print("held", flush=True)
    threading.Event().wait()

races.contest = held
probe(sys.argv[1])
"""


def left(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def waiting_for_a_peer(directory: Path) -> bool:
    return any(name.endswith(".card") for name in left(directory))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_probe_that_is_interrupted_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with running("cache", "probe", "--with-peer", tmp_path) as process:
        until(lambda: waiting_for_a_peer(tmp_path), "the probe waits for the other host")
        done = end(process, number)
    assert done.code == 130
    assert left(tmp_path) == []


def test_what_a_killed_probe_left_is_cleared_by_the_next_one(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, tmp_path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()
    (name,) = left(tmp_path)
    assert name.startswith(PROBE)
    probe(tmp_path, quick=True)
    assert left(tmp_path) == []


def test_a_probe_that_is_at_work_is_left_alone_by_another(tmp_path: Path) -> None:
    with running("cache", "probe", "--with-peer", tmp_path) as process:
        until(lambda: waiting_for_a_peer(tmp_path), "the probe waits for the other host")
        before = left(tmp_path)
        probe(tmp_path, quick=True)
        assert sorted(left(tmp_path)) == sorted(before)
        end(process, signal.SIGINT)


def test_two_probes_find_each_other_and_report_the_same(tmp_path: Path) -> None:
    """On one host: what takes two of them is not claimed."""

    def one(_: int) -> Ended:
        return run("cache", "probe", "--json", "--with-peer", "--peer-seconds", "25", tmp_path)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(one, range(2))
    findings = [
        {one["name"]: one for one in json.loads(done.out)["findings"] if one["name"] in PEER_QUESTIONS}
        for done in (first, second)
    ]
    assert findings[0] == findings[1]
    assert findings[0].keys() == set(PEER_QUESTIONS)
    verdicts = {name: one["verdict"] for name, one in findings[0].items()}
    assert verdicts.pop("stale look-ups") == "not measured"
    assert set(verdicts.values()) == {"ok"}, findings[0]
    assert left(tmp_path) == []


def test_a_peer_that_does_not_come_is_said_so(tmp_path: Path) -> None:
    report = probe(tmp_path, quick=True, peer_seconds=0.1)
    assert {report.finding(name).verdict for name in PEER_QUESTIONS} == {Verdict.NOT_MEASURED}
    assert "no second host joined" in report.finding("stale look-ups").measured
    assert left(tmp_path) == []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB and 40 inodes."""
    needs(os.geteuid() == 0, "root, to mount a small file system")
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=40", "none", path], capture_output=True, check=False
    )
    needs(done.returncode == 0, f"the right to mount: {done.stderr.decode()}")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_read_only_mount_is_unfit_and_says_so_once(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    report = probe(disk)
    unfit = {one.name: one for one in report.findings if one.verdict is Verdict.UNFIT}
    assert unfit.keys() == {"file system", "writable"}
    assert "read-only" in unfit["file system"].why
    assert report.finding("hard links").verdict is Verdict.NOT_MEASURED


def test_a_full_disk_is_unfit_and_the_probe_leaves_nothing_on_it(disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (disk / "ballast").write_bytes(bytes(2 << 20))
    report = probe(disk)
    assert report.finding("free space").verdict is Verdict.UNFIT
    assert "no room left" in report.finding("create, write, fsync, close").why
    assert report.finding("hard links").verdict is Verdict.OK
    assert left(disk) == ["ballast"]


def test_a_disk_without_inodes_is_unfit_and_the_probe_leaves_nothing_on_it(disk: Path) -> None:
    count = os.statvfs(disk).f_ffree
    for number in range(count):
        (disk / str(number)).touch()
    with pytest.raises(OSError, match="No space"):
        (disk / "more").touch()
    (disk / "0").unlink()
    report = probe(disk, quick=True)
    assert report.finding("free inodes").verdict is Verdict.LIMITED
    assert report.verdict is Verdict.UNFIT
    assert len(left(disk)) == count - 1
