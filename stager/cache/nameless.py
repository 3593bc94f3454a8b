"""Files without a name until they are complete (Linux's O_TMPFILE): nothing to clean up, whenever we are killed.

Made in the directory where they get their name, which fails if that name exists. Network file systems
have none; `open_nameless` finds that out once per `Tree`, and the caller then uses a named temporary.
"""

from __future__ import annotations

import errno
import os
from functools import partial

from stager.cache.failures import LINK_REFUSED
from stager.cache.files import unless_stale
from stager.cache.tree import Tree

_FLAGS = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC if hasattr(os, "O_TMPFILE") else 0
_NOT_HERE = LINK_REFUSED | {errno.EISDIR, errno.EINVAL}
"""What file systems and kernels answer that have no nameless files, or don't let them be linked."""


def open_nameless(tree: Tree, final: str, mode: int, *, checked: bool = False) -> int | None:
    """A descriptor to write what will be `final`; None where that is impossible. For `checked` see `Tree.creating`.

    Raises:
        OSError: the file system failed.
    """
    if not (_FLAGS and tree.nameless):
        return None
    try:
        opened = partial(os.open, final.rpartition("/")[0], _FLAGS, mode)
        return tree.creating(final, opened, checked=checked)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        tree.nameless = False
        return None


def link_nameless(tree: Tree, fd: int, final: str) -> bool:
    """Give the file `fd` the name `final`; False if that is impossible.

    Raises:
        FileExistsError: there is such a file.
        OSError: the file system failed.
    """
    try:
        # Without a directory descriptor Python calls link(), which does not follow the link in /proc.
        unless_stale(os.link, f"/proc/self/fd/{fd}", final, src_dir_fd=fd, follow_symlinks=True)
    except FileNotFoundError:  # no /proc, or somebody removed the empty directory
        return False
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        tree.nameless = False
        return False
    return True
