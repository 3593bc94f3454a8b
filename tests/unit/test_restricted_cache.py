"""Restricted objects in the cache: another user of the machine gets nothing of them, and all that looks after the cache treats them alike."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from stat import S_IMODE

import pytest

from stager.cache.migrate import Migration
from stager.cache.pin_files import PinFiles
from stager.cache.pinned import pin_directory
from stager.cache.store import FileCache
from stager.errors import ObjectLostError
from stager.mapper.dispatch.near import prepare_near
from stager.mapper.dispatch.prepare import prepare
from stager.model.events import DispatchInput, DispatchOrder, JobRefused
from stager.model.keys import key_digest
from stager.model.pins import USER, Pin
from stager.signals.codec import job_order_from_json, job_order_to_json

KEY = "https://data.example.org/secret.nxs"
DATA = b"what only Ann may read"
DIGEST = sha256(DATA).hexdigest()
NOBODY = 65534


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


@pytest.fixture
def hidden(cache: FileCache) -> Path:
    """The restricted object."""
    cache.put(KEY, DATA, owner="ann", restricted=True)
    return cache.object_path(DIGEST, restricted=True)


def as_nobody(cache: FileCache, code: str) -> str:
    """What the code prints that another user runs, with the cache at hand."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    for above in (cache.root, *cache.root.parents):
        if above != Path("/") and above.stat().st_uid == 0 and str(above) != "/tmp":
            above.chmod(above.stat().st_mode | 0o055 & ~0o022)
    prelude = (
        "import os, sys; sys.path.insert(0, os.getcwd())\n"
        "from stager.cache.store import FileCache\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        f"root = {str(cache.root)!r}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude + code], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -- another user of the machine ------------------------------------------------------------------------


@pytest.mark.usefixtures("hidden")
def test_another_user_finds_what_is_public_and_nothing_of_what_is_restricted(cache: FileCache) -> None:
    cache.put("public", b"for all")
    code = (
        f"cache = FileCache(root); print(cache.get({KEY!r}), cache.get('none'), cache.open('public').read())"
    )
    assert as_nobody(cache, code) == "None None b'for all'"


@pytest.mark.parametrize("where", ["object", "entry", "pin", "input", "partial"])
def test_no_path_leads_another_user_to_the_bytes(where: str, cache: FileCache, hidden: Path) -> None:
    PinFiles(cache.tree).pin(Pin(DIGEST, USER + "ann", KEY, "", 1.0, None), restricted=True)
    cache.job_dir("j1")
    unfinished = cache.claim_partial(KEY)
    paths = {
        "object": hidden,
        "entry": cache.root / cache.tree.entry(key_digest(KEY)),
        "pin": Path(pin_directory(cache.tree, DIGEST)) / "restricted",
        "input": cache.pin("j1", "x", DIGEST, len(DATA), restricted=True),
        "partial": unfinished.path,
    }
    path = paths[where]
    assert path.exists()
    code = f"""
for what in (open, os.listdir, lambda path: os.link(path, '/tmp/stager-leak'), os.chmod):
    try:
        what({str(path)!r}, *([0o644] if what is os.chmod else []))
    except (PermissionError, NotADirectoryError):
        continue
    print(what)
"""
    assert as_nobody(cache, code) == ""
    unfinished.discard()


def test_a_link_that_a_job_left_elsewhere_gives_nobody_the_bytes(
    cache: FileCache, hidden: Path, tmp_path: Path
) -> None:
    leak = tmp_path / "leak"
    os.link(hidden, leak)
    code = f"""
try:
    open({str(leak)!r})
except PermissionError:
    print("refused")
"""
    assert as_nobody(cache, code) == "refused"


# -- what looks after the cache -------------------------------------------------------------------------


def test_nothing_is_found_by_the_digest(cache: FileCache, hidden: Path) -> None:
    assert hidden.exists()
    assert not cache.has_object(DIGEST)
    assert not cache.object_path(DIGEST).exists()
    cache.job_dir("j1")
    with pytest.raises(ObjectLostError):
        cache.pin("j1", "x", DIGEST, len(DATA))


