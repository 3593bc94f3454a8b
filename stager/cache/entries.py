"""Entries on disk: key → object.

The JSON is the truth. The symbolic link beside it names the same object and is what a hit reads, because
following it costs a third of reading and parsing. They are written so that a crash leaves them equal, or
the link missing: an unequal link is removed first, then the JSON is replaced, then the link made. If they
differ all the same (two writers at once), `EntryFiles.current` puts the link right; until then a hit that
follows it gets an object that the key had a moment ago, complete and verified like any other.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from stager.cache.failures import LINK_REFUSED, cache_error
from stager.cache.files import remove_quietly, unless_stale, write_all
from stager.cache.layout import ENTRIES, OBJECTS, SHARED_FILE_MODE, is_digest, is_hex
from stager.cache.owner import new_owner, retire
from stager.cache.tree import Tree
from stager.errors import CacheError
from stager.model.entries import Entry
from stager.model.keys import DIGEST_LENGTH

_LINK_TRIES = 3
"""Another writer may put its link where ours was about to go."""
_MAX_BYTES = 1 << 20
"""An entry is some hundred bytes; more than this is none."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class EntryFiles:
    """Reads and writes entries; keys are named by their digest."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._root = tree.root
        self._sharded = tree.layout.cut
        self._entries = f"{tree.root}/{ENTRIES}/"
        self._target = f"{tree.layout.up}{OBJECTS}/"
        self._skip = len(tree.layout.up) - 1
        self._length = len(f"{tree.layout.up}{tree.layout.object('0' * DIGEST_LENGTH)}")

    def resolve(self, digest: str) -> str | None:
        """The path of the object of that key, which exists; None when the key has none.

        Raises:
            CacheError: the file system failed.
        """
        try:
            target = os.readlink(self._entries + "/".join(self._sharded(digest)))
        except OSError:  # none, or no link: the JSON knows
            pass
        else:
            path = self._root + target[self._skip :]
            own = len(target) == self._length and target.startswith(self._target)
            if own and os.access(path, os.F_OK):
                return path
        entry = self.current(digest)
        return None if entry is None else self.object(entry)

    def object(self, entry: Entry) -> str:
        """Where the object of `entry` is."""
        return self._tree.object(entry.object, restricted=entry.restricted)

    def current(self, digest: str) -> Entry | None:
        """The entry of that key if its object is there with its size; the link is made to agree.

        Raises:
            CacheError: the file system failed.
        """
        entry = self.read(digest)
        if entry is None or not self._has_object(entry):
            return None
        if not entry.restricted:
            with suppress(OSError):  # a cache that is read-only for us: then without the link
                self._set_link(digest, entry.object)
        return entry

    def _has_object(self, entry: Entry) -> bool:
        path = self.object(entry)
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno == errno.ESTALE:
                return False
            raise cache_error(error, path, "read") from error
        return found.st_size == entry.size and stat.S_ISREG(found.st_mode)

    def read(self, digest: str) -> Entry | None:
        """The entry as it is on disk; None when there is none, or one that nobody can read.

        An entry of a newer version counts as none: the file is fetched again, which is never wrong.

        Raises:
            CacheError: the file system failed.
        """
        path = self._tree.entry(digest)
        try:
            text = _read(path)
        except OSError as error:
            raise cache_error(error, path, "read") from error
        try:
            return None if text is None else Entry.from_json(text)
        except CacheError:
            return None

    def write(self, entry: Entry, digest: str) -> bool:
        """Make `entry` the entry of the key with that digest; whether its object is another one than before.

        Raises:
            CacheError: the old entry stays, or there is none.
        """
        path = self._tree.entry(digest)
        try:
            linked = self._linked(digest)
            changed = linked != entry.object
            if linked and changed:
                with suppress(FileNotFoundError):
                    os.unlink(self._tree.link(digest))
            self._replace(path, entry.to_json())
            if changed and not entry.restricted:
                self._set_link(digest, entry.object)
        except OSError as error:
            raise cache_error(error, path, "write") from error
        return changed

    def remove(self, digest: str) -> bool:
        """Forget the key; whether there was an entry.

        Raises:
            CacheError: it may still be there.
        """
        path = self._tree.entry(digest)
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._tree.link(digest))
            os.unlink(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise cache_error(error, path, "remove") from error
        return True

    def digests(self) -> Iterator[str]:
        """The keys' digests, in no order, one directory in memory at a time; foreign files are passed over.

        Raises:
            CacheError: a directory can't be read.
        """
        try:
            yield from _walk(f"{self._root}/{ENTRIES}", self._tree.layout.levels)
        except OSError as error:
            raise cache_error(error, error.filename or self._root, "list") from error

    def last_access(self, digest: str) -> float | None:
        """When the key was last used, as recorded; seconds since 1970 UTC."""
        try:
            return os.stat(self._tree.entry(digest)).st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            raise cache_error(error, self._tree.entry(digest), "read") from error

    def touch(self, digest: str, when: float) -> None:
        """Record that the key was used.

        Raises:
            OSError: it could not be recorded.
        """
        os.utime(self._tree.entry(digest), (when, when))

    def _linked(self, digest: str) -> str:
        """The digest of the object that the link names; empty when there is no link."""
        try:
            return os.readlink(self._tree.link(digest)).rpartition("/")[2]
        except OSError:  # none, or not a link
            return ""

    def _set_link(self, digest: str, sha256: str) -> None:
        link = self._tree.link(digest)
        target = f"{self._tree.layout.up}{self._tree.layout.object(sha256)}"
        for _ in range(_LINK_TRIES):
            try:
                os.symlink(target, link)
            except FileExistsError:
                try:
                    if os.readlink(link) == target:
                        return
                except OSError as error:
                    if error.errno not in {errno.ENOENT, errno.EINVAL, errno.ESTALE}:
                        raise
                with suppress(FileNotFoundError):
                    os.unlink(link)
            except OSError as error:
                if error.errno in LINK_REFUSED:  # no symbolic links here: every hit reads the JSON
                    return
                raise
            else:
                return

    def _replace(self, path: str, content: bytes) -> None:
        owner = new_owner()
        private = f"{path}.{owner}"
        try:
            fd = self._tree.creating(private, lambda: os.open(private, _CREATE, SHARED_FILE_MODE))
            try:
                write_all(fd, content)
            finally:
                os.close(fd)
            os.rename(private, path)
        except BaseException:
            remove_quietly(private)
            raise
        finally:
            retire(owner)


def _read(path: str) -> bytes | None:
    def content() -> bytes:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, _MAX_BYTES)
        finally:
            os.close(fd)

    try:
        return unless_stale(content)
    except FileNotFoundError:
        # An NFS client goes on saying so for half a minute after another host made the file, unless
        # the directory is opened.
        if not _refresh(os.path.dirname(path)):
            return None
    with suppress(FileNotFoundError):
        return unless_stale(content)
    return None


def _refresh(directory: str) -> bool:
    """Make an NFS client look at the directory anew; whether it exists."""
    try:
        os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _walk(directory: str, levels: int) -> Iterator[str]:
    try:
        with os.scandir(directory) as found:
            names = [item.name for item in found]
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if levels:
            if is_hex(name):
                yield from _walk(f"{directory}/{name}", levels - 1)
        elif name.endswith(".json") and is_digest(name[:-5]):
            yield name[:-5]
