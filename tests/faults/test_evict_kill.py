"""Eviction that is killed at each of its steps, and eviction beside all that uses the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from stager.cache.eviction import Evictor, Victim
from stager.cache.store import FileCache
from stager.cache.tree import open_tree
from stager.cache.upkeep import Upkeep
from stager.model.eviction import Purge
from stager.model.keys import key_digest
from stager.settings import Settings
from stager.steps import MAINTENANCE_STEPS
from stager.wiring.cache import build_cache_site

CHILD = """
import os, signal, sys
from pathlib import Path
from stager import steps
from stager.model.eviction import Purge
from stager.settings import Settings
from stager.wiring.cache import build_cache_site

root, step, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
def observer(reached):
    global count
    if reached == step:
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
site = build_cache_site(Settings(cache_dir=root / "c", state_dir=root / "s"))
steps.observe(observer)
for _ in site.eviction.purge(Purge(to_size=20)):
    pass
print("survived")
"""


@pytest.mark.parametrize("step", [step for step in MAINTENANCE_STEPS if step.startswith("evict.")])
def test_after_a_kill_nothing_is_lost_and_the_next_purge_leaves_nothing_over(
    tmp_path: Path, step: str
) -> None:
    (tmp_path / "s").mkdir()
    site = build_cache_site(Settings(cache_dir=tmp_path / "c", state_dir=tmp_path / "s"))
    for number in range(6):
        site.cache.put(f"k{number}", b"x" * (number + 1))
        site.cache.get(f"k{number}")
    site.cache.put("kept", b"y" * 10)
    held = site.cache.pin("job", "input", sha256(b"xx").hexdigest(), 2)
    pin = site.pins.pin("kept", None, reason="paper", owner="ada")
    for _ in site.files.rebuild():
        pass
    done = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path, step, "2" if step == "evict.aside" else "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-9, "", "")
    assert held.read_bytes() == b"xx"
    cache = FileCache(tmp_path / "c", remember=0)
    for number in range(6):  # each is whole or gone
        path = cache.get(f"k{number}")
        assert path is None or path.read_bytes() == b"x" * (number + 1)
    for _ in site.eviction.purge(Purge(to_size=0)):
        pass
    assert set(cache) == {"kept", "k1"}
    site.pins.unpin(pin.id)
    site.cache.unpin("job")
    for _ in site.eviction.purge(Purge(to_size=0)):
        pass
    assert site.catalogue.size() == (0, 0)
    site.close()
    trash = tmp_path / "c" / "trash"
    for path in trash.rglob("*") if trash.exists() else []:
        os.utime(path, (1, 1))
    for path in trash.iterdir() if trash.exists() else []:
        os.utime(path, (1, 1))
    Upkeep(tmp_path / "c").step(1000)
    left = [p for part in ("objects", "entries", "trash") for p in (tmp_path / "c" / part).rglob("*")]
    assert [p for p in left if p.is_file() or p.is_symlink()] == []


WORKER = """
import os, random, sys, time
from hashlib import sha256
from stager.cache.eviction import Evictor, Victim
from stager.cache.store import FileCache
from stager.cache.tree import open_tree
from stager.errors import ObjectLostError
from stager.model.keys import key_digest

root, role, seed = sys.argv[1:4]
rng, end, done = random.Random(seed), time.monotonic() + 3.0, 0
cache = FileCache(root, remember=0)
evictor = Evictor(open_tree(root, "2+2"))
bodies = [str(number).encode() * 500 for number in range(20)]
while time.monotonic() < end:
    body = rng.choice(bodies)
    key, digest = f"k{rng.randrange(20)}", sha256(body).hexdigest()
    if role == "put":
        cache.put(key, body)
    elif role == "evict":
        keys = tuple(key_digest(f"k{number}") for number in range(20))
        evictor.evict([Victim(sha256(one).hexdigest(), len(one), keys) for one in rng.sample(bodies, 5)])
    else:
        job = f"{role}-{seed}-{done}"
        try:
            path = cache.pin(job, "input", digest, len(body))
        except ObjectLostError:
            continue
        for _ in range(3):
            assert path.read_bytes() == body, "an input changed"
            time.sleep(0.001)
        assert path.read_bytes() == body
        cache.release(job)
    done += 1
print(done)
"""


def test_inputs_stay_readable_while_processes_put_pin_and_evict(tmp_path: Path) -> None:
    roles = ["put", "put", "evict", "evict", "job", "job"]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, tmp_path / "c", role, str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed, role in enumerate(roles)
    ]
    for child in children:
        with child:
            out, err = child.communicate(timeout=60)
        assert (child.returncode, err) == (0, "")
        assert int(out) > 0
    cache = FileCache(tmp_path / "c")
    for entry in cache.entries():  # whatever is left is right
        data = cache.path(entry.key).read_bytes()
        assert (sha256(data).hexdigest(), len(data)) == (entry.object, entry.size)
    keys = tuple(key_digest(f"k{number}") for number in range(20))
    bodies = [str(number).encode() * 500 for number in range(20)]
    Evictor(open_tree(cache.root, "2+2")).evict(
        [Victim(sha256(one).hexdigest(), len(one), keys) for one in bodies]
    )
    parts = ("objects", "entries", "trash")
    left = [p for part in parts for p in (cache.root / part).rglob("*") if p.is_file() or p.is_symlink()]
    assert left == []
