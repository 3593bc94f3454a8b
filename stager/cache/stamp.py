"""What time it is by the clock that stamps the files, which need not be this host's."""

from __future__ import annotations

import os
import time

from stager.cache.files import remove_quietly
from stager.cache.layout import PARTIAL
from stager.cache.owner import new_owner, retire
from stager.cache.tree import Tree


def file_system_time(tree: Tree) -> float:
    """What the clock says that stamps files in the tree; this host's, where nothing can be written."""
    owner = new_owner()
    path = f"{tree.root}/{PARTIAL}/00/{'0' * 64}.{owner}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = tree.creating(path, lambda: os.open(path, flags, 0o600))
        try:
            return os.fstat(fd).st_mtime
        finally:
            os.close(fd)
            remove_quietly(path)
    except OSError:
        return time.time()
    finally:
        retire(owner)
