"""Everything that may happen to a cache, at once: each role for some seconds, in a process or on a host of its own.

A body says what it is (its key and version), so whoever reads one can tell whether it is right without knowing
anything else. The oracle is that: what a job reads under an input's name is what it was when it was linked, for as
long as the job lasts; what a key leads to is a body of that key.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from stager.cache.eviction import Evictor, Fate, Victim
from stager.cache.layout import ENTRIES
from stager.cache.migrate import Migration
from stager.cache.store import FileCache
from stager.cache.trash import Trash, needs_trash
from stager.cache.walk import TreeReader
from stager.clock import SystemClock
from stager.errors import CacheError, ConflictError, NotFoundError, ObjectLostError
from stager.model.verify import VerifyRequest
from stager.service.cache_verify import VerifyService
from stager.settings import Settings
from stager.wiring.cache import build_cache_site

KEYS = 40
VERSIONS = 5
INPUTS = 4
PATIENCE = 60.0
"""So many seconds longer a role is played that has not come to all that it usually does: on a slow machine."""
DAMAGED = 10
"""Keys whose objects are damaged on purpose; no job uses them."""

Counts = Counter[str]


def key_of(number: int) -> str:
    return f"https://origin.example/{number}.nxs"


def doomed(number: int) -> str:
    return f"https://origin.example/doomed/{number}.nxs"


def body(key: str, version: int) -> bytes:
    head = f"{key} {version} ".encode()
    length = 200 + int(sha256(head).hexdigest()[:4], 16)
    return head + (sha256(head).digest() * (length // 32 + 1))[:length]


def fault(key: str, data: bytes) -> str | None:
    """What is wrong with the body of that key; None: nothing."""
    words = data.split(b" ", 2)
    if len(words) != 3 or words[0] != key.encode():
        return f"not a body of {key}: {data[:60]!r}"
    return None if data == body(key, int(words[1])) else f"body of {key} is damaged ({len(data)} bytes)"


def run(root: str, role: str, seconds: float, seed: int, state_dir: str, name: str) -> dict[str, object]:
    """Play `role` for so long; counts of what was done, and what was seen that may not be."""
    counts: Counts = Counter()
    wrong: list[str] = []
    act = ROLES[role](root, random.Random(seed), Path(state_dir), name)
    end = time.monotonic() + seconds
    while len(wrong) < 5:
        wrong += act(counts)
        late = time.monotonic() - end
        if late > 0 and (USUAL[role] <= set(+counts) or late > PATIENCE):
            break
    return {"role": role, "counts": dict(counts), "wrong": wrong}


Act = Callable[[Counts], list[str]]


def _put(root: str, dice: random.Random, _state: Path, _name: str) -> Act:
    cache = FileCache(root)

    def act(counts: Counts) -> list[str]:
        key = key_of(dice.randrange(KEYS))
        cache.put(key, body(key, dice.randrange(VERSIONS)))
        other = doomed(dice.randrange(DAMAGED))
        if cache.get(other) is None:
            cache.put(other, body(other, 0))
        counts["put"] += 1
        return []

    return act


def _read(root: str, dice: random.Random, _state: Path, _name: str) -> Act:
    cache = FileCache(root)

    def act(counts: Counts) -> list[str]:
        key = key_of(dice.randrange(KEYS))
        try:
            with cache.open(key) as file:
                data = file.read()
        except NotFoundError:
            counts["missed"] += 1
            return []
        except CacheError as error:
            if "comes and goes" not in str(error):
                raise
            counts["missed"] += 1
            return []
        counts["read"] += 1
        found = fault(key, data)
        return [found] if found else []

    return act


def _jobs(root: str, dice: random.Random, _state: Path, name: str) -> Act:
    cache = FileCache(root)

    def linked(job: str, number: int) -> tuple[str, Path, bytes]:
        key = key_of(number)
        while True:  # as the mapper does: what is lost is fetched again
            entry = cache.lookup(key)
            if entry is None:
                entry = cache.put(key, body(key, dice.randrange(VERSIONS)))
            try:
                path = cache.pin(job, f"{number}.nxs", entry.object, entry.size)
            except ObjectLostError:
                continue
            return key, path, path.read_bytes()

    def act(counts: Counts) -> list[str]:
        counts["job"] += 1
        job = f"{name}-{counts['job']}"
        cache.job_dir(job)
        inputs = [linked(job, number) for number in dice.sample(range(KEYS), INPUTS)]
        wrong = [found for key, _, data in inputs if (found := fault(key, data))]
        until = time.monotonic() + dice.random() * 0.3
        while time.monotonic() < until and not wrong:
            for key, path, data in inputs:
                counts["input read"] += 1
                try:
                    now = path.read_bytes()
                except OSError as error:
                    wrong.append(f"input {path.name} of {job} can't be read: {error}")
                    continue
                if now != data:
                    wrong.append(
                        f"input {path.name} of {job} changed: {fault(key, now) or 'another version'}"
                    )
        cache.release(job)
        return wrong

    return act


def _evict(root: str, dice: random.Random, _state: Path, _name: str) -> Act:
    reader = TreeReader(root)
    trash = (
        needs_trash(reader.tree) or dice.random() < 0.5
    )  # without it readers on other hosts lose their file
    evictor = Evictor(reader.tree, Trash(reader.tree, SystemClock()) if trash else None)

    def act(counts: Counts) -> list[str]:
        victims = list(_victims(reader))
        some = dice.sample(victims, min(len(victims), 5))
        for done in evictor.evict(some, force=dice.random() < 0.2):
            counts[f"evicted: {done.fate}"] += 1
            if done.fate is Fate.FAILED:
                return [f"eviction failed: {done.error}"]
        return []

    return act


def _victims(reader: TreeReader) -> Iterator[Victim]:
    digests = defaultdict(list)
    sizes = {}
    for part in reader.parts(ENTRIES):
        for rows in reader.entries(part):
            for row in rows:
                digests[row[2]].append(row[0])
                sizes[row[2]] = row[3]
    for sha, keys in digests.items():
        yield Victim(sha.hex(), sizes[sha], tuple(key.hex() for key in keys))


def _migrate(root: str, dice: random.Random, _state: Path, _name: str) -> Act:
    def act(counts: Counts) -> list[str]:
        shards = dice.choice(["2+2", "4+4", "1", "flat"])
        try:
            for _ in Migration(root, shards, grace_seconds=0.2).run(time.sleep):
                counts["migration step"] += 1
            counts["migration"] += 1
        except ConflictError:
            counts["migration given up"] += 1
        return []

    return act


def _verify(root: str, dice: random.Random, state: Path, _name: str) -> Act:
    site = build_cache_site(Settings(cache_dir=Path(root), state_dir=state))
    service = VerifyService(site.cache, site.catalogue, SystemClock(), state)

    def act(counts: Counts) -> list[str]:
        path = site.cache.get(doomed(dice.randrange(DAMAGED)))
        if path is not None:
            counts["damaged"] += _damage(path)
        for progress in service.verify(VerifyRequest(repair=True)):
            del progress
            counts["verify step"] += 1
        counts["verified"] += 1
        return []

    return act


def _damage(path: Path) -> bool:
    try:
        path.chmod(0o644)
        path.write_bytes(b"damaged")
    except OSError:  # evicted meanwhile
        return False
    return True


def _rebuild(root: str, _dice: random.Random, state: Path, _name: str) -> Act:
    site = build_cache_site(Settings(cache_dir=Path(root), state_dir=state))

    def act(counts: Counts) -> list[str]:
        for _ in site.files.rebuild():
            counts["rebuild step"] += 1
        counts["rebuilt"] += 1
        return []

    return act


def _pin(root: str, dice: random.Random, state: Path, _name: str) -> Act:
    site = build_cache_site(Settings(cache_dir=Path(root), state_dir=state))

    def act(counts: Counts) -> list[str]:
        key = key_of(dice.randrange(KEYS))
        try:
            pin = site.pins.pin(key, 60.0, reason="storm")
        except NotFoundError:
            counts["nothing to pin"] += 1
            return []
        counts["pinned"] += 1
        found = next(iter(site.cache.root.glob(f"pins/**/{pin.object}*/object")), None)
        data = found.read_bytes() if found is not None else None
        site.pins.unpin(pin.id)
        if data is not None and sha256(data).hexdigest() != pin.object:
            return [f"what pin {pin.id} holds is not {pin.object}"]
        return []

    return act


ROLES: dict[str, Callable[[str, random.Random, Path, str], Act]] = {
    "put": _put,
    "read": _read,
    "jobs": _jobs,
    "evict": _evict,
    "migrate": _migrate,
    "verify": _verify,
    "rebuild": _rebuild,
    "pin": _pin,
}


USUAL: dict[str, set[str]] = {
    "put": {"put"},
    "read": {"read"},
    "jobs": {"job", "input read"},
    "evict": {"evicted: gone", "evicted: held"},
    "migrate": {"migration step", "migration"},
    "verify": {"damaged", "verified"},
    "rebuild": {"rebuilt"},
    "pin": {"pinned"},
}
"""What each role comes to."""


def settle(root: Path, state: Path) -> None:
    """What the server does when all is quiet: a migration that was interrupted is finished, what is damaged is put right.

    Who has taken a damaged object away, or looked for its entries, may have been the last; some entry may have been
    on its way from one layout to another just then.
    """
    for _ in Migration(root, "2+2", grace_seconds=0.0).run(lambda _: None):
        pass
    site = build_cache_site(Settings(cache_dir=root, state_dir=state))
    service = VerifyService(site.cache, site.catalogue, SystemClock(), state)
    for _ in service.verify(VerifyRequest(repair=True)):
        pass
    site.close()


def leftovers(root: str) -> list[str]:
    """What should not be there when all is quiet: entries that lead nowhere or astray, temporaries, jobs' files."""
    cache = FileCache(root)
    top = Path(root)
    found = [str(path) for path in (top / "partial").rglob("*") if path.is_file()]
    found += [str(path) for path in (top / "jobs").rglob("*") if path.is_file()]
    found += [str(path) for path in (top / "pins").rglob("*") if path.is_file()]
    known = {entry.object for entry in cache.entries()}
    for path in (top / "entries").rglob("*.json*"):
        if path.suffix != ".json":
            found.append(f"draft {path}")
        elif json.loads(path.read_bytes())["object"] not in known:
            found.append(f"{path} leads nowhere")
    for entry in cache.entries():
        data = cache.object_path(entry.object).read_bytes()
        wrong = fault(entry.key, data)
        if wrong and "doomed" not in entry.key:
            found.append(wrong)
    return found


if __name__ == "__main__":
    json.dump(
        run(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6]),
        sys.stdout,
    )
