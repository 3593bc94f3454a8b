"""``stager met`` and ``stager unmet``: say that preconditions hold, or no more."""

from __future__ import annotations

from typing import Annotated

import typer

from stager.cli import output
from stager.cli.options import AsJson

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME...]", help="Preconditions.", show_default=False)
]
Given = Annotated[list[str], typer.Argument(metavar="NAME...", help="Preconditions.")]


def met(names: Names = None, as_json: AsJson = False) -> None:
    """Say that preconditions are met, now and for jobs to come; without names, list them all."""
    from stager.cli.connect import connected
    from stager.model.preconditions import check_precondition_name

    for name in names or ():
        check_precondition_name(name)
    with connected() as client:
        if names:
            for name in names:
                changed = client.preconditions.meet(name)
                if as_json:
                    output.json_line({"name": name, "changed": changed})
                elif not changed:
                    output.note(f"{name} was met already")
            return
        known = client.preconditions.list()
    if as_json:
        for one in known:
            output.json_line({"name": one.name, "met_at": one.met_at})
    else:
        output.table(("name", "met"), ((one.name, output.moment(one.met_at)) for one in known))


def unmet(names: Given, as_json: AsJson = False) -> None:
    """Say that preconditions hold no more: jobs that are not handed over yet wait for them again."""
    from stager.cli.connect import connected
    from stager.model.preconditions import check_precondition_name

    for name in names:
        check_precondition_name(name)
    with connected() as client:
        for name in names:
            changed = client.preconditions.unmeet(name)
            if as_json:
                output.json_line({"name": name, "changed": changed})
            elif not changed:
                output.note(f"{name} was not met")
