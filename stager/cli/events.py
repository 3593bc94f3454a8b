"""``stager events``: what happens, as it happens."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.options import AsJson

if TYPE_CHECKING:
    from stager.model.chronicle import Event

Jobs = Annotated[
    list[str] | None,
    typer.Option("--job", metavar="JOB", help="About this job and what it needs; may be repeated."),
]
Stages = Annotated[
    list[str] | None,
    typer.Option("--stage", metavar="ID", help="About this stage request; may be repeated."),
]
Users = Annotated[
    list[str] | None,
    typer.Option("--user", metavar="NAME", help="About what is this user's; may be repeated."),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", metavar="KIND", help="Of this kind, such as job.done, or job; may be repeated."),
]
After = Annotated[
    int | None,
    typer.Option(
        "--after", min=0, metavar="NUMBER", help="Those after this one first, as far as they are kept."
    ),
]


def events(
    job: Jobs = None,
    stage: Stages = None,
    user: Users = None,
    kind: Kinds = None,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """Print what happens as it happens, until interrupted: jobs, files, preconditions, credentials.

    A server that is started again meanwhile is waited for, and nothing is missed.
    """
    from stager.cli.connect import connected

    wanted = {"jobs": job or (), "stages": stage or (), "users": user or (), "kinds": kind or ()}
    with connected() as client, closing(client.events.follow(**wanted, after=after)) as told:
        for event in told:
            if as_json:
                output.json_line(event.to_dict())
            else:
                output.line(output.one_line(_line(event)))
            sys.stdout.flush()


def _line(event: Event) -> str:
    about = event.job or event.stage or event.fetch
    words = [output.moment(event.at) if event.at else "-", event.kind, about, event.user, *_details(event)]
    return "  ".join(filter(None, words))


def _details(event: Event) -> list[str]:
    from stager.errors import error_from_dict

    said = []
    for name, value in event.details.items():
        if name == "error":
            said.append(str(error_from_dict(value)))
        elif name == "size":
            said.append(output.size(value))
        elif name in {"url", "name", "host"}:
            said.append(str(value))
        elif value is not None and name not in {"sha256", "cached", "pinned_until"}:
            said.append(f"{name} {value}")
    return said
