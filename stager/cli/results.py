"""Look at the results of jobs, and fetch them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from stager.cli import output
from stager.cli.options import AsJson
from stager.errors import ConflictError, IncompleteError, InputError, NotFoundError

if TYPE_CHECKING:
    from stager.client import Client
    from stager.model.views import ResultView

Job = Annotated[str, typer.Argument(metavar="JOB", help="Id, ending of an id, or name of a job.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME...]", help="Which results; all by default.", show_default=False),
]
To = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR|FILE|-",
        help="Where to: a directory, a file for one result, or stdout.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]


def ls(job: Job, as_json: AsJson = False) -> None:
    """List what a job left."""
    from stager.cli.connect import connected

    with connected() as client:
        found = client.results.list(job)
    if as_json:
        for result in found:
            output.json_line(asdict(result))
        return
    output.table(
        ("size", "sha256", "name", "expires", "state"),
        ((output.size(one.size), one.sha256[:12], one.name, _expires(one), _state(one)) for one in found),
        right=("size",),
    )


def get(job: Job, names: Names = None, to: To = ".", force: Force = False, as_json: AsJson = False) -> None:
    """Fetch what a job left and print the paths. Each file is verified, and appears whole or not at all."""
    from stager.cli.connect import connected

    with connected() as client:
        wanted = _chosen(job, client.results.list(job), names or ())
        if not wanted:
            output.note(f"job {job} left no results")
        if to == "-":
            _to_stdout(client, job, wanted)
            return
        places = places_for(wanted, to, force=force)
        for result, path in places:
            with closing(client.results.read(job, result.name)) as blocks:
                write_verified(blocks, result, path, force=force)
            if as_json:
                output.json_line(
                    {"name": result.name, "path": str(path), "sha256": result.sha256, "size": result.size}
                )
            else:
                output.line(str(path))


def rm(job: Job, names: Names = None, as_json: AsJson = False) -> None:
    """Remove what a job left, whatever was promised: all of it, or the results named."""
    from stager.cli.connect import connected

    with connected() as client:
        gone = client.results.remove(job, names or None)
    for one in gone:
        if as_json:
            output.json_line({"name": one.name, "sha256": one.sha256, "size": one.size})
        else:
            output.line(one.name)


COMMANDS = (ls, get, rm)


def _expires(result: ResultView) -> str:
    if result.kept is False:
        return "-"
    return "never" if result.expires_at is None else output.moment(result.expires_at)


def _state(result: ResultView) -> str:
    if result.kept is not False:
        return "kept"
    when = f" {output.moment(result.gone_at)}" if result.gone_at is not None else ""
    return f"gone{when}: {result.gone_because or 'why is not known'}"


def places_for(results: Sequence[ResultView], to: str, *, force: bool) -> list[tuple[ResultView, Path]]:
    """Where each result goes; nothing is written yet.

    Raises:
        ConflictError: a file is there already.
    """
    from stager.model.jobs import check_result_path

    target = Path(to)
    if len(results) == 1 and to != "." and not to.endswith("/") and not target.is_dir():
        places = [(results[0], target)]
    else:
        places = [(result, target / check_result_path(result.name)) for result in results]
    for _, path in places:
        if not force and os.path.lexists(path):
            raise _exists(path)
    return places


def write_verified(blocks: Iterable[bytes], result: ResultView, path: Path, *, force: bool) -> None:
    """Write a file that has the result's digest, under its name once it is whole.

    Raises:
        IncompleteError: what came is not what the server promised; nothing is written.
        ConflictError: a file of that name appeared meanwhile.
        InputError: it can't be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _draft_of(path) as (draft, file):
            for block in verified(blocks, result):
                file.write(block)
            file.close()
            if force:
                draft.replace(path)
            else:
                os.link(draft, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise InputError(
            f"{path} can't be written",
            cause=error.strerror or str(error),
            remedy="choose another place with -o",
        ) from None


def verified(blocks: Iterable[bytes], result: ResultView) -> Iterator[bytes]:
    """The same blocks; at the end an error if they are not the result's."""
    from hashlib import sha256

    digest = sha256()
    for block in blocks:
        digest.update(block)
        yield block
    if digest.hexdigest() != result.sha256:
        raise IncompleteError(
            f"result {result.name!r} did not arrive as it is",
            cause="its digest is another one",
            remedy="try again",
        )


@contextmanager
def _draft_of(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A file beside `path` that is gone afterwards."""
    draft = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    try:
        with draft.open("wb") as file:
            yield draft, file
    finally:
        draft.unlink(missing_ok=True)


def _to_stdout(client: Client, job: str, wanted: Sequence[ResultView]) -> None:
    if len(wanted) != 1:
        raise InputError(f"{len(wanted)} results for stdout", cause="it takes one", remedy="name one")
    with closing(client.results.read(job, wanted[0].name)) as blocks:
        for block in verified(blocks, wanted[0]):
            sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()


def _chosen(job: str, found: Sequence[ResultView], names: Sequence[str]) -> list[ResultView]:
    by_name = {result.name: result for result in found}
    for name in names:
        if name not in by_name:
            there = ", ".join(by_name) or "nothing"
            raise NotFoundError(f"job {job} has no result {name!r}", remedy=f"it left {there}")
    return [by_name[name] for name in dict.fromkeys(names)] if names else list(found)


def _exists(path: Path) -> ConflictError:
    return ConflictError(f"{path} exists", remedy="give --force to replace it, or another place with -o")
