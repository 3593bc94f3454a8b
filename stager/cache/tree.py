"""The root directory: opened, created, and its directories made when they are first needed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from stager.cache.failures import LINK_REFUSED, cache_error
from stager.cache.layout import (
    LAYOUT_FILE,
    PARTIAL,
    ROOT_MODE,
    SHARED_FILE_MODE,
    TAG,
    TAG_FILE,
    Layout,
    directory_mode,
)
from stager.cache.owner import new_owner, retire
from stager.errors import CacheError, NotACacheError

T = TypeVar("T")


class Tree:
    """A root and its layout: absolute paths as text, which is what the system calls take.

    Attributes:
        nameless: whether files without a name are possible, as far as is known. See `nameless`.
        remote: whether other kernels may write to it: it is not on a block device of this machine. Only then
            is it worth while to look twice (see `fresh`).
        growing: whether the directory needed last, for an object or an entry, was missing. A guess about
            the next one, which saves calls that fail: in a new cache nearly every file needs a directory,
            in a grown one none does. (The few directories of partial/ would only mislead it.)
    """

    def __init__(self, root: str, layout: Layout) -> None:
        self.root = root
        self.layout = layout
        self.nameless = True
        self.remote = os.major(os.stat(root).st_dev) == 0
        self.growing = True
        self._partial = f"{root}/{PARTIAL}/"

    def object(self, sha256: str, *, restricted: bool = False) -> str:
        """See `Layout.object`."""
        return f"{self.root}/{self.layout.object(sha256, restricted=restricted)}"

    def link(self, digest: str) -> str:
        """See `Layout.link`."""
        return f"{self.root}/{self.layout.link(digest)}"

    def entry(self, digest: str) -> str:
        """See `Layout.entry`."""
        return f"{self.root}/{self.layout.entry(digest)}"

    def partial_directory(self, digest: str) -> str:
        """See `Layout.partial_directory`."""
        return f"{self.root}/{self.layout.partial_directory(digest)}"

    def creating(self, path: str, action: Callable[[], T]) -> T:
        """Do `action`, which makes a name at `path`; if its directory is missing, make that and do it again.

        Nothing is remembered about directories, so somebody may remove an empty one at any time.
        """
        directory = path.rpartition("/")[0]
        guess = not path.startswith(self._partial)
        if guess and self.growing:
            self.growing = self.make_directory(directory)
        for _ in range(3):  # an empty directory may go between making it and using it
            try:
                return action()
            except FileNotFoundError:
                missing = self.make_directory(directory)
                self.growing = missing if guess else self.growing
        return action()

    def make_directory(self, path: str) -> bool:
        """Make the directory `path`, inside the root, and those above it; whether it was missing."""
        mode = directory_mode(path[len(self.root) + 1 :])
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            return False
        except FileNotFoundError:
            if path == self.root:
                raise
            self.make_directory(os.path.dirname(path))
            with suppress(FileExistsError):
                os.mkdir(path, mode)
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
    try:
        text = _read_layout(root)
        if text is None:
            _create(root, wanted)
            text = _read_layout(root)
    except NotADirectoryError:
        raise NotACacheError(
            f"{root} is not a cache", cause="it is not a directory", remedy="name a directory"
        ) from None
    except OSError as error:
        raise cache_error(error, root, "open the cache") from error
    if text is None:
        raise CacheError(f"the cache {root} vanished while it was created", remedy="try again")
    try:
        return Tree(root, Layout.from_json(text))
    except CacheError as error:
        raise type(error)(
            f"{root}: {error.what}", cause=error.cause, remedy=error.remedy, path=root
        ) from None


def _read_layout(root: str) -> bytes | None:
    try:
        with open(f"{root}/{LAYOUT_FILE}", "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _create(root: str, layout: Layout) -> None:
    _make_root(root)
    foreign = [n for n in os.listdir(root) if n != TAG_FILE and not n.lstrip(".").startswith(LAYOUT_FILE)]
    if foreign and _read_layout(root) is None:  # another process may have been quicker
        raise NotACacheError(
            f"{root} is not a cache",
            cause=f"it is not empty and has no {LAYOUT_FILE}",
            remedy="name an empty directory or one that does not exist",
            path=root,
        )
    mode = stat.S_IMODE(os.stat(root).st_mode)
    if mode & stat.S_IWOTH:  # whoever can write here can serve any bytes
        os.chmod(root, mode & ~stat.S_IWOTH)
    _place(root, TAG_FILE, TAG)
    _place(root, LAYOUT_FILE, layout.to_json())  # last: it says that the cache is complete


def _make_root(root: str) -> None:
    try:
        os.mkdir(root, ROOT_MODE)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_root(os.path.dirname(root))
        with suppress(FileExistsError):
            os.mkdir(root, ROOT_MODE)


def _place(root: str, name: str, content: bytes) -> None:
    """Put a file there, whole or not at all; if there is one already, it stays."""
    owner = new_owner()
    private = f"{root}/.{LAYOUT_FILE}.{owner}"
    try:
        fd = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, SHARED_FILE_MODE)
        try:
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.link(private, f"{root}/{name}")
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in LINK_REFUSED:
                raise
            os.rename(private, f"{root}/{name}")
    finally:
        retire(owner)
        with suppress(FileNotFoundError):
            os.unlink(private)
