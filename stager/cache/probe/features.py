"""What the file system has: links, nameless files, locks, times, names, cheap copies."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from stager.cache.failures import LINK_REFUSED
from stager.cache.probe.report import Finding, Verdict

_REFUSED = LINK_REFUSED | {errno.EINVAL, errno.EISDIR, errno.ENOLCK, errno.ENOTTY, errno.EBADF}
"""What file systems answer to a call that they don't have."""
LONGEST_NEEDED = 160
"""Bytes of the longest name that the cache makes itself: a temporary with its key, owner and ending."""
USUAL_LONGEST = 255
FICLONE = 0x40049409
"""See ioctl_ficlone(2)."""
PAGE = 4096
MOMENT_NS = 1_000_000_001_123_456_789
"""A time that shows by its digits how precisely it is kept."""


def hard_links(work: str) -> Finding:
    """Whether a file can have a second name."""
    name = "hard links"
    path = _made(f"{work}/first")
    try:
        os.link(path, f"{work}/second")
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        why = "inputs of jobs become symbolic links, and nothing on the share protects their bytes from eviction"
        return Finding(name, Verdict.LIMITED, f"refused: {error.strerror}", why, value=False)
    if os.stat(path).st_nlink == 2:  # noqa: PLR2004 - two names
        return Finding(name, Verdict.OK, "made and counted", value=True)
    why = "objects that jobs hold look free, and would be evicted"
    return Finding(name, Verdict.UNFIT, "made, but not counted (st_nlink)", why, value=False)


def nameless_files(work: str) -> Finding:
    """Whether a file can be written first and named afterwards (O_TMPFILE, linkat)."""
    name = "files without a name"
    if not hasattr(os, "O_TMPFILE"):
        return Finding(name, Verdict.OK, "not on this system", "named temporaries are used", value=False)
    try:
        fd = os.open(work, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.link(f"/proc/self/fd/{fd}", f"{work}/named", src_dir_fd=fd, follow_symlinks=True)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _REFUSED | {errno.ENOENT}:
            raise
        text = f"refused: {error.strerror}"
        return Finding(
            name, Verdict.OK, text, "named temporaries are used, as on any network mount", value=False
        )
    return Finding(name, Verdict.OK, "made and named", value=True)


def case(work: str) -> Finding:
    """Whether names that differ in case only are two."""
    _made(f"{work}/Case")
    if os.path.exists(f"{work}/case"):
        why = "inputs of a job whose names differ in case only are one file"
        return Finding("upper and lower case", Verdict.LIMITED, "not told apart", why, value=False)
    return Finding("upper and lower case", Verdict.OK, "told apart", value=True)


def longest_name(work: str) -> Finding:
    """Bytes that a name may have, tried out."""
    low, high = 0, 1024
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _made(f"{work}/{'n' * middle}")
        except OSError as error:
            if error.errno not in {errno.ENAMETOOLONG, errno.EINVAL}:
                raise
            high = middle
        else:
            low = middle
    text = f"{low} bytes"
    if low < LONGEST_NEEDED:
        return Finding("longest name", Verdict.UNFIT, text, f"the cache needs {LONGEST_NEEDED}", low)
    if low < USUAL_LONGEST:
        why = f"inputs of jobs with names of up to {USUAL_LONGEST} bytes are common elsewhere, and fail here"
        return Finding("longest name", Verdict.LIMITED, text, why, low)
    return Finding("longest name", Verdict.OK, text, value=low)


def unicode_names(work: str) -> Finding:
    """Whether names come back as the bytes that were given."""
    name = "Unicode in names"
    directory = f"{work}/unicode"
    os.mkdir(directory, 0o700)
    composed = unicodedata.normalize("NFC", "\u00e9")
    try:
        for form in (composed, unicodedata.normalize("NFD", composed)):
            _made(f"{directory}/{form}")
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EILSEQ}:
            raise
        why = "inputs of jobs must have names of ASCII letters"
        return Finding(name, Verdict.LIMITED, f"refused: {error.strerror}", why, value="refused")
    found = os.listdir(directory)
    if len(found) == 2:  # noqa: PLR2004 - both forms
        return Finding(name, Verdict.OK, "kept as given", value="kept")
    why = "a job may not find an input under the very bytes of its name"
    kept = composed in found
    text = "two forms of one letter are one name" if kept else "changed to another form"
    return Finding(name, Verdict.LIMITED, text, why, value="folded" if kept else "changed")