def test_a_job_gets_a_link_in_a_directory_of_its_own(cache: FileCache, hidden: Path) -> None:
    directory = cache.job_dir("j1")
    path = cache.pin("j1", "x", DIGEST, len(DATA), restricted=True)
    assert path.samefile(hidden)
    assert {S_IMODE(one.stat().st_mode) for one in (directory, directory / "inputs")} == {0o700}
    assert S_IMODE(path.stat().st_mode) == 0o400


def test_a_pin_of_the_public_object_brings_no_restricted_one_back_in_its_place(cache: FileCache) -> None:
    cache.put(KEY, DATA, restricted=True)
    cache.put("public", DATA)
    files = PinFiles(cache.tree)
    files.pin(Pin(DIGEST, USER + "ann", KEY, "", 1.0, None), restricted=True)
    files.pin(Pin(DIGEST, USER + "bob", "public", "", 1.0, None))
    shown, hidden = cache.object_path(DIGEST), cache.object_path(DIGEST, restricted=True)
    inodes = shown.stat().st_ino, hidden.stat().st_ino
    shown.unlink()
    hidden.unlink()
    assert files.bring_back(DIGEST)
    assert files.bring_back(DIGEST, restricted=True)
    assert (shown.stat().st_ino, hidden.stat().st_ino) == inodes
    assert S_IMODE(hidden.stat().st_mode) == 0o400


@pytest.mark.usefixtures("hidden")
def test_a_migration_keeps_modes_and_moves_nothing_into_the_open(cache: FileCache) -> None:
    migration = Migration(cache.root, "4+4", grace_seconds=0)
    for _ in migration.run(lambda _: None):
        pass
    moved = FileCache(cache.root).object_path(DIGEST, restricted=True)
    assert moved.read_bytes() == DATA
    assert S_IMODE(moved.stat().st_mode) == 0o400
    (entry,) = (cache.root / "entries").rglob("*.json")
    assert S_IMODE(entry.stat().st_mode) == 0o600
    assert not [path for path in (cache.root / "objects").rglob("*") if path.is_file()]


def test_removing_the_key_removes_the_restricted_object_alone(cache: FileCache, hidden: Path) -> None:
    cache.put("public", DATA)
    assert cache.remove(KEY)
    assert not hidden.exists()
    assert cache.path("public").read_bytes() == DATA


def test_a_key_that_becomes_restricted_loses_its_link_and_its_open_entry(cache: FileCache) -> None:
    cache.put(KEY, b"open")
    assert cache.get(KEY) is not None
    link = Path(cache.tree.link(key_digest(KEY)))
    assert link.is_symlink()
    cache.put(KEY, DATA, restricted=True)
    assert not link.is_symlink()
    assert S_IMODE(Path(cache.tree.entry(key_digest(KEY))).stat().st_mode) == 0o600
    assert FileCache(cache.root).path(KEY).read_bytes() == DATA
    assert not link.is_symlink(), "nor does a hit make one"


# -- on the way to a job --------------------------------------------------------------------------------


def order(*, restricted: bool) -> DispatchOrder:
    item = DispatchInput("x", DIGEST, len(DATA), "f1", restricted)
    return DispatchOrder("j1", 1, "", ("true",), (), (item,), (), "ann")


@pytest.mark.parametrize("restricted", [False, True])
def test_an_order_says_on_its_way_to_a_worker_which_inputs_are_restricted(restricted: bool) -> None:
    sent = order(restricted=restricted)
    assert job_order_from_json(job_order_to_json(sent)) == sent
    assert sent.restricted is restricted


@pytest.mark.usefixtures("hidden")
def test_a_restricted_input_is_not_taken_from_a_nodes_own_cache(cache: FileCache, tmp_path: Path) -> None:
    near = FileCache(tmp_path / "near")
    near.put("the same bytes, for everybody on this node", DATA)
    directory = prepare_near(near, cache, order(restricted=True))
    assert isinstance(directory, Path)
    shown = directory / "inputs" / "x"
    assert not shown.is_symlink()
    assert shown.samefile(cache.object_path(DIGEST, restricted=True))


@pytest.mark.usefixtures("hidden")
def test_an_order_for_the_public_object_of_that_digest_is_refused(cache: FileCache) -> None:
    refused = prepare(cache, order(restricted=False))
    assert isinstance(refused, JobRefused)
    assert not (cache.root / "jobs" / "j1" / "inputs" / "x").exists()
