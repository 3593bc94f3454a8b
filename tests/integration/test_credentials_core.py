"""A process that has a secret in clear and crashes leaves no core dump with it; others are as they were."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stager.cli.login import login_name
from stager.model.credential_scope import Scope
from stager.model.credentials import Kind, NewCredential
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.settings import Settings
from stager.wiring.credential_care import build_credential_service
from stager.wiring.server import JobServer
from tests.support.commandline import command
from tests.support.crashed import crash
from tests.support.origin import Origin, content
from tests.support.processes import environment
from tests.support.vault import basic, guarded, place

PATIENCE = 60.0
DATA = os.urandom(1 << 16)
READS_ITSELF = """
import ctypes, os, shutil, tempfile
from pathlib import Path
from stager.cache.mounts import MOUNTINFO
from stager.cache.store import FileCache
from stager.credentials.memory import keep_memory_private
from stager.farm.crew import wanted_cpu

def look():
    root = tempfile.mkdtemp()
    cache = FileCache(Path(root))
    entry = cache.put("https://a.example/b", b"data")
    path = Path(cache.object_path(entry.object))
    found = path.read_bytes() == b"data", wanted_cpu(), len(open(MOUNTINFO).readlines())
    shutil.rmtree(root)
    return found

look()  # all is imported that another user perhaps can't
if os.getuid() == 0:  # which may read everything
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # changing the user does the same
os.close(os.open("/proc/self/environ", os.O_RDONLY))
keep_memory_private()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
try:
    os.open("/proc/self/environ", os.O_RDONLY)
except PermissionError:
    print("refused")
print(*look())
"""
DUMPABLE = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture(autouse=True)
def _may_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cores are written as far as this machine lets them be, and where they are found."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    monkeypatch.chdir(tmp_path)
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def given(root: Path, origin: Origin, password: str, owner: str) -> None:
    settings = Settings(cache_dir=root / "cache", state_dir=root / "state")
    new = NewCredential(
        Scope(place(origin.base), "/guarded", owner, allow_http=True),
        Kind.BASIC,
        {"user": "ada", "password": password},
    )
    build_credential_service(settings).add(new)


@contextmanager
def started(root: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    with (root / "said").open("ab") as said:
        process = subprocess.Popen(
            words, env=os.environ | environment(root), stdout=said, stderr=said, cwd=root
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV])
def test_a_fetch_that_crashes_dumps_no_core_once_it_has_opened_a_credential(
    tmp_path: Path, origin: Origin, number: int
) -> None:
    password = f"canary-{os.urandom(9).hex()}"
    given(tmp_path, origin, password, login_name())
    half: dict[str, Any] = {"cut": len(DATA) // 2, "end": "hold"}
    origin.serve("/open", content(DATA, **half))
    origin.serve(
        "/guarded", guarded(DATA, lambda h: h.get("authorization") == basic("ada", password), **half)
    )
    dumped = {}
    for path in ("/open", "/guarded"):
        with started(tmp_path, *command("fetch", origin.url(path))) as process:
            origin.wait_for(path, 1, PATIENCE)
            dumped[path] = crash(process, number)
    with started(tmp_path, "sleep", "60") as other:
        assert dumped["/open"] == crash(other, number), "what has no secret is as any other process"
    assert not dumped["/guarded"]
    assert origin.seen("/guarded")[-1].headers["authorization"] == basic("ada", password)
    cores = [path for path in tmp_path.iterdir() if "core" in path.name]
    assert not [path for path in cores if password.encode() in path.read_bytes()]


def test_what_such_a_process_reads_of_itself_it_still_reads(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", READS_ITSELF],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    dumpable, environment_of, same, cpu, mounts = done.stdout.split()
    assert (dumpable, same) == ("0", "True")
    assert environment_of == "refused"
    assert float(cpu) > 0
    assert int(mounts) > 0


def test_the_jobs_of_a_server_that_opens_credentials_may_dump_theirs(tmp_path: Path, origin: Origin) -> None:
    url = origin.serve("/guarded", guarded(b"data", lambda h: h.get("authorization") == basic()))
    given(tmp_path, origin, "canary-password", "ann")
    with JobServer(Settings(cache_dir=tmp_path / "cache", state_dir=tmp_path / "state")) as running:
        spec = JobSpec((sys.executable, "-c", DUMPABLE), (JobInput(url, "data"),), owner="ann")
        (job,) = running.jobs.submit([spec])
        assert running.jobs.wait(job, PATIENCE).state is JobState.DONE
        assert running.jobs.log_file(job, "stdout").read_text() == "1\n"
