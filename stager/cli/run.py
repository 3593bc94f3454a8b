"""``stager run``: one job, from its inputs to its results, with no server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli.exit_codes import Exit
from stager.cli.jobspec import (
    After,
    AnyDigests,
    Digests,
    Inputs,
    Mirrors,
    Name,
    Results,
    Variables,
    command_of,
    given_specs,
)
from stager.cli.options import AllowedNetworks, AsJson, CacheDir
from stager.errors import ConflictError, InputError, SettingsError, StagerError

if TYPE_CHECKING:
    from stager.model.jobs import JobSpec

File = Annotated[Path | None, typer.Argument(metavar="[JOB.toml]", help="Job file.", show_default=False)]
Met = Annotated[
    list[str] | None,
    typer.Option("--met", metavar="NAME", help="A precondition that holds; nobody else can say so."),
]
To = Annotated[
    str | None,
    typer.Option(
        "--results",
        "-o",
        metavar="DIR",
        help="Where its results go; by default NAME-results, by its name or file.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace results that are there.")]


def run(
    context: typer.Context,
    file: File = None,
    *,
    inputs: Inputs = None,
    sha256: Digests = None,
    digest: AnyDigests = None,
    mirror: Mirrors = None,
    after: After = None,
    met: Met = None,
    env: Variables = None,
    result: Results = None,
    name: Name = None,
    to: To = None,
    force: Force = False,
    cache_dir: CacheDir = None,
    allowed_networks: AllowedNetworks = None,
    as_json: AsJson = False,
) -> int:
    """Run one job here and now, and end with its status; 125 if it could not be run.

    Its inputs are staged into the cache, its output appears as it is printed (with --json on stderr), its
    results are copied. Ctrl-C cancels it. A job is described as for `stager submit`.
    """
    options = {
        "inputs": inputs,
        "sha256": sha256,
        "digest": digest,
        "mirror": mirror,
        "after": after,
        "environment": env,
        "results": result,
        "name": name,
    }
    specs = given_specs([file] if file else [], command_of(context), options)
    if len(specs) > 1:
        raise InputError(
            f"{file} holds {len(specs)} jobs", cause="one is run", remedy="`stager submit` takes several"
        )
    spec = specs[0]
    _check_preconditions(spec, met or ())
    target = Path(to) if to else Path(f"{_plain(spec.name) or (file.stem if file else 'job')}-results")
    _check_target(target, force=force)

    from stager.cli.running import run_here

    try:
        given = {"cache_dir": cache_dir, "allowed_networks": allowed_networks}
        return run_here(spec, met or (), target, force=force, given=given, as_json=as_json)
    except (InputError, SettingsError):
        raise
    except StagerError as error:
        from stager.cli import output

        output.note(str(error))
        return Exit.NOT_RUN


def _check_preconditions(spec: JobSpec, met: list[str] | tuple[str, ...]) -> None:
    missing = [name for name in spec.after if name not in met]
    if missing:
        raise InputError(
            f"the job waits for {', '.join(missing)}",
            cause="without a server nobody can say that it is met",
            remedy=f"give --met {missing[0]} if it is, or submit the job to a server",
        )


def _check_target(target: Path, *, force: bool) -> None:
    """Refuse now what would be refused after hours of work."""
    try:
        taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
    except OSError as error:
        raise InputError(f"{target} can't be used for results", cause=error.strerror or str(error)) from None
    if taken and not (force and target.is_dir()):
        raise ConflictError(
            f"{target} exists", cause="results would mix with what is there", remedy="give -o DIR, or --force"
        )


def _plain(name: str) -> str:
    """A job's name as part of a file's."""
    return name.replace("/", "-").lstrip(".")
