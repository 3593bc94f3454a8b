"""``stager cache put`` and ``get``: files into the cache, and out of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.options import AsJson, CacheDir
from stager.errors import InputError

if TYPE_CHECKING:
    from typing import BinaryIO

Key = Annotated[str, typer.Argument(metavar="KEY|URL", help="Under which name it is kept.")]
Source = Annotated[str, typer.Argument(metavar="FILE|-", help="What to put; - is stdin.")]
Digest = Annotated[str | None, typer.Option("--sha256", metavar="HEX", help="Digest that it must have.")]
Owner = Annotated[
    str | None, typer.Option("--owner", metavar="NAME", help="Whose it is; by default who runs the command.")
]
To = Annotated[
    str,
    typer.Option("--output", "-o", metavar="FILE|-", help="Where to; by default a file named like the key."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]
BLOCK_BYTES = 1 << 20


def put(
    key: Key,
    source: Source,
    sha256: Digest = None,
    owner: Owner = None,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
) -> None:
    """Put a file into the cache and print its SHA-256. It is there whole or not at all, whatever its size."""
    from stager.cli.cache_source import cache_source
    from stager.cli.login import asking_name

    with ExitStack() as opened, cache_source(lambda site: site.content, cache_dir) as content:
        file = sys.stdin.buffer if source == "-" else opened.enter_context(_open(source))
        stored = content.put(key, _blocks(file, source), sha256=sha256, owner=owner or asking_name())
    if as_json:
        output.json_line(asdict(stored))
    else:
        output.line(stored.sha256)


def get(
    key: Key, to: To = "", force: Force = False, as_json: AsJson = False, cache_dir: CacheDir = None
) -> None:
    """Fetch a file from the cache and print its path. It is verified, and appears whole or not at all."""
    from stager.cli.cache_source import cache_source
    from stager.cli.results import places_for, verified, write_verified
    from stager.model.views import ResultView

    with (
        cache_source(lambda site: site.content, cache_dir) as content,
        content.get(key) as (found, blocks),
    ):
        name = key.partition("?")[0].rstrip("/").rpartition("/")[2]
        wanted = ResultView(name or "file", found.sha256, found.size)
        if to == "-":
            for block in verified(blocks, wanted):
                sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
            return
        ((_, path),) = places_for([wanted], to or ".", force=force)
        write_verified(blocks, wanted, path, force=force)
    if as_json:
        output.json_line(asdict(found) | {"path": str(path)})
    else:
        output.line(str(path))


def _open(source: str) -> BinaryIO:
    try:
        return Path(source).open("rb")
    except OSError as error:
        raise InputError(f"{source} can't be read", cause=error.strerror or str(error)) from None


def _blocks(file: BinaryIO, source: str) -> Iterator[bytes]:
    try:
        while block := file.read(BLOCK_BYTES):
            yield block
    except OSError as error:
        raise InputError(f"{source} can't be read", cause=error.strerror or str(error)) from None
