"""Which node runs a hand-over: a small file on the share, which one node alone can make."""

from __future__ import annotations

import errno
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from stager.cache.fresh import list_names

NOBODY = "-"
"""Has the claim of a hand-over that was cancelled before any node took it; no node has such a name."""


@dataclass(frozen=True, slots=True)
class NodeClaim:
    """The claim of one hand-over, in ``run/`` of the job's directory (as `shared_runs` has it).

    Args:
        directory: the job's.
        epoch: of the hand-over.
    """

    directory: Path
    epoch: int

    @property
    def _path(self) -> Path:
        return self.directory / "run" / f"{self.epoch}.claim"

    def take(self, name: str) -> str:
        """Claim the hand-over for `name`; who has it, which is `name` also if it had it before.

        Raises:
            OSError: the share refused; ask again.
        """
        path = self._path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mine = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            with mine.open("x") as file:
                file.write(name)
                file.flush()
                os.fsync(file.fileno())  # other hosts see what is written back only
            path.hardlink_to(mine)
        except FileExistsError:
            if mine.stat().st_nlink > 1:  # ours, and the answer was lost on the way
                return name
            holder = self.holder()
            if not holder:  # somebody has it; who that is does not show here yet, and it is not us
                raise OSError(errno.ESTALE, "the claim can't be read", str(path)) from None
            return holder
        finally:
            mine.unlink(missing_ok=True)
        return name

    def holder(self) -> str | None:
        """Who has it; None: nobody yet.

        Raises:
            OSError: the share can't be read; ask again.
        """
        there = list_names(self._path.parent)  # a name looked for too early would stay unseen on NFS
        if self._path.name not in there:
            return None
        return self._path.read_text("utf-8", "replace")
