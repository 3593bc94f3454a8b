"""``stager cache migrate``: move the cache to another layout while it is in use."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import cache_import, output
from stager.cli.exit_codes import Exit
from stager.cli.login import login_name
from stager.cli.options import AsJson, CacheDir
from stager.errors import InputError

if TYPE_CHECKING:
    from stager.cache.importing import Import
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
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="DIR",
        help="Take over another cache's tree: files named by their SHA-256, or by their keys, "
        "where a name may be a URL in quoted form (https%3A%2F%2F...).",
    ),
]
Keys = Annotated[
    bool, typer.Option("--keys", help="With --from: the names are keys, whatever they look like.")
]
Hashes = Annotated[
    bool,
    typer.Option(
        "--hashes", help="With --from: the names are SHA-256, and the files get the keys sha256:HEX."
    ),
]


def migrate(
    shards: Shards = None,
    *,
    grace: Grace = None,
    source: From = None,
    keys: Keys = False,
    hashes: Hashes = False,
    link: cache_import.Link = False,
    readable: cache_import.Readable = False,
    owner: cache_import.Owner = None,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
) -> Exit:
    """Move the cache to other shard directories, or take over another cache's tree, while all go on using both.

    It can be interrupted and killed; the same command goes on. All programs that use the cache have to be
    of this version or newer: older ones say that they can't read it. What is taken over stays where it is as well,
    with --link as the same files.
    """
    of_source = {"--keys": keys, "--hashes": hashes, "--link": link, "--readable": readable, "--owner": owner}
    of_layout = {"--shards": shards, "--grace": grace}
    for option, given in (of_source if source is None else of_layout).items():
        if given:
            raise InputError(
                f"{option} says nothing here",
                cause="--from takes over another tree, without it the cache itself is moved",
                remedy="give the one or the other, and each in a command of its own",
            )
    if source is None:
        _move(shards, grace, as_json=as_json, cache_dir=cache_dir)
        return Exit.OK
    work = _take_over(
        str(source), keys=keys, hashes=hashes, link=link, readable=readable, owner=owner, cache_dir=cache_dir
    )
    if link:
        cache_import.note_links(str(source))
    return cache_import.carry_out(work, as_json=as_json)


def _take_over(
    source: str,
    *,
    keys: bool,
    hashes: bool,
    link: bool,
    readable: bool,
    owner: str | None,
    cache_dir: Path | None,
) -> Import:
    from stager.cache.importing import Import, by_digest, by_key, find_name
    from stager.settings import load_settings
    from stager.wiring import build_cache

    if keys and hashes:
        raise InputError("--keys and --hashes exclude each other", remedy="give one of them, or neither")
    name = by_key if keys else by_digest if hashes else find_name(source)
    return Import(
        build_cache(load_settings(cache_dir=cache_dir)),
        source,
        name,
        link=link,
        readable=readable,
        owner=login_name() if owner is None else owner,
    )


def _move(shards: str | None, grace: str | None, *, as_json: bool, cache_dir: Path | None) -> None:
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
