"""``stager cache du``: how much there is, of what, and how much room."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.cache_ls import Host, OfKind, Owner
from stager.cli.options import AsJson, CacheDir

if TYPE_CHECKING:
    from rich.console import Console

    from stager.model.cache_views import CacheSpace, CacheTotals
    from stager.model.catalogue import Share

PARTS = (("host", "hosts"), ("owner", "owners"), ("last used", "ages"), ("size", "sizes"), ("kind", "kinds"))
"""Heading of each part, and its name in `Totals`."""
MOST_ROWS = 12
"""Hosts or owners that have a row of their own on a terminal."""
_BAR = 30

All = Annotated[bool, typer.Option("--all", help="A row for each host and owner, however many.")]


def du(
    host: Host = None,
    owner: Owner = None,
    kind: OfKind = None,
    every: All = False,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
) -> None:
    """Show how much there is by host, owner, last use, size and kind; and how much room there is, and could be."""
    from stager.cli.cache_source import cache_source
    from stager.model.catalogue import Selection

    with cache_source(lambda site: site.files, cache_dir, filled=True) as files:
        found = files.totals(Selection(host, owner, kind=kind))
    if as_json:
        output.json_line(asdict(found))
    elif sys.stdout.isatty():
        _draw(found, every=every)
    else:
        _list(found)


def _list(found: CacheTotals) -> None:
    """For ``cut`` and ``awk``: part, name, files, bytes."""
    totals = found.totals
    output.line(f"all\t\t{totals.files}\t{totals.bytes}")
    for heading, part in PARTS:
        for share in getattr(totals, part):
            output.line(f"{heading}\t{output.one_line(share.name)}\t{share.files}\t{share.bytes}")
    for name, value in asdict(found.space).items():
        output.line(f"space\t{name}\t\t{value}")


def _draw(found: CacheTotals, *, every: bool) -> None:
    from rich.console import Console

    console = Console()
    totals = found.totals
    console.print(f"{totals.files:,} files, {output.size(totals.bytes)}", highlight=False)
    for heading, part in PARTS:
        shares: Sequence[Share] = getattr(totals, part)
        if not every and len(shares) > MOST_ROWS:
            shares = [*shares[: MOST_ROWS - 1], _rest(shares[MOST_ROWS - 1 :])]
        if any(share.files for share in shares):
            _bars(console, heading, shares, totals.bytes)
    _room(console, found.space)


def _rest(shares: Sequence[Share]) -> Share:
    from stager.model.catalogue import Share

    return Share(
        f"{len(shares)} others", sum(share.files for share in shares), sum(share.bytes for share in shares)
    )


def _bars(console: Console, heading: str, shares: Sequence[Share], whole: int) -> None:
    from rich import box
    from rich.bar import Bar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(heading, overflow="fold", min_width=12)
    for column in ("files", "size", ""):
        table.add_column(column, justify="right")
    table.add_column("", width=_BAR)
    for share in shares:
        part = share.bytes / whole if whole else 0.0
        table.add_row(
            Text(output.one_line(share.name) or "-"),
            f"{share.files:,}",
            output.size(share.bytes),
            f"{part:.0%}",
            Bar(1.0, 0.0, part, width=_BAR),
        )
    console.print(table)


def _room(console: Console, space: CacheSpace) -> None:
    from rich import box
    from rich.table import Table

    used = space.size - space.free
    percent = f"{used / space.size:.0%}" if space.size else "?"
    rows = [
        ("file system", output.size(space.size)),
        ("in use, by anybody", f"{output.size(used)} ({percent})"),
        ("free", output.size(space.free)),
        ("free inodes", f"{space.free_inodes:,} of {space.inodes:,}" if space.inodes else "not counted"),
        ("reserved by fetches that run", output.size(space.reserved)),
        ("an eviction could free", output.size(space.evictable)),
        ("in the trash", f"{output.size(space.trash_bytes)}, {space.trash_files:,} files"),
        ("limit of the cache", output.size(space.max_cache_bytes) if space.max_cache_bytes else "none"),
        ("limit of the file system", f"{space.max_used_percent:g}%"),
    ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("room")
    table.add_column("", justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
