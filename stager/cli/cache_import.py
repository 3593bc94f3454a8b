"""``stager cache import``: adopt files that a site already has."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.exit_codes import Exit
from stager.cli.login import login_name
from stager.cli.options import AsJson, CacheDir
from stager.errors import InputError

if TYPE_CHECKING:
    from stager.cache.adopt import Adopted
    from stager.cache.importing import Import, Name

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="Where the files are; a BagIt bag is known as one.")
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--url-prefix", metavar="URL", help="URL that DIR was downloaded from: files get their URLs."
    ),
]
Keys = Annotated[bool, typer.Option("--keys", help="Files get their paths relative to DIR as keys.")]
Hashes = Annotated[
    bool, typer.Option("--hashes", help="Files are named by their SHA-256: they get the keys sha256:HEX.")
]
ManifestFile = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        metavar="FILE",
        help="What `sha256sum` (md5sum, ...) wrote of DIR; by default SHA256SUMS or the like in DIR, or the bag's.",
    ),
]
Link = Annotated[
    bool,
    typer.Option(
        "--link",
        help="Don't copy: the cache gets hard links, and your own files become read-only (mode 0444) where they are.",
    ),
]
Readable = Annotated[
    bool,
    typer.Option(
        "--readable",
        help="Import files too that not everybody may read (mode 0600, say): in the cache everybody may.",
    ),
]
Owner = Annotated[
    str | None, typer.Option("--owner", metavar="NAME", help="Whom the files count for (default: you).")
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--threads", metavar="N", min=1, max=256, help="Files at a time (default: one per core, 4 to 16)."
    ),
]


def import_(
    directory: Directory,
    *,
    url_prefix: Prefix = None,
    keys: Keys = False,
    hashes: Hashes = False,
    manifest: ManifestFile = None,
    link: Link = False,
    readable: Readable = False,
    owner: Owner = None,
    threads: Jobs = None,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
) -> Exit:
    """Import files that were downloaded before, verified by a checksum manifest if there is one.

    Give one of --url-prefix, --keys and --hashes. What can't be imported is named, and the rest goes on; the status
    is 0 when everything in DIR is in the cache. The same command, given again, passes over what is there already.
    """
    name = _name(url_prefix, keys=keys, hashes=hashes)

    from stager.cache.importing import Import, find_manifest
    from stager.settings import load_settings
    from stager.wiring import build_cache

    where, found = find_manifest(str(directory), None if manifest is None else str(manifest))
    work = Import(
        build_cache(load_settings(cache_dir=cache_dir)),
        where,
        name,
        manifest=found,
        link=link,
        readable=readable,
        owner=login_name() if owner is None else owner,
        threads=threads,
    )
    if found is not None:
        output.note(f"verifying against {found.path}")
    if link:
        note_links(where)
    return carry_out(work, as_json=as_json)


def note_links(where: str) -> None:
    """Say what it means for the files."""
    output.note(
        f"the files in {where} become objects of the cache: they are read-only from now on (mode 0444: nor can they be executed) "
        "and must not be changed; "
        "the cache keeps them as long as they are in both places"
    )


def carry_out(work: Import, *, as_json: bool) -> Exit:
    """Import, and say what becomes of the files."""
    with _shown(work) as files:
        try:
            for adopted in files:
                if as_json:
                    output.json_line(_facts(adopted))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{_summary(work)}; the same command goes on from there") from None
    output.note(_summary(work))
    return Exit.OK if all(outcome.is_good for outcome in work.counts) else Exit.FAILED


def _name(url_prefix: str | None, *, keys: bool, hashes: bool) -> Name:
    from stager.cache.importing import by_digest, by_path, by_url

    if (url_prefix is not None) + keys + hashes != 1:
        raise InputError(
            "it is not clear what keys the files get",
            cause="one of --url-prefix, --keys and --hashes is needed",
            remedy="for files downloaded from a site, give --url-prefix URL",
        )
    if url_prefix is not None:
        return by_url(url_prefix)
    return by_path if keys else by_digest


def _facts(adopted: Adopted) -> dict[str, str | int]:
    return {
        "path": adopted.name,
        "outcome": adopted.outcome.value,
        "size": adopted.size,
        "sha256": adopted.sha256,
        "reason": adopted.reason,
    }


def _summary(work: Import) -> str:
    parts = [f"{count} {outcome}" for outcome, count in sorted(work.counts.items())]
    if work.unverified:
        parts.append(f"{work.unverified} not named by the manifest")
    return f"{', '.join(parts) or 'nothing to import'} ({output.size(work.bytes)} in the cache)"


@contextmanager
def _shown(work: Import) -> Iterator[Iterator[Adopted]]:
    """The files as they are done, with a bar on a terminal; what can't be imported is said."""
    if not sys.stderr.isatty():
        yield _said(iter(work), output.note)
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[files]} files, {task.fields[amount]}"),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("", total=None, files=0, amount="0 B")

        def drawn() -> Iterator[Adopted]:
            for number, adopted in enumerate(work, 1):
                bars.update(task, completed=work.bytes, files=number, amount=output.size(work.bytes))
                yield adopted

        yield _said(drawn(), lambda text: console.print(output.one_line(text), markup=False, highlight=False))


def _said(files: Iterator[Adopted], say: Callable[[str], object]) -> Iterator[Adopted]:
    for adopted in files:
        if not adopted.outcome.is_good:
            say(f"{adopted.name}: {adopted.outcome}: {adopted.reason}")
        yield adopted