def times(work: str) -> Finding:
    """Whether a time that is set is kept, and how precisely."""
    name = "times that are set"
    path = _made(f"{work}/times")
    os.utime(path, ns=(MOMENT_NS, MOMENT_NS))
    off = abs(os.stat(path).st_mtime_ns - MOMENT_NS)
    for limit, unit in (
        (0, "1 ns"),
        (99, "100 ns"),
        (999, "1 µs"),
        (999_999, "1 ms"),
        (1_999_999_999, "2 s"),
    ):
        if off <= limit:
            return Finding(name, Verdict.OK, f"kept to {unit}", value=off)
    why = "the time of the last access is recorded that way, and decides what is evicted"
    return Finding(name, Verdict.UNFIT, f"not kept: {off / 1e9:.0f} s off", why, off)


def cheap_copies(work: str) -> Finding:
    """Whether bytes are copied inside the file system: as shared blocks, or by it."""
    source, target = _made(f"{work}/source", bytes(PAGE)), _made(f"{work}/target")
    with open(source, "rb") as given, open(target, "wb") as taken:
        with suppress(OSError):
            fcntl.ioctl(taken.fileno(), FICLONE, given.fileno())
            return Finding("copies", Verdict.OK, "share their blocks (reflink)", value="reflink")
        try:
            os.copy_file_range(given.fileno(), taken.fileno(), PAGE)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            return Finding("copies", Verdict.OK, "through this host's memory", value="none")
    return Finding(
        "copies", Verdict.OK, "by the kernel (copy_file_range), without shared blocks", value="kernel"
    )


def direct_io(work: str) -> Finding:
    """Whether bytes can be written past the page cache."""
    try:
        fd = os.open(f"{work}/direct", os.O_CREAT | os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC, 0o600)
        try:
            with mmap.mmap(-1, PAGE) as page:  # aligned, as it has to be
                os.write(fd, page)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        why = "large files go through the page cache, at twice the processor time"
        return Finding("direct I/O", Verdict.OK, f"refused: {error.strerror}", why, value=False)
    return Finding("direct I/O", Verdict.OK, "works", value=True)


WHY_NO_LOCKS = "two transfers of one file may both be made; their bytes stay right"
_WHOLE = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
LOCKS: dict[str, Callable[[int], object]] = {
    "flock": lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
    "fcntl": lambda fd: fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE),
}
"""Each takes the whole file for an open file, not for a process, and does not wait."""


def file_locks(work: str) -> Finding:
    """Whether a lock of each kind keeps a second opener out."""
    path = f"{work}/locked"
    with locked(path) as held:
        tried = tried_locks(path)
    found = {kind: tried[kind] if kind in held else "refused" for kind in LOCKS}
    text = ", ".join(f"{kind}: {answer}" for kind, answer in found.items())
    if set(found.values()) == {"works"}:
        return Finding("locks", Verdict.OK, text, value=found)
    return Finding("locks", Verdict.LIMITED, text, WHY_NO_LOCKS, found)


@contextmanager
def locked(path: str) -> Iterator[set[str]]:
    """Inside, the file is locked in the ways that are given: those that were not refused."""
    held = set()
    with ExitStack() as files:
        for kind, lock in LOCKS.items():
            file = files.enter_context(open(_made(f"{path}.{kind}"), "rb+"))
            with suppress(OSError):
                lock(file.fileno())
                held.add(kind)
        yield held


def tried_locks(path: str) -> dict[str, str]:
    """For each kind whether the lock that somebody holds keeps us out."""
    found = {}
    for kind, lock in LOCKS.items():
        with open(f"{path}.{kind}", "rb+") as file:
            try:
                lock(file.fileno())
            except OSError:
                found[kind] = "works"
            else:
                found[kind] = "keeps nobody out"
    return found


def _made(path: str, content: bytes = b"") -> str:
    with open(path, "wb") as file:
        file.write(content)
    return path
