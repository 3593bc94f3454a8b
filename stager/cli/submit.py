"""``stager submit``: hand jobs to the server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stager.cli import output
from stager.cli.jobspec import (
    After,
    AnyDigests,
    Digests,
    Inputs,
    Mirrors,
    Name,
    Owner,
    Priority,
    Results,
    Variables,
    command_of,
    given_specs,
    owned,
)
from stager.cli.login import asking_name
from stager.cli.options import AsJson

Files = Annotated[
    list[Path] | None, typer.Argument(metavar="[JOB.toml...]", help="Job files.", show_default=False)
]


def submit(
    context: typer.Context,
    files: Files = None,
    *,
    inputs: Inputs = None,
    sha256: Digests = None,
    digest: AnyDigests = None,
    mirror: Mirrors = None,
    after: After = None,
    env: Variables = None,
    result: Results = None,
    priority: Priority = None,
    name: Name = None,
    owner: Owner = None,
    as_json: AsJson = False,
) -> None:
    """Submit jobs and print their ids, all or none.

    A job is described by a job file, or by options and the command after `--`:
    stager submit --input https://example.org/run7.nxs -- python3 reduce.py inputs/run7.nxs
    """
    options = {
        "inputs": inputs,
        "sha256": sha256,
        "digest": digest,
        "mirror": mirror,
        "after": after,
        "environment": env,
        "results": result,
        "priority": priority,
        "name": name,
        "owner": owner,
    }
    specs = owned(given_specs(files or [], command_of(context), options), asking_name())

    from stager.cli.connect import connected

    with connected() as client:
        ids = client.jobs.submit(specs)
    for job, spec in zip(ids, specs, strict=True):
        if as_json:
            output.json_line({"id": job, "name": spec.name})
        else:
            output.line(job)
