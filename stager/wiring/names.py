"""What this host is called among the workers."""

from __future__ import annotations

import os
import re

from stager.settings import Settings


def node_name(settings: Settings) -> str:
    """The name of this host among the workers."""
    return settings.node or re.sub(r"[^A-Za-z0-9_.-]", "-", os.uname().nodename)[:63] or "node"
