"""Pinning and unpinning objects, whoever else does so, and whoever evicts, at the same time.

Nobody locks. Each does what it does and then looks whether somebody else was at it:

- Who pins makes the link, writes the record, waits for those who were evicting, and then looks whether link and
  object are still there.
- Who unpins removes the record, puts the link aside, and looks for records: if there is one, the link comes back.
- Who evicts says so by a directory in the trash, and then looks for records: what has one stays. What gets one
  while it goes is brought back (`PinFiles.bring_back`).

Of two of them at least one sees the other. Killed in between, the link is left without a record; it goes
after an hour (`PinFiles.tidy`). A record that was acknowledged is never left without its bytes.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

from stager.cache.failures import LINK_REFUSED, cache_error
from stager.cache.files import is_same_file, remove_quietly, sync_directory, unless_stale, write_all
from stager.cache.fresh import list_names
from stager.cache.layout import PRIVATE_FILE_MODE, TRASH
from stager.cache.objects import find_object
from stager.cache.owner import is_alive, is_here, new_owner, retire
from stager.cache.pinned import (
    LINK,
    LINKS,
    is_pinned,
    pin_directory,
    pin_link,
    pin_time,
    pinned,
    pinned_objects,
    records,
)
from stager.cache.stamp import file_system_time
from stager.cache.trash import EVICTING
from stager.cache.tree import Tree
from stager.errors import ObjectLostError
from stager.model.pins import Pin, parse_file_name
from stager.steps import reached

EVICTION_SECONDS = 60.0
"""So long an eviction is waited for, and taken for alive since it showed that it is."""
LINK_SECONDS = 3600.0
"""A link without a record is left alone for so long: somebody is perhaps about to write one."""
_TRIES = 16
_PAUSE_SECONDS = 0.02
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
PIN_OVER, PIN_LINK = "pin-past-its-time", "pin-link-put-right"


class PinFiles:
    """The pins of one cache."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def of(self, sha256: str) -> list[Pin]:
        """See `pinned`."""
        return pinned(self._tree, sha256)

    def __iter__(self) -> Iterator[Pin]:
        """All pins that count now, by object."""
        for sha256 in pinned_objects(self._tree):
            yield from pinned(self._tree, sha256)

    def pin(self, pin: Pin, *, restricted: bool = False) -> None:
        """Let the object stay until the pin's time is up; a pin of this holder is prolonged, never cut short.

        Durable on return.

        Raises:
            ObjectLostError: there is no such object; nothing is pinned.
            CacheError: the file system failed.
        """
        directory = pin_directory(self._tree, pin.object)
        record = f"{directory}/{pin.file_name}"
        try:
            for _ in range(_TRIES):
                if not self._hold(pin.object, directory, restricted=restricted):
                    break
                reached("pin.linked")
                self._write(record, pin)
                reached("pin.recorded")
                self._let_evictions_end()
                if self._hold(pin.object, directory, restricted=restricted) and os.access(record, os.F_OK):
                    return
                if find_object(self._tree, pin.object, restricted=restricted) is None:
                    break
            remove_quietly(record)
            self._let_go(directory)
        except OSError as error:
            raise cache_error(error, directory, "pin") from error
        raise ObjectLostError(
            f"object {pin.object} can't be pinned",
            cause="it is not in the cache",
            remedy="fetch it again",
            sha256=pin.object,
        )

    def unpin(self, sha256: str, pin: str) -> bool:
        """Take the pin with that id away; whether there was one that counted.

        Raises:
            CacheError: it may still be there.
        """
        directory = pin_directory(self._tree, sha256)
        counted = {name for name in records(self._tree, sha256) if name.startswith(f"{pin}.")}
        try:
            for name in list_names(directory):
                if name.startswith(f"{pin}."):
                    with suppress(FileNotFoundError):
                        unless_stale(os.unlink, f"{directory}/{name}")
            reached("unpin.removed")
            self._let_go(directory)
        except OSError as error:
            raise cache_error(error, directory, "unpin") from error
        return bool(counted)

    def bring_back(self, sha256: str, *, restricted: bool = False) -> bool:
        """If the object is pinned and has lost its own name just now, give it that again; whether it has it.

        For who evicts: called after the name was removed, it makes up for a pin that came meanwhile.

        Raises:
            CacheError: the file system failed.
        """
        if not is_pinned(self._tree, sha256):
            return False
        final = self._tree.object(sha256, restricted=restricted)
        link = pin_link(self._tree, sha256, restricted=restricted)
        try:
            with suppress(FileExistsError):
                self._tree.creating(final, lambda: os.link(link, final))
        except FileNotFoundError:  # no link: nobody was told that it is pinned
            return False
        except OSError as error:
            raise cache_error(error, final, "bring back") from error
        return True

    def tidy(self, sha256: str, now: float) -> str:
        """Let go what need not be held, hold what must be; what was put right (`PIN_OVER`, `PIN_LINK`) or nothing.

        Raises:
            OSError: the file system failed.
        """
        directory = pin_directory(self._tree, sha256)
        try:
            changed = unless_stale(os.stat, directory).st_mtime
        except FileNotFoundError:
            return ""
        over = [name for name in list_names(directory) if _is_over(name, now)]
        for name in over:
            with suppress(FileNotFoundError):
                unless_stale(os.unlink, f"{directory}/{name}")
        if is_pinned(self._tree, sha256, now):
            mended = self._mend(directory, sha256, now - changed)
            return PIN_OVER if over else mended
        if over or now - changed > LINK_SECONDS:
            self._let_go(directory, old=now - changed > LINK_SECONDS)
            return PIN_OVER if over else PIN_LINK
        return ""

    # -- inside ----------------------------------------------------------------------------------

    def _hold(self, sha256: str, directory: str, *, restricted: bool) -> bool:
        """Let the link name the object; False if there is no object."""
        link = pin_link(self._tree, sha256, restricted=restricted)
        for _ in range(_TRIES):
            found = find_object(self._tree, sha256, restricted=restricted)
            if found is None:
                return False
            path = found[0]
            try:
                self._tree.creating(link, lambda path=path: os.link(path, link))  # type: ignore[misc]
            except FileExistsError:
                if is_same_file(path, link) or _replace(path, link):
                    return True
            except FileNotFoundError:  # of the object: it is moved, or it goes
                continue
            except OSError as error:
                if error.errno not in LINK_REFUSED:
                    raise
                self._tree.make_directory(directory)
                return True  # the record alone has to do
            else:
                return True
        return False

    def _let_evictions_end(self) -> None:
        """Wait until all are done that may have looked for records before ours was there."""
        pause = threading.Event()
        began = time.monotonic()
        begun = set(self._evictions())
        now = file_system_time(self._tree) if begun else 0.0
        while begun and (passed := time.monotonic() - began) < EVICTION_SECONDS:
            begun &= {
                name for name, shown in self._evictions().items() if now + passed - shown < EVICTION_SECONDS
            }
            pause.wait(_PAUSE_SECONDS if begun else 0.0)

    def _evictions(self) -> dict[str, float]:
        """The directories of evictions whose owners are not known to be dead, and when these showed last."""
        trash = f"{self._tree.root}/{TRASH}"
        names = [name for name in list_names(trash) if name.startswith(EVICTING) and not _is_dead(name)]
        found = {}
        for name in names:
            with suppress(FileNotFoundError):
                found[name] = unless_stale(_changed, f"{trash}/{name}")
        return found

    def _write(self, record: str, pin: Pin) -> None:
        owner = new_owner()
        directory, _, name = record.rpartition("/")
        private = f"{directory}/.{name}.{owner}"
        try:
            fd = self._tree.creating(private, lambda: os.open(private, _CREATE, PRIVATE_FILE_MODE))
            try:
                write_all(fd, pin.to_json())
                os.fsync(fd)
            finally:
                os.close(fd)
            unless_stale(os.rename, private, record)
            unless_stale(sync_directory, directory)
        finally:
            remove_quietly(private)
            retire(owner)

    def _let_go(self, directory: str, *, old: bool = False) -> None:
        """Remove the link, and the directory, unless there is a record; `old`: what others left there, too."""
        for link in LINKS:
            self._let_go_of(link, directory, old=old)
        try:
            unless_stale(os.rmdir, directory)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
                raise

    def _let_go_of(self, link_name: str, directory: str, *, old: bool) -> None:
        link = f"{directory}/{link_name}"
        names = list_names(directory)
        if any(parse_file_name(name) for name in names) or link_name not in {LINK, *names}:
            return
        owner = new_owner()
        aside = f"{directory}/.{link_name}.{owner}"
        try:
            with suppress(FileNotFoundError):
                unless_stale(os.rename, link, aside)
            reached("unpin.aside")
            left = list_names(directory)
            if any(parse_file_name(name) for name in left):  # somebody pinned it meanwhile
                with suppress(FileExistsError, FileNotFoundError):
                    unless_stale(os.link, aside, link)
                return
            for name in left:
                if old or _is_forgotten(name):
                    remove_quietly(f"{directory}/{name}")
        finally:
            remove_quietly(aside)
            retire(owner)

    def _mend(self, directory: str, sha256: str, age: float) -> str:
        """A pinned object whose link is missing, or names damaged bytes that were fetched again; leftovers of kills."""
        private = [name for name in list_names(directory) if name.startswith(".")]
        if age > LINK_SECONDS:
            for name in private:
                remove_quietly(f"{directory}/{name}")
        for restricted in (False, True):
            found = find_object(self._tree, sha256, restricted=restricted)
            link = pin_link(self._tree, sha256, restricted=restricted)
            if found is not None and not is_same_file(found[0], link):
                held = self._hold(sha256, directory, restricted=restricted)
                return PIN_LINK if held and os.access(link, os.F_OK) else ""
        return ""


