"""Look into the file cache."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import (
    cache_content,
    cache_du,
    cache_import,
    cache_ls,
    cache_migrate,
    cache_pin,
    cache_probe,
    cache_purge,
    cache_rebuild,
    cache_show,
    cache_verify,
    output,
)
from stager.cli.exit_codes import Exit
from stager.cli.options import CacheDir

if TYPE_CHECKING:
    from pathlib import Path

    from stager.cache.store import FileCache

Key = Annotated[
    str, typer.Argument(metavar="URL|KEY", help="URL of a fetched file, or key of one that was put.")
]
Keys = Annotated[list[str], typer.Argument(metavar="URL|KEY...", help="URLs or keys.")]


def rm(keys: Keys, cache_dir: CacheDir = None) -> Exit:
    """Remove files from the cache; jobs and pins that hold them keep them."""
    from stager.cli.cache_source import cache_source

    with cache_source(lambda site: site.files, cache_dir) as files:
        missing = files.remove(keys)
    for key in missing:
        output.note(f"{_shown(key)} is not in the cache")
    return Exit.NOT_FOUND if missing else Exit.OK


def path(key: Key, cache_dir: CacheDir = None) -> None:
    """Print the path of a cached file; it never changes and is never written again."""
    output.line(str(_open(cache_dir).path(_canonical(key))))


COMMANDS = (
    cache_ls.ls,
    cache_show.show,
    cache_du.du,
    rm,
    path,
    cache_rebuild.rebuild,
    cache_purge.purge,
    cache_purge.limits,
    cache_content.put,
    cache_content.get,
    cache_pin.pin,
    cache_pin.unpin,
    cache_pin.pins,
    cache_probe.probe,
    cache_migrate.migrate,
    cache_verify.verify,
    cache_import.import_,
)


def _open(directory: Path | None) -> FileCache:
    from stager.settings import load_settings
    from stager.wiring import build_cache

    return build_cache(load_settings(cache_dir=directory))


def _canonical(key: str) -> str:
    """A URL in the form that keys have; any other key as it is."""
    from stager.errors import InputError
    from stager.model.urls import parse_url

    with suppress(InputError):
        return parse_url(key).text
    return key


def _shown(key: str) -> str:
    from stager.errors import InputError
    from stager.model.urls import parse_url

    with suppress(InputError):
        return parse_url(key).redacted
    return key
