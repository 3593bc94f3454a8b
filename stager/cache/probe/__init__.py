"""What a directory really guarantees, measured: before a cache is put there, or when one behaves oddly."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from stager.cache.failures import cache_error
from stager.cache.mounts import Mount, mount_of
from stager.cache.probe import costs, features, races, surroundings
from stager.cache.probe.advice import advice
from stager.cache.probe.peer import PEER_QUESTIONS, with_peer
from stager.cache.probe.report import Finding, ProbeReport, Recommendation, Verdict
from stager.cache.probe.workplace import workplace
from stager.errors import NotFoundError

__all__ = ["Finding", "ProbeReport", "Recommendation", "Verdict", "probe"]

QUICK_TIMES = 5
"""Repetitions of what is timed in a quick probe."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_PEER = "needs a second host: `--with-peer` here and there"

Question = tuple[str, Callable[[str], Finding]]


def probe(
    directory: str | os.PathLike[str],
    *,
    quick: bool = False,
    peer_seconds: float | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> ProbeReport:
    """Measure what the file system at `directory` guarantees; nothing is left behind.

    Args:
        directory: exists; may be a cache in use.
        quick: leave out what needs more processes or more than a moment.
        peer_seconds: wait so long for a probe of the same directory on another host, and measure with it what
            only two can; None: without.
        waiting: called once the wait for the other host begins.

    Raises:
        NotFoundError: there is no such directory.
        CacheError: it can't even be looked at.
    """
    root = os.path.abspath(os.fspath(directory))
    try:
        if not os.path.isdir(root):
            os.stat(root)
            raise NotFoundError(
                f"{root} is not a directory", remedy="name the directory that will hold the cache"
            )
    except FileNotFoundError:
        raise NotFoundError(
            f"{root} does not exist", remedy="make it first: what would be measured otherwise is its parent"
        ) from None
    except OSError as error:
        raise cache_error(error, root, "look at") from error
    mount = mount_of(root)
    findings = [
        *_outside(root, mount),
        *_inside(root, quick=quick, peer_seconds=peer_seconds, waiting=waiting),
    ]
    return ProbeReport(
        root, tuple(findings), tuple(advice(mount, {finding.name: finding for finding in findings}))
    )


def _outside(root: str, mount: Mount | None) -> Iterator[Finding]:
    yield surroundings.file_system(mount)
    yield surroundings.access_times(mount)
    yield _answered("free space", surroundings.free_bytes, root)
    yield _answered("free inodes", surroundings.free_inodes, root)
    yield surroundings.quota(mount)


def _inside(
    root: str, *, quick: bool, peer_seconds: float | None, waiting: Callable[[], None]
) -> Iterator[Finding]:
    """Everything that takes writing; the directory in which it happens is gone afterwards."""
    questions = list(_questions(quick=quick))
    with ExitStack() as ended:
        try:
            work = ended.enter_context(workplace(root))
        except OSError as error:
            yield Finding("writable", Verdict.UNFIT, error.strerror or str(error), _cause(error), value=False)
            for name, _ in questions:
                yield Finding(name, Verdict.NOT_MEASURED, "nothing can be written")
            return
        yield Finding("writable", Verdict.OK, "files can be made", value=True)
        linked = True
        for name, measure in questions:
            if name == "hard link as claim" and not linked:
                yield Finding(name, Verdict.NOT_MEASURED, "no hard links")
                continue
            found = _answered(name, measure, work)
            linked = linked and not (name == "hard links" and found.value is not True)
            yield found
        if peer_seconds is not None:
            yield from with_peer(root, work, peer_seconds, waiting)
        elif not quick:
            for name in PEER_QUESTIONS:
                yield Finding(name, Verdict.NOT_MEASURED, _NO_PEER)


def _questions(*, quick: bool) -> Iterator[Question]:
    times = QUICK_TIMES if quick else costs.TIMES
    yield "hard links", features.hard_links
    if not quick:
        yield "exclusive create", partial(races.one_winner, action="create")
        yield "hard link as claim", partial(races.one_winner, action="link")
        yield "rename as claim", partial(races.one_winner, action="rename")
        yield "rename over a file", races.whole_on_replace
    yield "files without a name", features.nameless_files
    yield "create, write, fsync, close", partial(costs.durable_write, times=times)
    yield "rename", partial(costs.rename, times=times)
    yield "unlink", partial(costs.unlink, times=times)
    if not quick:
        yield "metadata rate", costs.metadata_rate
    yield "times that are set", features.times
    yield "upper and lower case", features.case
    yield "longest name", features.longest_name
    yield "Unicode in names", features.unicode_names
    yield "locks", features.file_locks
    yield "copies", features.cheap_copies
    yield "direct I/O", features.direct_io


def _answered(name: str, measure: Callable[[str], Finding], where: str) -> Finding:
    """The finding; an error that nobody expected is one too."""
    try:
        return measure(where)
    except OSError as error:
        return Finding(name, Verdict.UNFIT, error.strerror or str(error), _cause(error))


def _cause(error: OSError) -> str:
    if error.errno in _FULL:
        quota = " of your quota" if error.errno == errno.EDQUOT else ""
        return f"there is no room left{quota}: make some, and probe again"
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return "a cache has to be written to: check the mount, and owner and mode of the directory"
    return "the file system failed; see the kernel's log"
