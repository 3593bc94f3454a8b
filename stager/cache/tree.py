"""The root directory: opened, created, and its directories made when they are first needed.

The layout may change while a `Tree` is in use: another process, on this host or another, moves the cache to
other shards (see `migrate`). Files are then in the current layout or still in a previous one, and a `Tree`
that was opened before learns of it from layout.json: when it does not find something (`Tree.seek`), and when
it has written something (`Tree.look_again`).
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from stager.cache.failures import cache_error
from stager.cache.files import STALE, unless_stale
from stager.cache.fresh import refresh
from stager.cache.layout import (
    LAYOUT_FILE,
    PARTIAL,
    PROBE,
    ROOT_MODE,
    TAG,
    TAG_FILE,
    Layout,
    Layouts,
    directory_mode,
)
from stager.cache.layout_file import Signature, place, read_layouts, signature
from stager.cache.mounts import has_other_writers
from stager.errors import CacheError, CacheGoneError, NotACacheError

T = TypeVar("T")
_SEEKS = 16
"""Rounds through the layouts, when they change again and again meanwhile."""
CREATE_TRIES = 16
"""Times that a directory is made for a name: others remove empty ones all the time, on a slow host each that it made."""
LOOK_SECONDS = 1.0
"""On a network file system layout.json is not read more often than this before something is written."""


class Tree:
    """A root and its layout: absolute paths as text, which is what the system calls take.

    Attributes:
        id: of the cache, see `Layouts`.
        layouts: where files are looked for; the first is where they are put.
        nameless: whether files without a name are possible, as far as is known. See `nameless`.
        remote: whether other kernels may write to it. Only then is it worth while to look twice (see `fresh`).
        growing: whether the directory needed last, for an object or an entry, was missing. A guess about
            the next one, which saves calls that fail: in a new cache nearly every file needs a directory,
            in a grown one none does. (The few directories of partial/ would only mislead it.)
    """

    def __init__(self, root: str, layouts: Layouts, seen: Signature | None = None) -> None:
        self.root = root
        self.id = layouts.id
        self.layouts = layouts.all
        self.nameless = True
        self.remote = has_other_writers(root)
        self.growing = True
        self._partial = f"{root}/{PARTIAL}/"
        self._layout_file = f"{root}/{LAYOUT_FILE}"
        self._seen = seen
        self._looked = 0.0

    @property
    def layout(self) -> Layout:
        """Where files are put."""
        return self.layouts[0]

    def seek(self, look: Callable[[Layout], T | None]) -> T | None:
        """What `look` finds in one of the layouts; None if it is in none of them.

        A file that is moved meanwhile is not missed: it has its new name before it loses the old one, so a
        second round finds it; and when the layouts themselves have changed, those are gone through.

        Raises:
            OSError: as `look` does.
            CacheError: layout.json can't be read.
        """
        again = False
        for _ in range(_SEEKS):
            layouts = self.layouts
            for layout in layouts:
                found = look(layout)
                if found is not None:
                    return found
            self.look_again()
            same = self.layouts is layouts
            if same and (again or len(layouts) == 1):
                break
            again = same
        return None

    def look_again(self, *, at_once: bool = True) -> None:
        """Let a change of the layout be known that another process has made.

        Args:
            at_once: on a network file system too, where it takes the server's word; else now and then.

        Raises:
            CacheError: layout.json can't be read.
        """
        try:
            if self.remote:
                now = time.monotonic()
                if not at_once and now - self._looked < LOOK_SECONDS:
                    return
                self._looked = now
            elif self._is_as_seen():
                return
            found = read_layouts(self.root)  # opening it makes it fresh, its status may be seconds old
        except FileNotFoundError:  # the cache was deleted: whoever needs it will say so
            return
        except OSError as error:
            raise cache_error(error, self._layout_file, "read") from error
        if found is not None and found[0].id == self.id:
            self._take(*found)

    def _take(self, layouts: Layouts, seen: Signature) -> None:
        self._seen = seen
        if layouts.all != self.layouts:
            self.layouts = layouts.all

    def check(self) -> None:
        """Make sure that the tree at the root is the one that was opened: one call of the system if it is.

        A share that is not mounted leaves an empty directory, and another cache may be mounted in its place:
        nothing may be written there, and what is missing there is not lost.

        Raises:
            CacheGoneError: it is not.
            CacheError: the file system failed.
        """
        try:
            if self._is_as_seen():
                return
            found = read_layouts(self.root)
        except (FileNotFoundError, NotADirectoryError):
            found = None
        except OSError as error:
            raise cache_error(error, self._layout_file, "read") from error
        except CacheError as error:
            raise self._gone(f"{error.what}, {error.cause}") from None
        if found is None:
            raise self._gone(f"there is no {LAYOUT_FILE}, so it was unmounted, moved or deleted")
        if found[0].id != self.id:
            raise self._gone("another cache is at that path")
        self._take(*found)

    def _is_as_seen(self) -> bool:
        """Whether layout.json is the file that was read last."""
        try:
            return signature(os.stat(self._layout_file)) == self._seen
        except OSError as error:
            if error.errno not in {errno.ENOENT, *STALE}:
                raise
            return False  # replaced just now, or gone: who reads it will know

    def _gone(self, cause: str) -> CacheGoneError:
        return CacheGoneError(
            f"the cache {self.root} is gone",
            cause=cause,
            remedy="mount it, or move it back; nothing is written or given up meanwhile",
            path=self.root,
        )

    def object(self, sha256: str, *, restricted: bool = False) -> str:
        """See `Layout.object`."""
        return f"{self.root}/{self.layouts[0].object(sha256, restricted=restricted)}"

    def link(self, digest: str) -> str:
        """See `Layout.link`."""
        return f"{self.root}/{self.layouts[0].link(digest)}"

    def entry(self, digest: str) -> str:
        """See `Layout.entry`."""
        return f"{self.root}/{self.layouts[0].entry(digest)}"

    def partial_directory(self, digest: str) -> str:
        """See `Layout.partial_directory`."""
        return f"{self.root}/{self.layout.partial_directory(digest)}"

    def creating(self, path: str, action: Callable[[], T], *, checked: bool = False) -> T:
        """Do `action`, which makes a name at `path`; if its directory is missing, make that and do it again.

        Nothing is remembered about directories, so somebody may remove an empty one at any time. `checked` says
        that `check` was called just now.

        Raises:
            CacheGoneError: the root is not the one that was opened.
            OSError: as `action` does.
        """
        if not checked:
            self.check()
        directory = path.rpartition("/")[0]
        guess = not path.startswith(self._partial)
        if guess and self.growing:
            self.growing = self._make(directory)
        for _ in range(CREATE_TRIES):  # an empty directory may go between making it and using it
            try:
                return unless_stale(action)
            except FileNotFoundError:
                missing = self._make(directory)
                if not missing and not refresh(directory):  # it was only remembered, by an NFS client
                    missing = self._make(directory)
                self.growing = missing if guess else self.growing
        return unless_stale(action)

    def make_directory(self, path: str) -> bool:
        """Make the directory `path`, inside the root, and those above it; whether it was missing.

        Raises:
            CacheGoneError: the root is not the one that was opened.
            OSError: the file system failed.
        """
        self.check()
        return self._make(path)

    def _make(self, path: str) -> bool:
        mode = directory_mode(path[len(self.root) + 1 :])
        try:
            unless_stale(os.mkdir, path, mode)
        except FileExistsError:
            return False
        except FileNotFoundError:
            if path == self.root:
                raise
            self._make(os.path.dirname(path))
            with suppress(FileExistsError):
                unless_stale(os.mkdir, path, mode)
        return True


def open_tree(path: str | os.PathLike[str], shards: str) -> Tree:
    """The cache at `path`, which is created if nothing is there.

    Two processes may create it at once: both get the same layout.

    Raises:
        NotACacheError: a file, or a directory with something else in it; it is left as it is.
        LayoutVersionError: written by a newer version of the program.
        CacheError: it can't be read or created.
        InputError: `shards` makes no sense.
    """
    wanted = Layout(shards)
    root = os.path.abspath(os.fspath(path))
    found = _read(root)
    if found is None:
        try:
            _create(root, wanted)
        except OSError as error:
            raise cache_error(error, root, "open the cache") from error
        found = _read(root)
    if found is None:
        raise CacheError(f"the cache {root} vanished while it was created", remedy="try again")
    return Tree(root, *found)


def open_existing_tree(path: str | os.PathLike[str], cache_id: str | None = None) -> Tree:
    """The cache at `path`, for who reads it or looks after it: nothing is created in an empty mount point.

    Args:
        path: its root.
        cache_id: of the cache that it has to be; None: any.

    Raises:
        NotACacheError: there is no cache.
        CacheGoneError: another one is there.
        LayoutVersionError: written by a newer version of the program.
        CacheError: it can't be read.
    """
    root = os.path.abspath(os.fspath(path))
    found = _read(root)
    if found is None:
        raise NotACacheError(
            f"{root} is not a cache",
            cause=f"there is no {LAYOUT_FILE}",
            remedy="is the file system mounted? A new cache is made by what first puts something there",
            path=root,
        )
    if cache_id not in {None, found[0].id}:
        raise CacheGoneError(
            f"the cache {root} is gone",
            cause="another cache is at that path",
            remedy="mount it, or move it back",
            path=root,
        )
    return Tree(root, *found)


def _read(root: str) -> tuple[Layouts, Signature] | None:
    try:
        return read_layouts(root)
    except NotADirectoryError:
        raise NotACacheError(
            f"{root} is not a cache", cause="it is not a directory", remedy="name a directory"
        ) from None
    except OSError as error:
        raise cache_error(error, root, "open the cache") from error


def _create(root: str, layout: Layout) -> None:
    _make_root(root)
    ours = (TAG_FILE, LAYOUT_FILE, f".{LAYOUT_FILE}", PROBE)
    foreign = [name for name in os.listdir(root) if not name.startswith(ours)]
    if foreign and read_layouts(root) is None:  # another process may have been quicker
        raise NotACacheError(
            f"{root} is not a cache",
            cause=f"it is not empty and has no {LAYOUT_FILE}",
            remedy="name an empty directory or one that does not exist",
            path=root,
        )
    mode = stat.S_IMODE(os.stat(root).st_mode)
    if mode & stat.S_IWOTH:  # whoever can write here can serve any bytes
        os.chmod(root, mode & ~stat.S_IWOTH)
    place(root, TAG_FILE, TAG)
    place(
        root, LAYOUT_FILE, Layouts(layout, id=os.urandom(8).hex()).to_json()
    )  # last: it says that the cache is complete


def _make_root(root: str) -> None:
    try:
        os.mkdir(root, ROOT_MODE)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_root(os.path.dirname(root))
        with suppress(FileExistsError):
            os.mkdir(root, ROOT_MODE)
