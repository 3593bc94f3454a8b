"""Private temporary → verified, immutable object."""

from __future__ import annotations

import errno
import os

from stager.cache.failures import LINK_REFUSED, cache_error
from stager.cache.files import remove_quietly, unless_stale, write_all
from stager.cache.layout import OBJECT_MODE, RESTRICTED_OBJECT_MODE
from stager.cache.nameless import link_nameless, open_nameless
from stager.cache.objects import place_for, renew
from stager.cache.owner import retire
from stager.cache.partial import Partial, create_file
from stager.cache.tree import Tree
from stager.errors import CacheIOError
from stager.steps import reached

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def publish(tree: Tree, partial: Partial, sha256: str, size: int, *, restricted: bool = False) -> bool:
    """Make the bytes of `partial`, whose digest its writer computed, visible under that digest.

    A reader sees nothing or the whole object, wherever this process is killed. Two processes may publish
    the same object at once: one makes it, the other finds it made. No lock is needed for any of this.
    What is `restricted` goes from a private directory straight into another one.

    Returns:
        Whether the object is new.

    Raises:
        CacheError: nothing became visible. If the bytes are known to be on stable storage they stay for
            the next claim, otherwise they are deleted.
    """
    final = tree.object(sha256, restricted=restricted)
    try:
        final = place_for(tree, sha256, restricted=restricted)
        _check_size(partial, size)
        os.fchmod(partial.fd, _mode(restricted))  # from here on nobody opens it for writing
        os.fsync(partial.fd)  # a full disk or quota may come out here, after writes that succeeded ...
        partial.close_checked()  # ... or, on NFS, here
    except OSError as error:
        partial.discard()  # after a failed fsync the pages count as clean: these bytes prove nothing
        raise cache_error(error, partial.name, "store") from error
    except BaseException:
        partial.discard()
        raise
    reached("publish.synced")
    try:
        new = commit(tree, partial.name, final, size)  # the object exists from here on
    except OSError as error:
        partial.leave()
        raise cache_error(error, final, "publish") from error
    except BaseException:
        partial.leave()
        raise
    reached("publish.linked")
    partial.release()  # the private name goes last: until then it is a way to find the bytes again
    reached("publish.cleaned")
    return new


def publish_bytes(
    tree: Tree, digest: str, data: bytes | memoryview, sha256: str, *, restricted: bool = False
) -> bool:
    """`publish` for a small body in memory: the same guarantees in six system calls where files can be nameless.

    Raises:
        CacheError: nothing became visible, nothing is left.
    """
    tree.check()
    final = tree.object(sha256, restricted=restricted)
    mode = _mode(restricted)
    try:
        final = place_for(tree, sha256, restricted=restricted, checked=True)
        new = _publish_nameless(tree, final, data, mode)
        return _publish_private(tree, digest, data, final, mode) if new is None else new
    except OSError as error:
        raise cache_error(error, final, "store") from error


def _publish_nameless(tree: Tree, final: str, data: bytes | memoryview, mode: int) -> bool | None:
    """Whether the object is new; None where that takes a name: no nameless files, or a damaged object."""
    fd = open_nameless(tree, final, mode, checked=True)
    if fd is None:
        return None
    try:
        _store(fd, data, mode)  # local file systems only: after fsync there is no error left for close
        reached("publish.synced")
        if not link_nameless(tree, fd, final):
            return None
        new = True
    except FileExistsError:
        if _size(final) != len(data):
            return None
        renew(final)
        new = False  # somebody else published the same bytes
    finally:
        os.close(fd)
    reached("publish.linked")
    reached("publish.cleaned")
    return new


def _publish_private(tree: Tree, digest: str, data: bytes | memoryview, final: str, mode: int) -> bool:
    try:
        return _publish_once(tree, digest, data, final, mode)
    except CacheIOError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
    return _publish_once(tree, digest, data, final, mode)  # the bytes are still here


def _publish_once(tree: Tree, digest: str, data: bytes | memoryview, final: str, mode: int) -> bool:
    owner, stem, fd = create_file(tree, digest, "", ".tmp")
    private = f"{stem}.tmp"
    try:
        try:
            _store(fd, data, mode)
        finally:
            os.close(fd)
        reached("publish.synced")
        new = commit(tree, private, final, len(data))
        reached("publish.linked")
    finally:
        remove_quietly(private)
        retire(owner)
    reached("publish.cleaned")
    return new


def _mode(restricted: bool) -> int:
    return RESTRICTED_OBJECT_MODE if restricted else OBJECT_MODE


def _store(fd: int, data: bytes | memoryview, mode: int) -> None:
    write_all(fd, data)
    os.fchmod(fd, mode)  # whatever the umask
    os.fsync(fd)


def commit(tree: Tree, private: str, final: str, size: int) -> bool:
    """Give the complete file `private` the name `final` too; whether that is new."""
    try:
        tree.creating(final, lambda: os.link(private, final))
    except FileExistsError:
        if _size(final) == size:
            renew(final)
            return False  # somebody else published the same bytes, or NFS repeated our link
        unless_stale(os.rename, private, final)  # it was damaged: these are the right bytes
    except FileNotFoundError as error:
        raise CacheIOError(
            f"can't publish {final}",
            cause=f"the temporary {private} was removed by somebody else",
            remedy="try again",
            path=final,
            errno=errno.ENOENT,
        ) from error
    except OSError as error:
        if error.errno not in LINK_REFUSED:
            raise
        tree.creating(final, lambda: os.rename(private, final))
    return True


def _size(path: str) -> int | None:
    try:
        return unless_stale(os.stat, path).st_size
    except FileNotFoundError:
        return None


def _check_size(partial: Partial, size: int) -> None:
    found = os.fstat(partial.fd).st_size
    if found != size:
        raise CacheIOError(
            f"can't publish {partial.name}",
            cause=f"it has {found} bytes, {size} were written",
            remedy="try again",
            path=partial.name,
        )
