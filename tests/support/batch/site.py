"""A site with a batch system: the stand-in's commands in a directory for PATH."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

STANDIN = Path(__file__).with_name("standin.py")
EXAMPLES = Path(__file__).parents[3] / "examples"
NAMES = (
    "sbatch",
    "squeue",
    "scancel",
    "qsub",
    "qstat",
    "qdel",
    "condor_submit",
    "condor_q",
    "condor_rm",
)
SYSTEMS = ("slurm", "pbs", "htcondor")
PATIENCE = 60.0


class Site:
    """The commands, and the jobs that the batch system has.

    Args:
        root: an empty directory.
    """

    def __init__(self, root: Path) -> None:
        self.bin, self.spool = root / "bin", root / "spool"
        self.bin.mkdir(parents=True)
        self.spool.mkdir()
        for name in NAMES:
            words = [sys.executable, "-I", "-S", str(STANDIN), str(self.spool), name]
            self.command(name, f'exec {shlex.join(words)} "$@"')

    def command(self, name: str, script: str) -> Path:
        """Make (or replace) a command of the site."""
        path, draft = self.bin / name, self.bin / f".{name}"
        draft.write_text(f"#!/bin/sh\n{script}\n")
        draft.chmod(0o755)
        return draft.rename(path)  # it may be running

    @staticmethod
    def example(system: str) -> dict[str, Any]:
        """The settings of an example, its files named by their paths here."""
        text = (EXAMPLES / system / "stager.toml").read_text()
        return tomllib.loads(text.replace(f"/etc/stager/{system}", str(EXAMPLES / system)))

    def hold(self) -> None:
        """Let no job start from now on."""
        (self.spool / "hold").touch()

    def let_go(self) -> None:
        (self.spool / "hold").unlink()

    def jobs(self) -> list[dict[str, Any]]:
        """Jobs that are not over."""
        found = []
        for path in sorted(self.spool.glob("*.job")):
            with suppress(FileNotFoundError):
                found.append(json.loads(path.read_text()))
        return found

    def submitted(self) -> int:
        """How many jobs there have ever been."""
        return len(list(self.spool.glob("*.taken")))

    def power_cut(self) -> None:
        """Kill all that runs, as when the nodes lose power."""
        for job in self.jobs():
            if job["pid"]:
                with suppress(ProcessLookupError):
                    os.killpg(job["pid"], signal.SIGKILL)

    def close(self) -> None:
        """End what is left."""
        for path in self.spool.glob("*.taken"):
            path.with_suffix(".cancel").touch()
        self.power_cut()
        until = time.monotonic() + PATIENCE
        while self.jobs() and time.monotonic() < until:
            time.sleep(0.01)
            self.power_cut()
        assert not self.jobs()
