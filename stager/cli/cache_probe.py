"""``stager cache probe``: what a directory really guarantees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.exit_codes import Exit
from stager.cli.options import AsJson

if TYPE_CHECKING:
    from stager.cache.probe import ProbeReport

Directory = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="What to measure; by default the configured cache.")
]
WithPeer = Annotated[
    bool,
    typer.Option(
        "--with-peer", help="Measure between two hosts: give the same command on the other one too."
    ),
]
PeerSeconds = Annotated[
    float, typer.Option("--peer-seconds", metavar="S", min=1, help="How long to wait for the other host.")
]
Quick = Annotated[bool, typer.Option("--quick", help="Only what takes a moment.")]


def probe(
    directory: Directory = None,
    *,
    with_peer: WithPeer = False,
    peer_seconds: PeerSeconds = 300.0,
    quick: Quick = False,
    as_json: AsJson = False,
) -> Exit:
    """Measure what a directory guarantees, and say what to set.

    Some seconds; it may be a cache in use, and nothing is left behind. The status is 0 when a cache can be trusted
    there, 1 when with limits (each is named), 2 when not.
    """
    from stager.cache.probe import probe as measure
    from stager.settings import load_settings

    def waiting() -> None:
        output.note(f"waiting for the other host: run `stager cache probe --with-peer {where}` there")

    where = load_settings().cache_dir if directory is None else directory
    report = measure(where, quick=quick, peer_seconds=peer_seconds if with_peer else None, waiting=waiting)
    if as_json:
        output.json_line(report.to_dict())
    else:
        _show(report)
    return _status(report)


def _show(report: ProbeReport) -> None:
    output.table(
        ("verdict", "what", "measured", "which means"),
        ((one.verdict.value, one.name, one.measured, one.why) for one in report.findings),
    )
    output.table(
        ("recommended", "", "value", "because"),
        ((one.kind, one.name, one.value, one.why) for one in report.recommendations),
    )
    output.note(f"{report.directory} is {_SUMMARY[_status(report)]}")


_SUMMARY = {
    Exit.OK: "fit for a cache",
    Exit.WARNING: "usable for a cache, with the limits above",
    Exit.BROKEN: "not fit for a cache",
}


def _status(report: ProbeReport) -> Exit:
    from stager.cache.probe import Verdict

    if report.verdict is Verdict.UNFIT:
        return Exit.BROKEN
    return Exit.OK if report.verdict is Verdict.OK else Exit.WARNING
