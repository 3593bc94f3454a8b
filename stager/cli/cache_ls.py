"""``stager cache ls``: a snapshot of the cache."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stager.cli import cache_rows, output
from stager.cli.exit_codes import Exit
from stager.cli.options import AsJson, CacheDir
from stager.model.catalogue import Kind, Sort

if TYPE_CHECKING:
    from stager.cache.walk import TreeReader
    from stager.model.cache_views import Comparison
    from stager.model.catalogue import CachedFile
    from stager.settings import Settings
    from stager.state.scratch import Scratch

Order = Annotated[
    Sort,
    typer.Option(
        "--sort", help="Largest first, longest unused first, oldest first, most used first, or by key."
    ),
]
Host = Annotated[str | None, typer.Option("--host", metavar="HOST", help="Only files from there.")]
Owner = Annotated[
    str | None, typer.Option("--owner", metavar="NAME", help="Only what that one wanted first.")
]
OlderThan = Annotated[
    str | None,
    typer.Option("--older-than", metavar="TIME", help="Only what was not used for so long, such as 30d."),
]
OfKind = Annotated[
    Kind | None, typer.Option("--kind", help="Only inputs, results, or objects without a name.")
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=0, help="At most so many; 0: all.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Comma-separated values with a header.")]
Walk = Annotated[
    bool,
    typer.Option(
        "--walk",
        help="Read the cache itself, and say how the catalogue differs from it (then the exit code is 1).",
    ),
]


def ls(  # noqa: PLR0917 - options of a command
    sort: Order = Sort.SIZE,
    host: Host = None,
    owner: Owner = None,
    older_than: OlderThan = None,
    kind: OfKind = None,
    limit: Limit = 100,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    walk: Walk = False,
    cache_dir: CacheDir = None,
) -> Exit:
    """List what is in the cache, from its catalogue: at once, however many files there are."""
    from stager.cli.cache_source import cache_settings
    from stager.errors import InputError
    from stager.model.durations import parse_duration

    if as_json and as_csv:
        raise InputError("both --json and --csv", remedy="choose one")
    selection: dict[str, str | float] = {}
    given = {"host": host, "owner": owner, "kind": kind}
    selection |= {name: value for name, value in given.items() if value is not None}
    if older_than is not None:
        selection["unused_since"] = time.time() - parse_duration(older_than)
    settings = cache_settings(cache_dir)
    form = cache_rows.form_of(as_json=as_json, as_csv=as_csv)
    if not walk and _from_catalogue(settings, cache_dir, sort, selection, limit, form):
        return Exit.OK
    return _from_tree(settings, cache_dir, sort, selection, limit, form, compare=walk)


def _from_catalogue(
    settings: Settings,
    cache_dir: Path | None,
    sort: Sort,
    selection: Mapping[str, str | float],
    limit: int,
    form: str,
) -> bool:
    """Show the catalogue's answer; False: there is none."""
    if not settings.server or cache_dir is not None:
        from stager.state.snapshot import snapshot
        from stager.wiring.cache import cache_root, catalogue_file

        path = catalogue_file(settings)
        root = cache_root(settings)
        taken = None if path is None else snapshot(str(path), root, sort.value, selection, limit or None)
        if taken is not None:
            cache_rows.show_rows(taken.rows, taken.total, form)
            cache_rows.note_age(taken.walked_at, str(settings.state_dir))
            return True
        if path is not None and not path.exists():
            return False
    from stager.cli.cache_source import cache_source
    from stager.model.catalogue import Selection

    chosen = Selection(**dict(selection))  # type: ignore[arg-type]  # by the names of its fields
    with cache_source(lambda site: site.files, cache_dir) as files:
        found = files.ls(chosen, sort, limit=limit or None)
    if found.walked_at is None:
        return False
    cache_rows.show_rows(_rows(found.files), found.total, form)
    return True


def _from_tree(
    settings: Settings,
    cache_dir: Path | None,
    sort: Sort,
    selection: Mapping[str, str | float],
    limit: int,
    form: str,
    *,
    compare: bool,
) -> Exit:
    from stager.cache.walk import TreeReader
    from stager.state.scratch import Scratch

    if not compare:
        output.note("there is no catalogue of this cache yet: the cache itself is read")
    with Scratch() as met:
        _read(TreeReader(settings.cache_dir), met)
        rows, total = met.select(sort.value, selection, limit or None)
        cache_rows.show_rows(rows, total, form)
        if not compare:
            return Exit.OK
        if not _know(settings, cache_dir, met):
            output.note("there is no catalogue to compare with: `stager cache rebuild` makes one")
            return Exit.OK
        return _tell(met.compare())


def _read(reader: TreeReader, met: Scratch) -> None:
    from stager.cache.failures import cache_error
    from stager.cache.layout import ENTRIES, OBJECTS, RESTRICTED
    from stager.cache.walk import Seen
    from stager.cache.walk_many import read_entries

    try:
        for _, rows in read_entries(reader, reader.parts(ENTRIES)):
            met.put(rows)
        for folder in (OBJECTS, RESTRICTED):
            for part in reader.parts(folder):
                for seen in reader.objects(part):
                    met.objects((one.sha256, one.restricted) for one in seen)
        met.put(reader.unnamed((Seen(*one), None) for one in met.unnamed()))
    except OSError as error:
        raise cache_error(error, error.filename or reader.root, "read") from error


def _know(settings: Settings, cache_dir: Path | None, met: Scratch) -> bool:
    """Tell what the catalogue has; False: there is none."""
    from stager.cli.cache_source import cache_source
    from stager.state.snapshot import snapshot
    from stager.wiring.cache import cache_root, catalogue_file

    path = catalogue_file(settings)
    if path is not None:
        if snapshot(str(path), cache_root(settings), "size", {}, 1) is None:
            return False
        met.know_all_of(str(path))
        return True
    with cache_source(lambda site: site.files, cache_dir) as files:
        found = files.ls(sort=Sort.URL, limit=None)
    met.know((file.digest, file.key, file.object, file.size) for file in found.files)
    return found.walked_at is not None


def _tell(found: Comparison) -> Exit:
    kinds = (
        (found.missing, found.first_missing, "not in the catalogue"),
        (found.gone, found.first_gone, "in the catalogue alone"),
        (found.changed, found.first_changed, "of another size or content than the catalogue says"),
    )
    for count, first, words in kinds:
        if count:
            keys = ", ".join(cache_rows.shown_key(key) for key in first)
            more = f", and {count - len(first)} more" if count > len(first) else ""
            output.note(f"{count} {words}: {keys}{more}")
    if not found.differ:
        output.note(f"the catalogue agrees with the cache: {found.files} files")
    return Exit.FAILED if found.differ else Exit.OK


def _rows(files: Iterable[CachedFile]) -> Iterator[dict[str, Any]]:
    for file in files:
        yield asdict(file) | {"kind": file.kind.value}
