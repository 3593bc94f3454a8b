"""The command line in a process that is killed at a scripted step: ``python -m tests.support.crashing_cli STEP ...``."""

from __future__ import annotations

import sys

from stager.cli import main
from tests.support.crashing import kill_at

if __name__ == "__main__":
    kill_at(sys.argv[1], 1)
    sys.exit(main(sys.argv[2:]))
