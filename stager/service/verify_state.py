"""How far a verification is, on disk."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path

from stager.model.verify import VerifyReport

log = logging.getLogger(__name__)

FILE = "verify.json"


class VerifyFile:
    """The last verification of one cache.

    Args:
        state_dir: where it is kept.
        root: of the cache; what is kept of another one counts as nothing.
    """

    def __init__(self, state_dir: Path, root: str) -> None:
        self._path = state_dir / FILE
        self._root = root

    def read(self) -> VerifyReport | None:
        """What was written; None when nothing was, or nothing that can be read."""
        try:
            report = VerifyReport.from_dict(json.loads(self._path.read_bytes()))
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return report if report.root == self._root else None

    def write(self, report: VerifyReport) -> None:
        """Keep it, whole; where that is impossible an interrupted verification begins anew, and that is all."""
        draft = self._path.with_name(f"{FILE}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.write_text(json.dumps(report.to_dict()))
            draft.rename(self._path)
        except OSError as error:
            log.warning("can't keep how far the verification is: %s", error)
            with suppress(OSError):
                draft.unlink()
