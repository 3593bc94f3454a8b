"""``stager doctor``: is everything all right?"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stager.cli import output
from stager.cli.exit_codes import Exit
from stager.cli.options import AsJson, CacheDir

if TYPE_CHECKING:
    from stager.model.checks import Checked

Seconds = Annotated[
    float, typer.Option("--timeout", metavar="S", min=0.1, help="After so long a look counts as failed.")
]
Problems = Annotated[bool, typer.Option("--problems", help="Only what is not ok.")]


def doctor(
    *,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
    seconds: Seconds = 20.0,
    problems: Problems = False,
) -> Exit:
    """Look at the whole installation: settings, cache, database, Redis, clocks, permissions, versions, workers.

    Nothing is changed. The status is 0 when all is well, 1 when something should be looked at, 2 when something is
    broken, as monitoring plugins count.
    """
    from stager.errors import StagerError
    from stager.model.checks import Checked, Health, worst
    from stager.service.examination import examine

    given: dict[str, Any] = {"cache_dir": cache_dir}
    try:
        from stager.settings import load_settings

        settings = load_settings(**given)
    except StagerError as error:  # nothing else can be looked at
        answers = [
            Checked("settings", Health.FAILED, f"{error.what}: {error.cause}".rstrip(": "), error.remedy)
        ]
    else:
        answers = list(examine(_checks(settings, given), seconds))
    shown = [one for one in answers if not problems or one.verdict in {Health.WARNING, Health.FAILED}]
    if as_json:
        for one in shown:
            output.json_line(_facts(one))
    else:
        _show(shown)
        output.note(_summary(answers))
    return {Health.OK: Exit.OK, Health.WARNING: Exit.WARNING}.get(worst(answers), Exit.BROKEN)


def _checks(settings: Any, given: dict[str, Any]) -> list[Any]:
    from stager.cli.connect import token_path
    from stager.service.examination import Check
    from stager.wiring.doctor import checks, token_file

    def server() -> list[Checked]:
        from stager.cli.doctor_server import server_checks

        return list(server_checks(settings))

    return [
        *checks(settings, given),
        Check("token file", lambda: [token_file(token_path(settings))]),
        Check("server", server),
    ]


def _facts(one: Checked) -> dict[str, str]:
    return {"check": one.name, "verdict": one.verdict.value, "finding": one.finding, "remedy": one.remedy}


def _summary(answers: Iterable[Checked]) -> str:
    from collections import Counter

    counts = Counter(one.verdict.value for one in answers)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("failed", "warning", "ok", "skipped"))


_COLOURS = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


def _show(answers: list[Checked]) -> None:
    if not sys.stdout.isatty():
        output.table((), ((one.verdict.value, one.name, one.finding, one.remedy) for one in answers))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "what", "found", "do"):
        table.add_column(column, overflow="fold")
    for one in answers:
        verdict = Text(one.verdict.value, style=_COLOURS[one.verdict.value])
        table.add_row(verdict, *(Text(output.one_line(text)) for text in (one.name, one.finding, one.remedy)))
    Console().print(table)
