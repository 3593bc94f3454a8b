"""Processes that pin, unpin and evict the same file at once: what was said to be pinned is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stager.cache.pin_files import LINK_SECONDS, PinFiles
from stager.cache.pinned import pin_directory
from stager.cache.store import FileCache

ROUNDS = 50
DATA = b"data"

PINNER = """
import sys
from stager.cache.store import FileCache
from stager.cache.tree import open_tree
from stager.clock import SystemClock
from stager.errors import NotFoundError
from stager.service.cache_pins import PinService

root, owner, rounds, until = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
cache = FileCache(root)
pins = PinService(cache, SystemClock())
pinned = 0
import time
began = time.monotonic()
while pinned < rounds and time.monotonic() - began < until:
    cache.put("k", b"data")
    try:
        pin = pins.pin("k", owner=owner)
    except NotFoundError:
        continue
    pinned += 1
    for _ in range(4):
        entry = cache.lookup("k")
        assert entry is not None, "the key of a pinned file is gone"
        with cache.object_path(entry.object).open("rb") as file:
            assert file.read() == b"data"
    mine = [held for held in pins.pins(pin.object) if held.holder == "user:" + owner]
    assert mine, "an acknowledged pin is gone"
    assert pins.release(pin.object, pin.id)
assert pinned, "never pinned"
print("ok")
"""

EVICTOR = """
import sys, time
from stager.cache.eviction import Evictor, Victim
from stager.cache.tree import open_tree
from stager.model.keys import key_digest
from hashlib import sha256

evictor = Evictor(open_tree(sys.argv[1], "2+2"))
victim = Victim(sha256(b"data").hexdigest(), 4, (key_digest("k"),))
fates = {}
while not sys.stdin.closed:
    (one,) = evictor.evict([victim])
    fates[one.fate] = fates.get(one.fate, 0) + 1
    if sum(fates.values()) >= int(sys.argv[2]):
        break
print(fates)
"""


@pytest.mark.parametrize("pinners", [1, 2])
def test_what_is_pinned_stays_whatever_evicts_and_unpins_at_the_same_time(
    pinners: int, tmp_path: Path
) -> None:
    root = str(tmp_path / "c")
    cache = FileCache(root)
    cache.put("k", DATA)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PINNER, root, f"u{number}", str(ROUNDS), "4"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(pinners)
    ]
    with subprocess.Popen(
        [sys.executable, "-c", EVICTOR, root, "1000000"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as evictor:
        try:
            ended = [process.communicate(timeout=60) for process in running]
            assert evictor.poll() is None, evictor.stderr
        finally:
            evictor.kill()
            for process in running:
                process.kill()
    assert [out for out, _ in ended] == ["ok\n"] * pinners, [err for _, err in ended]

    entry = cache.put("k", DATA)
    assert PinFiles(cache.tree).of(entry.object) == []
    directory = Path(pin_directory(cache.tree, entry.object))
    if directory.exists():  # the evictor was killed at an unlucky moment, or the last two unpinned at once
        PinFiles(cache.tree).tidy(entry.object, directory.stat().st_mtime + LINK_SECONDS + 1)
    assert not directory.exists()