def tidy_pins(tree: Tree) -> Iterator[str]:
    """One look at all pins: for each object what was put right, or nothing.

    Raises:
        OSError: the file system failed.
    """
    files = PinFiles(tree)
    now: float | None = None
    for sha256 in pinned_objects(tree):
        now = pin_time(tree) if now is None else now
        yield files.tidy(sha256, now)


def _is_over(name: str, now: float) -> bool:
    parsed = parse_file_name(name)
    return parsed is not None and parsed[1] is not None and parsed[1] <= now


def _is_forgotten(name: str) -> bool:
    """Whether it is a private file of a process of this host that was killed."""
    return name.startswith(".") and _is_dead(name)


def _is_dead(name: str) -> bool:
    """Whether the owner at the end of the name was a process of this host, and is no more."""
    owner = name.rpartition(".")[2]
    return is_here(owner) and not is_alive(owner)


def _changed(directory: str) -> float:
    fd = os.open(directory, _DIRECTORY)  # over NFS its time is asked for anew only so
    try:
        return os.fstat(fd).st_mtime
    finally:
        os.close(fd)


def _replace(path: str, link: str) -> bool:
    """Let `link` name the file at `path` in one step; False if that has gone."""
    owner = new_owner()
    private = f"{os.path.dirname(link)}/.{os.path.basename(link)}.{owner}"
    try:
        unless_stale(os.link, path, private)
        unless_stale(os.rename, private, link)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in LINK_REFUSED:
            raise
        unless_stale(os.unlink, link)  # of other bytes; the record alone has to do
    finally:
        remove_quietly(private)
        retire(owner)
    return True
