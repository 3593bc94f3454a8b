"""Keeps what a process has in memory from everybody but root: for those that have a secret in clear."""

from __future__ import annotations

import ctypes
import logging
import os
from functools import cache

log = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4


@cache  # once is for good
def keep_memory_private() -> None:
    """From now on this process leaves no core dump, and no other process of its user reads its memory or environment.

    As ssh-agent does it: the kernel then dumps no core wherever that would go, refuses ``ptrace`` and makes
    ``/proc/PID`` root's. What the process reads of itself there it can still read. Programs that it starts are as
    they would be.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        log.warning("a core dump of this process would hold secrets: %s", os.strerror(ctypes.get_errno()))
