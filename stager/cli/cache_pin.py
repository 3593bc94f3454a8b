"""``stager cache pin``, ``unpin``, ``pins``: files that stay."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.options import AsJson, CacheDir

if TYPE_CHECKING:
    from stager.model.pins import PinView

Files = Annotated[list[str], typer.Argument(metavar="URL|KEY|SHA256...", help="What is to stay.")]
Pinned = Annotated[
    list[str],
    typer.Argument(metavar="URL|KEY|SHA256|PIN...", help="Files, or pins by their id."),
]
Only = Annotated[
    str | None, typer.Argument(metavar="[URL|KEY|SHA256]", help="Only of this file.", show_default=False)
]
For = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="How long, such as 7d or 12h; without it: for ever."),
]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; whoever needs room will read it.")
]
Owner = Annotated[
    str | None, typer.Option("--owner", metavar="NAME", help="Who wants it; by default who runs the command.")
]


def pin(
    files: Files,
    span: For = None,
    reason: Reason = "",
    owner: Owner = None,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
) -> None:
    """Let files stay, whatever needs room. Pinning again prolongs; what stays is the content they have now."""
    from stager.cli.cache_source import cache_source
    from stager.cli.login import asking_name
    from stager.model.durations import parse_duration

    seconds = None if span is None else parse_duration(span)
    with cache_source(lambda site: site.pins, cache_dir) as pins:
        for word in files:
            _tell(pins.pin(word, seconds, reason=reason, owner=owner or asking_name()), as_json=as_json)


def unpin(pinned: Pinned, as_json: AsJson = False, cache_dir: CacheDir = None) -> None:
    """Take pins away; the files stay until room is needed. Those of a stage request end with that."""
    from stager.cli.cache_source import cache_source

    with cache_source(lambda site: site.pins, cache_dir) as pins:
        for word in pinned:
            for gone in pins.unpin(word):
                _tell(gone, as_json=as_json)


def pins(only: Only = None, as_json: AsJson = False, cache_dir: CacheDir = None) -> None:
    """List pins: what stays, who wants it, why, and until when."""
    from stager.cli.cache_source import cache_source

    with cache_source(lambda site: site.pins, cache_dir) as source:
        found = source.pins(only)
    if as_json:
        for one in found:
            output.json_line(asdict(one))
        return
    output.table(
        ("pin", "holder", "until", "sha256", "key", "reason"),
        ((one.id, one.holder, _end(one), one.object[:12], one.key or "-", one.reason) for one in found),
    )


def _tell(pin: PinView, *, as_json: bool) -> None:
    if as_json:
        output.json_line(asdict(pin))
    else:
        output.line(pin.id)


def _end(pin: PinView) -> str:
    if pin.until is None:
        return "for ever"
    return output.moment(pin.until) if pin.until > time.time() else "over"
