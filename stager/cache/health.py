"""Whether a cache is as it should be, without changing anything but for a moment."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace

from stager.cache.layout import ENTRIES, JOBS, OBJECTS, PARTIAL, PROBE, RESTRICTED
from stager.cache.owner import new_owner, retire
from stager.cache.probe import Verdict, probe
from stager.cache.tree import open_tree
from stager.model.checks import Checked, Health, judged_skew

LITTLE = 0.05
"""Of bytes or inodes: less than that free is worth a warning."""
CLOCK_SECONDS = 2.0
"""File systems that keep whole seconds, and slow ones, are off by as much."""
_VERDICTS = {Verdict.UNFIT: Health.FAILED, Verdict.SLOW: Health.WARNING, Verdict.LIMITED: Health.WARNING}
_ELSEWHERE = ("free space", "free inodes")


def cache_checks(
    root: str, *, shards: str, keep_free: int = 0, keep_free_inodes: int = 0, name: str = "cache"
) -> Iterator[Checked]:
    """All about the cache at `root`.

    Args:
        root: its directory.
        name: what the answers call it.
        shards: those of a new cache.
        keep_free: bytes that no fetch may use.
        keep_free_inodes: likewise.

    Raises:
        CacheError: it can't be opened.
    """
    if _is_vacant(root):
        yield Checked(name, Health.SKIPPED, f"{root}: nothing is there yet; it is made by its first use")
        return
    tree = open_tree(root, shards)
    yield Checked(name, Health.OK, f"{root} opens, with shards {tree.layout.shards}")
    names = inodes(root, keep_free=keep_free_inodes)
    for one in (file_system(root), room(root, keep_free=keep_free), names, modes(root), clock(root)):
        yield replace(one, name=f"{name} {one.name}")


def _is_vacant(root: str) -> bool:
    """Whether opening it would make it: there is nothing, or no more than a probe needs for a while."""
    try:
        return all(name.startswith(PROBE) for name in os.listdir(root))
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False


def file_system(root: str) -> Checked:
    """Whether it can be written to, and has what a cache needs: a quick probe."""
    report = probe(root, quick=True)
    wrong = [one for one in report.findings if one.verdict in _VERDICTS and one.name not in _ELSEWHERE]
    mount = report.finding("file system").measured
    if not wrong:
        return Checked("file system", Health.OK, mount)
    said = "; ".join(f"{one.name}: {one.measured}" + (f" ({one.why})" if one.why else "") for one in wrong)
    health = (
        Health.FAILED if any(_VERDICTS[one.verdict] is Health.FAILED for one in wrong) else Health.WARNING
    )
    return Checked("file system", health, f"{mount}; {said}", f"`stager cache probe {root}` says more")


def room(root: str, *, keep_free: int) -> Checked:
    """Free bytes."""
    found = os.statvfs(root)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    text = f"{free / 2**30:,.1f} of {total / 2**30:,.1f} GiB are free"
    remedy = "make room: `stager cache du` says what is in it, `stager cache purge` removes"
    if free <= keep_free:
        kept = f", and {keep_free / 2**30:,.1f} are kept free: no fetch begins" if keep_free else ""
        return Checked("free space", Health.FAILED, text + kept, remedy)
    if free < total * LITTLE:
        return Checked("free space", Health.WARNING, text, remedy)
    return Checked("free space", Health.OK, text)


def inodes(root: str, *, keep_free: int = 0) -> Checked:
    """Files that can still be made."""
    found = os.statvfs(root)
    if not found.f_files:
        return Checked("free inodes", Health.OK, "no fixed number")
    free = min(found.f_ffree, found.f_favail)
    text = f"{free:,} of {found.f_files:,} are free"
    remedy = "remove small files, or make the file system with more inodes"
    if free < max(1, keep_free):
        kept = f", and {keep_free:,} are kept free: no fetch begins" if keep_free else ""
        return Checked("free inodes", Health.FAILED, text + kept, remedy)
    if free < found.f_files * LITTLE:
        return Checked("free inodes", Health.WARNING, text, remedy)
    return Checked("free inodes", Health.OK, text)


def modes(root: str) -> Checked:
    """Whoever can write to the cache can serve any bytes; restricted ones are for the service alone."""
    found = []
    for name in ("", OBJECTS, ENTRIES, PARTIAL, JOBS, RESTRICTED):
        path = f"{root}/{name}".rstrip("/")
        try:
            mode = stat.S_IMODE(os.stat(path).st_mode)
        except FileNotFoundError:
            continue
        if mode & stat.S_IWOTH or (name in {RESTRICTED, PARTIAL} and mode & 0o077):
            found.append(f"{path} has mode {mode:o}")
    if not found:
        return Checked("permissions", Health.OK, "nobody else can write to it")
    remedy = f"chmod o-w {root}; files that others put there can't be told from ours"
    return Checked("permissions", Health.FAILED, ", ".join(found), remedy)


def clock(root: str) -> Checked:
    """The clock that stamps files there, against this host's."""
    owner = new_owner()
    path = f"{root}/{PROBE}{owner}.card"
    try:
        before = time.time()
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        stamped = os.stat(path).st_mtime
        after = time.time()
        os.unlink(path)
    finally:
        retire(owner)
    off = stamped - after if stamped > after else min(0.0, stamped - before)
    return judged_skew("clock", off, "the clock of the file system", CLOCK_SECONDS)
