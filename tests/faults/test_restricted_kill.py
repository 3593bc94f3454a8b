"""Kill -9 at every step of a fetch under a credential: at no moment are its bytes where others could read them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from stat import S_IMODE

import pytest

from stager.cache.store import FileCache
from stager.steps import STEPS
from stager.transfer.buffers import BLOCK_BYTES
from tests.support.origin import Origin
from tests.support.vault import Vault, basic, guarded, place

LARGE = Random(4).randbytes(2 * BLOCK_BYTES + 500_000)
SMALL = LARGE[:50_000]
STEPS_OF_A_FETCH = [step for step in STEPS if step.startswith(("fetch.", "publish."))]
STEPS_OF_A_FETCH.remove("fetch.signalled")  # whoever ordered the fetch does that

SCRIPT = """
import os, signal, sys
from pathlib import Path
from stager import steps
from stager.cache.store import FileCache
from stager.clock import SystemClock
from stager.credentials.files import FileStore
from stager.credentials.keys import KeyFiles
from stager.credentials.wallet import Wallet
from stager.model.fetches import FetchOrder, FetchRequest
from stager.transfer.fetcher import Fetcher
from stager.transfer.http import HttpTransport
from tests.support.reach import LOOPBACK

cache, vault, url, step = sys.argv[1:]
os.umask(0)
steps.observe(lambda reached: os.kill(os.getpid(), signal.SIGKILL) if reached == step else None)
keys = KeyFiles(Path(vault) / "key", Path(vault) / "key.pub")
wallet = Wallet(FileStore(Path(vault)), keys.opener, keys.closer, SystemClock())
fetcher = Fetcher(FileCache(cache), HttpTransport(reach=LOOPBACK), wallet=wallet)
found = fetcher.fetch(FetchOrder("f", 1, FetchRequest(url, owner="ann")))
assert found.restricted
"""


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


def fetch(root: Path, vault: Vault, url: str, step: str = "") -> int:
    """The exit code of a process that fetches it and ends at that step."""
    command = [sys.executable, "-c", SCRIPT, str(root), str(vault.root), url, step]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60.0)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode


def open_to_others(root: Path) -> list[Path]:
    """Files with a byte in them to which others could get."""
    found = []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if Path(folder, name).stat().st_mode & 0o011]
        found += [Path(folder, name) for name in files if Path(folder, name).stat().st_mode & 0o044]
    return [path for path in found if path.name not in {"CACHEDIR.TAG", "layout.json"}]


@pytest.mark.parametrize(
    ("step", "data"),
    [
        *(pytest.param(step, LARGE, id=f"{step}-large") for step in STEPS_OF_A_FETCH),
        *(
            pytest.param(step, SMALL, id=f"{step}-small")
            for step in STEPS_OF_A_FETCH
            if step != "fetch.sidecar"
        ),
    ],
)
def test_nobody_else_can_read_what_a_killed_fetch_left(
    step: str, data: bytes, origin: Origin, tmp_path: Path
) -> None:
    vault = Vault(tmp_path / "credentials")
    vault.give(place(origin.base), owner="ann")
    url = origin.serve("/a", guarded(data, lambda h: h.get("authorization") == basic(), etag='"1"'))
    root = tmp_path / "cache"
    assert fetch(root, vault, url, step) == -signal.SIGKILL
    assert open_to_others(root) == []
    assert fetch(root, vault, url) == 0
    assert open_to_others(root) == []
    path = FileCache(root).path(url)
    assert path.read_bytes() == data
    assert S_IMODE(path.stat().st_mode) == 0o400
    assert [one for one in (root / "partial").rglob("*") if one.is_file()] == []
