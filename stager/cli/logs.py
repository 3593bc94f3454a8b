"""``stager logs``: what a job printed."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated

import typer

from stager.cli import output
from stager.cli.options import AsJson

Job = Annotated[str, typer.Argument(metavar="JOB", help="Id, ending of an id, or name of a job.")]
Stderr = Annotated[bool, typer.Option("--stderr", help="What it printed on stderr instead.")]


def logs(job: Job, stderr: Stderr = False, as_json: AsJson = False) -> None:
    """Print what a job has printed so far, byte for byte."""
    from stager.cli.connect import connected

    with connected() as client:
        if as_json:
            texts = {}
            for name in ("stdout", "stderr"):
                with closing(client.jobs.log(job, name)) as blocks:
                    texts[name] = b"".join(blocks).decode("utf-8", "replace")
            output.json_line(texts)
            return
        with closing(client.jobs.log(job, "stderr" if stderr else "stdout")) as blocks:
            for block in blocks:
                sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()
