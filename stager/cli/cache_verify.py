"""``stager cache verify``: is everything in the cache what it should be?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stager.cli import output
from stager.cli.cache_source import cache_source
from stager.cli.exit_codes import Exit
from stager.cli.options import AsJson, CacheDir

if TYPE_CHECKING:
    from stager.model.verify import VerifyProgress, VerifyReport

Rate = Annotated[
    str | None,
    typer.Option(
        "--rate", metavar="RATE", help="Read at most so fast, such as 100MB/s; by default as fast as can be."
    ),
]
Sample = Annotated[
    str,
    typer.Option(
        "--sample", metavar="PART", help="Only so many of the objects, drawn at random, such as 1%."
    ),
]
Repair = Annotated[
    bool,
    typer.Option(
        "--repair", help="Take damaged objects away, to be fetched anew, and clear away what nobody needs."
    ),
]
Threads = Annotated[
    int, typer.Option("--threads", metavar="N", help="Objects read at once; 0: one per core.")
]
Anew = Annotated[
    bool, typer.Option("--anew", help="From the beginning, also if the last one was interrupted.")
]
Status = Annotated[
    bool, typer.Option("--status", help="Show how far the last one is, or what it found; read nothing.")
]


def verify(
    rate: Rate = None,
    sample: Sample = "100%",
    repair: Repair = False,
    threads: Threads = 0,
    anew: Anew = False,
    status: Status = False,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
) -> Exit:
    """Read objects again and compare them with their digests; look for what is left over.

    It can be interrupted: the same command goes on. The exit status is 1 if something is damaged, or may be, and
    was not taken away.
    """
    from stager.model.sizes import parse_part, parse_rate
    from stager.model.verify import VerifyRequest

    request = VerifyRequest(
        bytes_per_second=None if rate is None else parse_rate(rate),
        sample=parse_part(sample),
        repair=repair,
        threads=threads,
        anew=anew,
    )
    with cache_source(lambda site: site.verification, cache_dir) as source:
        report = source.last_verification() if status else _run(source.verify(request))
    if report is None:
        output.note("nothing was verified yet")
        return Exit.NOT_FOUND
    if as_json:
        output.json_line(report.to_dict())
    else:
        _show(report)
    unsettled = [finding for finding in report.findings if finding.object and not finding.repaired]
    return Exit.FAILED if report.bad and (unsettled or report.bad > len(report.findings)) else Exit.OK


def _run(running: Generator[VerifyProgress, None, VerifyReport]) -> VerifyReport:
    done: VerifyProgress | None = None
    with _bar() as draw, closing(running):
        try:
            while True:
                done = next(running)
                draw(done)
        except StopIteration as end:
            report: VerifyReport = end.value
            return report
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_how_far(done)) from None


def _how_far(done: VerifyProgress | None) -> str:
    where = "nothing is done yet" if done is None else f"{done.objects} objects ({done.share:.1%}) are done"
    return f"{where}; the same command goes on from there"


def _show(report: VerifyReport) -> None:
    rate = report.bytes / report.seconds if report.seconds else 0.0
    read = f"{report.objects} objects, {output.size(report.bytes)} read in {report.seconds:.1f} s ({output.size(int(rate))}/s)"
    if report.ended_at is None:
        read += f"; {report.share:.1%} of the cache, the same command goes on from there"
    output.line(f"{read}: {_found(report)}")
    if report.findings:
        output.table(
            ("found", "where", "why", "key", "still read by", "put right"),
            (
                (
                    finding.problem.value,
                    finding.path,
                    finding.cause,
                    " ".join(finding.keys),
                    ", ".join(f"job {reader}" for reader in finding.readers),
                    "yes" if finding.repaired else "no",
                )
                for finding in report.findings
            ),
        )
    if report.found > len(report.findings):
        output.note(f"{report.found - len(report.findings)} more are not listed")
    if report.bad and any(not finding.repaired for finding in report.findings if finding.object):
        output.note("`stager cache verify --repair` takes what is damaged away, to be fetched anew")


def _found(report: VerifyReport) -> str:
    if not report.found:
        return "all is as it should be"
    parts = [f"{count} {problem}" for problem, count in sorted(report.counts.items())]
    return f"{', '.join(parts)}; {report.repaired} put right"


@contextmanager
def _bar() -> Iterator[Callable[[VerifyProgress], None]]:
    """Draws how far it is, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[amount]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("verify", total=1.0, amount="")

        def draw(done: VerifyProgress) -> None:
            bars.update(task, completed=done.share, description=done.doing, amount=_amount(done))

        yield draw


def _amount(done: VerifyProgress) -> str:
    total = "?" if done.total is None else output.size(done.total)
    text = f"{output.size(done.bytes)} of {total}, {done.objects} objects, {output.size(int(done.bytes_per_second))}/s"
    if done.seconds_left is not None and done.doing == "objects":
        text += f", {_clock(done.seconds_left)} left"
    return text + (f", {done.found} found" if done.found else "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
