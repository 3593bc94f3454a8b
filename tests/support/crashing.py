"""A job server in a process of its own that is killed at a scripted step.

    python -m tests.support.crashing ROOT JOBS.json [STEP COUNT]

It starts a server on ROOT, submits the jobs if none were ever acknowledged, meets the precondition
``go``, waits until all jobs are over and exits with 0; but at the COUNT-th time that STEP is reached it
is killed, as by kill -9, with no chance to tidy up.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from stager import steps
from stager.model.jobs import JobSpec
from stager.settings import Settings
from stager.wiring.server import JobServer

PATIENCE = 60.0


def settings(root: Path) -> Settings:
    """A server whose everything is below `root`, and that tries again soon."""
    return Settings(
        cache_dir=root / "cache",
        state_dir=root / "state",
        retry_first_seconds=0.01,
        fetch_threads=3,
        job_slots=3,
        job_grace_seconds=1.0,
    )


def run(root: Path, jobs: Path, *at: str) -> subprocess.CompletedProcess[str]:
    """Run it; with `at` (step, count) it ends by SIGKILL."""
    return subprocess.run(
        [sys.executable, "-m", "tests.support.crashing", str(root), str(jobs), *at],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def kill_at(step: str, count: int) -> None:
    """This process is killed, as by kill -9, when it reaches the step for the `count`-th time."""
    left = count

    def observer(reached: str) -> None:
        nonlocal left
        if reached == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    steps.observe(observer)


def main() -> None:
    root, jobs, *at = sys.argv[1:]
    if at:
        assert at[0] in steps.STEPS, at
        kill_at(at[0], int(at[1]))
    with JobServer(settings(Path(root))) as server:
        specs = [JobSpec.from_dict(data) for data in json.loads(Path(jobs).read_text())]
        known = server.jobs.jobs()
        ids = [job.id for job in known] or server.jobs.submit(specs)
        server.jobs.meet("go")
        for job in ids:
            assert server.jobs.wait(job, PATIENCE / 2).state.is_final, f"job {job} is stuck"


if __name__ == "__main__":
    main()
