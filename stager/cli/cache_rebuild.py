"""``stager cache rebuild``: the catalogue from the cache alone."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING

from stager.cli import output
from stager.cli.options import AsJson, CacheDir

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from stager.client.cache import CacheCalls
    from stager.client.talk import Blocking
    from stager.model.cache_views import Rebuilt, Walked
    from stager.service.cache_catalogue import CatalogueService


def rebuild(as_json: AsJson = False, cache_dir: CacheDir = None) -> None:
    """Read the whole catalogue off the cache; how often files were used, and when they were verified, stays.

    The server does it, if one runs, and everything goes on meanwhile. It can be interrupted, or killed: the
    catalogue is then as it was before.
    """
    from stager.cli.cache_source import cache_settings, cache_source, server_of
    from stager.state.lock import StateLock

    settings = cache_settings(cache_dir)
    client = server_of(settings, cache_dir)
    lock: AbstractContextManager[object] = (
        closing(StateLock(settings.state_dir)) if client is None else closing(client)
    )
    with lock, cache_source(lambda site: site.files, cache_dir) as files:
        done = shown(files.rebuild())
    if as_json:
        output.json_line({"files": done.files, "gone": done.gone, "seconds": round(done.seconds, 3)})
    else:
        gone = f", {done.gone} that are no more are gone from it" if done.gone else ""
        output.line(f"{done.files} files read in {done.seconds:.1f} s{gone}")


def fill(files: CatalogueService | CacheCalls[Blocking]) -> None:
    """Read a catalogue that was never read: somebody needs it now."""
    output.note("there is no catalogue of this cache yet: the cache is read first")
    shown(files.rebuild())


def shown(steps: Generator[Walked, None, Rebuilt]) -> Rebuilt:
    """Do it, with a bar on a terminal."""
    with closing(steps):
        if not sys.stderr.isatty():
            return _ended(steps)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("reading the cache"), BarColumn(), TextColumn("{task.fields[files]} files"))
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
            task = bars.add_task("", total=1.0, files=0)

            def drawn() -> Generator[Walked, None, Rebuilt]:
                while True:
                    try:
                        step = next(steps)
                    except StopIteration as end:
                        bars.update(task, completed=1.0, files=end.value.files)
                        result: Rebuilt = end.value
                        return result
                    bars.update(task, completed=step.share, files=step.files)
                    yield step

            return _ended(drawn())


def _ended(steps: Generator[Walked, None, Rebuilt]) -> Rebuilt:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Rebuilt = end.value
            return result
