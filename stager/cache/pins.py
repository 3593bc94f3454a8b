"""What a job sees: its inputs as files with their own names, each a hard link to an object.

While the job's link exists the object has two links, which keeps it from eviction whatever the database
says. Where hard links are refused (or an object has as many as the file system counts) the input is a
symbolic link, and only the database protects the object.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from stager.cache.failures import LINK_REFUSED, cache_error
from stager.cache.files import remove_quietly, unless_stale
from stager.cache.layout import JOBS
from stager.cache.objects import find_object
from stager.cache.owner import new_owner, retire
from stager.cache.removal import DIRECTORY, NO_DIRECTORY, remove_tree
from stager.cache.tree import Tree
from stager.errors import CacheError, ObjectLostError

_LINK_TRIES = 8
"""The object may be moved to another layout between looking for it and linking it."""


def job_directory(tree: Tree, job: str) -> str:
    """Where that job's files are; nothing is made.

    Raises:
        InputError: no file can have the job's name.
    """
    from stager.model.jobs import check_file_name  # a plain look-up has no use for what jobs need

    return f"{tree.root}/{JOBS}/{check_file_name(job, 'job')}"


def make_job_directory(tree: Tree, job: str) -> str:
    """The job's directory, made with inputs/ and results/.

    Raises:
        InputError: no file can have the job's name.
        CacheError: it could not be made, or something else is in its place.
    """
    directory = job_directory(tree, job)
    try:
        _check_directory(directory)
        for part in (f"{directory}/inputs", f"{directory}/results"):
            if not tree.make_directory(part):
                _check_directory(part)
    except OSError as error:
        raise cache_error(error, directory, "make") from error
    return directory


def pin(tree: Tree, job: str, name: str, sha256: str, size: int, *, restricted: bool = False) -> str:
    """Show the object to the job as ``inputs/<name>``, opened once and found to have its size.

    Doing it again changes nothing; an input of that name with other content is replaced.

    Raises:
        InputError: no file can have that name.
        ObjectLostError: the object is gone or has another size; nothing is pinned.
        CacheError: the file system failed.
    """
    from stager.model.jobs import check_file_name

    check_file_name(name, f"input of job {job}")
    inputs = f"{job_directory(tree, job)}/inputs"
    path = f"{inputs}/{name}"
    try:
        _check_directory(inputs)
        _link(tree, sha256, path, job, restricted=restricted)
        found = _size(path)
        if found == size:
            return path
        with suppress(FileNotFoundError):
            unless_stale(os.unlink, path)
    except OSError as error:
        raise cache_error(error, path, "pin") from error
    tree.check()  # in a cache that is gone nothing is lost
    raise ObjectLostError(
        f"object {sha256} is damaged" if found is not None else f"object {sha256} is gone",
        cause=f"it has {found} bytes instead of {size}"
        if found is not None
        else f"{tree.object(sha256, restricted=restricted)} does not exist",
        remedy="fetch it again",
        sha256=sha256,
    )


def unpin(tree: Tree, job: str) -> None:
    """Remove the job's inputs; its results stay. Nothing happens if there are none.

    Raises:
        InputError: no file can have the job's name.
        CacheError: some inputs are still there.
    """
    _remove_part(tree, job, "inputs")


def remove_results(tree: Tree, job: str) -> None:
    """Remove the directory with the job's results; whoever calls has kept them.

    Raises:
        InputError: no file can have the job's name.
        CacheError: some of them are still there.
    """
    _remove_part(tree, job, "results")


def _remove_part(tree: Tree, job: str, part: str) -> None:
    directory = job_directory(tree, job)
    try:
        fd = unless_stale(os.open, directory, DIRECTORY)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in NO_DIRECTORY:  # the job put something else there: nothing of ours is behind it
            return
        raise cache_error(error, directory, "open") from error
    try:
        remove_tree(part, fd)
    except OSError as error:
        raise cache_error(error, f"{directory}/{part}", "remove") from error
    finally:
        os.close(fd)


def _check_directory(path: str) -> None:
    """Make sure that no link leads from the job's directory to elsewhere: a job can put one anywhere in it.

    Raises:
        CacheError: there is something else in its place.
        OSError: the file system failed.
    """
    try:
        mode = unless_stale(os.stat, path, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        raise CacheError(
            f"{path} is not a directory",
            cause="a link is in its place, which is not followed"
            if stat.S_ISLNK(mode)
            else "a file is in its place",
            remedy="remove it; a job writes into $STAGER_RESULTS, and does not replace it",
            path=path,
        )


def _link(tree: Tree, sha256: str, path: str, job: str, *, restricted: bool) -> None:
    """Link the object if it is there; if not, the caller finds that out when it looks at `path`."""
    target = tree.object(sha256, restricted=restricted)
    for _ in range(_LINK_TRIES):
        try:
            _link_once(tree, target, path, job)
        except FileNotFoundError:  # of the object or of the directory
            make_job_directory(tree, job)
            found = find_object(
                tree, sha256, restricted=restricted
            )  # another host made it just now, or a migration moves it
            if found is None:
                return
            target = found[0]
        else:
            return


def _link_once(tree: Tree, target: str, path: str, job: str) -> None:
    try:
        unless_stale(os.link, target, path)
    except FileExistsError:
        _relink(target, path)
    except OSError as error:
        if error.errno not in LINK_REFUSED:
            raise
        make_job_directory(tree, job)
        tree.look_again()  # what a symbolic link names has to stay there
        unless_stale(os.stat, target)
        _relink(target, path, symbolic=True)


def _relink(target: str, path: str, *, symbolic: bool = False) -> None:
    """Make `path` name the object in one step, whatever it named before.

    Raises:
        FileNotFoundError: there is no such object; `path` names what it named.
    """
    with suppress(OSError):
        if os.path.samefile(target, path):
            return
    owner = new_owner()
    private = f"{os.path.dirname(path)}/.{owner}"
    try:
        try:
            unless_stale(os.symlink if symbolic else os.link, target, private)
        except OSError as error:
            if symbolic or error.errno not in LINK_REFUSED:
                raise
            os.symlink(target, private)
        unless_stale(os.rename, private, path)
    finally:
        remove_quietly(private)
        retire(owner)


def _size(path: str) -> int | None:
    """Bytes of the file as an open of it sees them; None when it is not there."""

    def opened() -> int:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    try:
        return unless_stale(opened)
    except FileNotFoundError:
        return None
