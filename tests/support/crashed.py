"""Processes that are made to crash."""

from __future__ import annotations

import os
import subprocess
from typing import Any

PATIENCE = 60.0


def crash(process: subprocess.Popen[Any], number: int) -> bool:
    """End a process by a signal for which others dump their core; whether it did, wherever that went."""
    process.send_signal(number)
    found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert found is not None
    assert process.wait(PATIENCE) == -number
    return found.si_code == os.CLD_DUMPED
