"""Runs whose claim and exit file lie on the share, so that any host may run them and one alone does."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stager.cache.fresh import list_names
from stager.mapper.dispatch import runner
from stager.mapper.dispatch.notes import write_whole
from stager.mapper.dispatch.runs import Outcome, RunFiles

KEPT = (
    "TMPDIR",
    "SLURM_",
    "PBS_",
    "SGE_",
    "LSB_",
    "_CONDOR_",
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
)
"""Beginnings of the variables that a job gets from the node: what the batch system allotted to it."""
_SCRIPT = """#!/bin/sh
# Job {job}, hand-over {epoch}. Started a second time, on whatever host, it finds itself taken and leaves.
python={python}
[ -x "$python" ] || python=python3
exec "$python" -I -S {runner} {base} {grace}
"""


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a run.

    Attributes:
        claimed: a runner has taken it.
        forbidden: no runner ever can.
        batch_id: the runner's number in the batch system; empty if it told none.
        outcome: how it ended; None while it has not.
    """

    claimed: bool = False
    forbidden: bool = False
    batch_id: str = ""
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class SharedRun:
    """The files of one hand-over, in ``run/`` of the job's directory.

    Args:
        directory: the job's.
        epoch: of the hand-over.
    """

    directory: Path
    epoch: int

    def file(self, kind: str) -> Path:
        """The path of ``script``, ``order``, ``claim``, ``exit``, or of what the batch system says: ``out``, ``err``."""
        return self.directory / "run" / f"{self.epoch}.{kind}"

    @property
    def _files(self) -> RunFiles:
        return RunFiles(self.directory / "run" / str(self.epoch))

    def write(self, job: str, command: tuple[str, ...], variables: Mapping[str, str], grace: float) -> None:
        """Write the script that runs `command`, and beside it what must not be seen in a list of processes.

        Raises:
            OSError: the share refused.
        """
        folder = self.directory / "run"
        folder.mkdir(mode=0o700, exist_ok=True)
        program = folder / "runner.py"  # the nodes need not have this program installed
        write_whole(program, Path(runner.__file__).read_bytes())
        order = {
            "command": command,
            "directory": str(self.directory),
            "environment": dict(variables),
            "keep": [name for name in KEPT if name not in variables],
        }
        write_whole(self.file("order"), json.dumps(order).encode())
        script = _SCRIPT.format(
            job=job,
            epoch=self.epoch,
            python=shlex.quote(sys.executable),
            runner=shlex.quote(str(program)),
            base=shlex.quote(str(folder / str(self.epoch))),
            grace=grace,
        )
        write_whole(self.file("script"), script.encode(), 0o700)

    def look(self) -> Look:
        """What is known now. The directory is listed first: a name looked for too early would stay unseen on NFS.

        Raises:
            OSError: the share can't be read; ask again.
        """
        there = set(list_names(self.directory / "run"))
        claim = self.file("claim")
        if claim.name not in there:
            return Look()
        process, _, rest = claim.read_text().partition(" ")
        batch_id = rest.partition(" ")[2]
        outcome = self._files.outcome() if self.file("exit").name in there else None
        return Look(process != "0", process == "0", batch_id, outcome)

    def forbid(self) -> bool:
        """Take the run so that no runner ever can; False when one has it already (or nothing was written).

        Raises:
            OSError: the share refused.
        """
        self.file("claim").parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._files.forbid()

    def last_words(self) -> str:
        """The last line that the batch system itself had to say, such as why it ended the job."""
        with suppress(OSError):
            lines = self.file("err").read_text("utf-8", "replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")[:300]
        return ""

    def settle(self) -> None:
        """The end is recorded elsewhere. The claim stays: a runner that was slow to start must still lose."""
        for kind in ("order", "script", "exit"):
            self.file(kind).unlink(missing_ok=True)
        (self.directory / "run" / "runner.py").unlink(missing_ok=True)
