"""What the runners leave in the directory of runs, as the dispatcher reads it (see `runner`)."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLAIM_SECONDS = 86_400.0
"""How long the claim of a run is kept after its end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: its status (None: never started), why not, and how long it ran."""

    exit_code: int | None
    error: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files of one hand-over."""

    base: Path

    @property
    def _claim(self) -> Path:
        return self.base.with_name(self.base.name + ".claim")

    @property
    def _exit(self) -> Path:
        return self.base.with_name(self.base.name + ".exit")

    def outcome(self) -> Outcome | None:
        """How the run ended; None while it has not."""
        try:
            data: dict[str, Any] = json.loads(self._exit.read_bytes())
        except FileNotFoundError:
            return None
        return Outcome(data["exit_code"], data["error"], float(data.get("seconds", 0.0)))

    def is_claimed(self) -> bool:
        """Whether a runner has ever taken this run."""
        return self._claim.exists()

    def living_runner(self) -> int | None:
        """Process id of the runner; None when it is gone (or never was)."""
        try:
            fd = os.open(self._claim, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.read(fd, 32).split()[0])
        else:
            return None
        finally:
            os.close(fd)

    def forbid(self) -> bool:
        """Take the run so that no runner ever can; False when one has it already."""
        mine = self.base.with_name(f"{self.base.name}.forbid.{os.getpid()}")
        mine.write_text("0")
        try:
            os.link(mine, self._claim)
        except FileExistsError:
            return False
        finally:
            mine.unlink()
        return True

    def settle(self) -> None:
        """The end is recorded elsewhere. The claim stays: a runner that was slow to start must still lose."""
        self._exit.unlink(missing_ok=True)


class RunsDirectory:
    """The directory, on a local disk, where runs leave their files.

    Args:
        path: made if it does not exist, for the owner alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def files(self, job: str, epoch: int) -> RunFiles:
        """The files of a hand-over."""
        return RunFiles(self._path / f"{job}.{epoch}")

    def forget_old(self, open_jobs: Collection[str], *, now: float) -> None:
        """Drop what runs of other jobs left, once no runner can still be starting."""
        with os.scandir(self._path) as found:
            for item in found:
                if item.name.partition(".")[0] in open_jobs:
                    continue
                if item.stat().st_mtime < now - CLAIM_SECONDS:
                    Path(item.path).unlink(missing_ok=True)

    def settle_all_but(self, open_jobs: Collection[str], *, now: float) -> None:
        """Settle the runs of all other jobs, and drop claims so old that no runner can still be starting."""
        with os.scandir(self._path) as found:
            for item in found:
                job, _, rest = item.name.partition(".")
                if job in open_jobs:
                    continue
                if rest.endswith(".exit") or item.stat().st_mtime < now - CLAIM_SECONDS:
                    Path(item.path).unlink(missing_ok=True)
