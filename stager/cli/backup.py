"""``stager backup`` and ``stager restore``: the state of the server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.options import AsJson

if TYPE_CHECKING:
    from stager.service.backup import Places
    from stager.settings import Settings

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the backup.")]
WithKeys = Annotated[
    bool,
    typer.Option(
        "--with-keys",
        help="With the server's token and the private keys of credentials: whoever reads the backup can use them.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Although there is a state: it is put aside.")]


def backup(directory: Directory, *, with_keys: WithKeys = False, as_json: AsJson = False) -> None:
    """Write the server's state into the new directory DIR, while the server runs.

    It has jobs, fetches, users and grants, what is known of jobs that run, and sealed credentials; not the cache. A
    database in PostgreSQL is not in it: use pg_dump.
    """
    from stager import __version__
    from stager.service.backup import back_up
    from stager.settings import load_settings

    settings = load_settings()
    places = places_of(settings)
    made = back_up(directory.absolute(), places, program=__version__, now=time.time(), with_keys=with_keys)
    if as_json:
        output.json_line({"directory": str(directory), "schema": made.schema, "files": len(made.files)})
        return
    output.note(f"{len(made.files)} files in {directory}")
    if places.database is None:
        output.note("the database is not in it: it is in PostgreSQL, which pg_dump backs up")
    if not with_keys:
        output.note("token and private keys are not in it; --with-keys takes them too")


def restore(directory: Directory, *, force: Force = False, as_json: AsJson = False) -> None:
    """Put the state in DIR, which `stager backup` made, into the place of the server's; no server may run.

    What there was is put aside, not deleted. What happened since the backup is not known afterwards: jobs that ran since
    then run again.
    """
    from stager.errors import ConflictError
    from stager.service.backup import restore as put_back
    from stager.settings import load_settings
    from stager.state.lock import StateLock

    settings = load_settings()
    places = places_of(settings)
    lock = StateLock(settings.state_dir)
    try:
        if places.database is not None and places.database.exists() and not force:
            raise ConflictError(
                f"there is a state in {settings.state_dir}",
                remedy="give --force: it is put aside, not deleted",
            )
        aside = settings.state_dir / time.strftime("before-restore-%Y-%m-%dT%H-%M-%S")
        done = put_back(directory.absolute(), places, aside=aside)
    finally:
        lock.close()
    if as_json:
        output.json_line({"restored": done, "aside": str(aside) if aside.exists() else None})
        return
    output.note(f"restored: {', '.join(done)}")
    if aside.exists():
        output.note(f"what there was is in {aside}")


def places_of(settings: Settings) -> Places:
    """Where the parts of the state are."""
    from stager.cli.connect import token_path
    from stager.service.backup import Places
    from stager.wiring.credentials import credentials_root, key_files
    from stager.wiring.leading import state_file

    root = credentials_root(settings)
    sealed = {f"credentials/{part}": root / part for part in ("rows", "sessions", "notes", "version")}
    return Places(
        state_file(settings),
        {"runs": settings.state_dir / "runs", **sealed},
        {"token": token_path(settings), "key": key_files(settings).private},
    )
