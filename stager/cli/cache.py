"""Look into the file cache."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stager.cli import cache_import, cache_migrate, cache_pin, cache_probe, output
from stager.cli.exit_codes import Exit
from stager.cli.options import AsJson, CacheDir

if TYPE_CHECKING:
    from pathlib import Path

    from stager.cache.store import FileCache
    from stager.model.entries import Entry

Key = Annotated[
    str, typer.Argument(metavar="URL|KEY", help="URL of a fetched file, or key of one that was put.")
]
Keys = Annotated[list[str], typer.Argument(metavar="URL|KEY...", help="URLs or keys.")]


def ls(as_json: AsJson = False, cache_dir: CacheDir = None) -> None:
    """List what is in the cache."""
    entries = _open(cache_dir).entries()
    if as_json:
        for entry in entries:
            output.json_line(_facts(entry))
        return
    output.table(
        ("size", "stored", "sha256", "key"),
        (
            (output.size(e.size), output.moment(e.stored_at), e.object[:12], _shown(e.key))
            for e in sorted(entries, key=lambda e: e.key)
        ),
        right=("size",),
    )


def show(key: Key, as_json: AsJson = False, cache_dir: CacheDir = None) -> None:
    """Show what the cache knows about one file."""
    cache = _open(cache_dir)
    entry = _entry(cache, key)
    facts = _facts(entry) | {"path": str(cache.object_path(entry.object))}
    if as_json:
        output.json_line(facts)
        return
    facts["size"] = f"{entry.size} ({output.size(entry.size)})"
    facts["stored_at"] = output.moment(entry.stored_at)
    facts["fresh_until"] = output.moment(entry.fresh_until) if entry.fresh_until else "for ever"
    output.table(("", ""), ((name, str(value)) for name, value in facts.items() if value not in ("", None)))


def rm(keys: Keys, cache_dir: CacheDir = None) -> Exit:
    """Remove files from the cache; jobs that hold them keep them."""
    cache = _open(cache_dir)
    missing = [key for key in keys if not cache.remove(_canonical(key))]
    for key in missing:
        output.note(f"{_shown(key)} is not in the cache")
    return Exit.NOT_FOUND if missing else Exit.OK


def path(key: Key, cache_dir: CacheDir = None) -> None:
    """Print the path of a cached file; it never changes and is never written again."""
    output.line(str(_open(cache_dir).path(_canonical(key))))


COMMANDS = (
    ls,
    show,
    rm,
    path,
    cache_pin.pin,
    cache_pin.unpin,
    cache_pin.pins,
    cache_probe.probe,
    cache_migrate.migrate,
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


def _entry(cache: FileCache, key: str) -> Entry:
    from stager.errors import NotFoundError

    entry = cache.lookup(_canonical(key))
    if entry is None:
        raise NotFoundError(f"{_shown(key)} is not in the cache", remedy="`stager cache ls` lists what is")
    return entry


def _facts(entry: Entry) -> dict[str, Any]:
    return {
        "key": _shown(entry.key),
        "sha256": entry.object,
        "size": entry.size,
        "stored_at": entry.stored_at,
        "fresh_until": entry.fresh_until,
        "etag": entry.validators.etag,
        "last_modified": entry.validators.last_modified,
        "content_type": entry.content_type,
        "content_encoding": entry.content_encoding,
        "unproven": entry.unproven,
        "restricted": entry.restricted,
    }
