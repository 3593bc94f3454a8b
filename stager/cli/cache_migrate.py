"""``stager cache migrate``: move the cache to another layout while it is in use."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.options import AsJson, CacheDir

if TYPE_CHECKING:
    from stager.cache.migrate import Migration, Progress

Shards = Annotated[
    str | None,
    typer.Option(
        "--shards",
        metavar="N+N",
        help="Hexadecimal digits per directory level, such as 2+2 or 4+4; flat: no levels. "
        "By default the layout that an interrupted migration was on the way to.",
    ),
]
Grace = Annotated[
    str | None,
    typer.Option(
        "--grace", metavar="TIME", help="How long paths that were handed out stay good (default 90s)."
    ),
]


def migrate(
    shards: Shards = None, *, grace: Grace = None, as_json: AsJson = False, cache_dir: CacheDir = None
) -> None:
    """Move the cache to other shard directories, while servers, workers and jobs go on using it.

    It can be interrupted and killed; the same command goes on. All programs that use the cache have to be
    of this version or newer: older ones say that they can't read it.
    """
    from stager.cache.migrate import GRACE_SECONDS, Migration
    from stager.model.durations import parse_duration
    from stager.settings import load_settings

    root = load_settings(cache_dir=cache_dir).cache_dir
    seconds = GRACE_SECONDS if grace is None else parse_duration(grace)
    migration = Migration(root, shards, grace_seconds=seconds)
    begin = time.monotonic()
    before = [layout.shards for layout in migration.tree.layouts if layout != migration.target]
    with _shown(migration) as steps:
        done = None
        try:
            for done in steps:  # noqa: B007 - used when it is interrupted
                pass
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_how_far(done)) from None
    facts = {
        "shards": migration.target.shards,
        "previous": before,
        "objects": migration.counts["objects"],
        "entries": migration.counts["entries"],
        "pins": migration.counts["pins"],
        "duplicates": migration.counts["duplicates"],
        "seconds": round(time.monotonic() - begin, 3),
    }
    if as_json:
        output.json_line(facts)
    else:
        output.line(
            f"{root} has shards {facts['shards']}: "
            f"{facts['objects']} objects and {facts['entries']} entries moved in {facts['seconds']:.1f} s"
        )


def _how_far(done: Progress | None) -> str:
    where = "nothing was moved yet"
    if done is not None:
        where = f"at {done.step}, {done.done} of about {done.total}"
    return f"{where}; the cache can be used as it is, and the same command goes on from there"


@contextmanager
def _shown(migration: Migration) -> Iterator[Iterator[Progress]]:
    """The steps of the migration, with a bar for each on a terminal."""
    steps = migration.run(time.sleep)
    if not sys.stderr.isatty():
        yield steps
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def drawn() -> Iterator[Progress]:
            for step in steps:
                if step.step not in tasks:
                    tasks[step.step] = bars.add_task(step.step, total=None)
                bars.update(tasks[step.step], completed=step.done, total=step.total)
                yield step

        yield drawn()
