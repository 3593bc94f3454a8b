"""The state of a server in a directory of its own, and back.

What is kept is what nothing else tells: the database, what is known of jobs that were handed over (``runs``), and sealed
credentials. The catalogue is read off the cache again; the cache is none of this. Secrets that open something (the
private keys, the server's token) are left out unless they are asked for.

    backup.json            format, version of program and schema, time, SHA-256 of each file
    stager.db              the database, if it is SQLite
    runs/  credentials/    as in the state directory
    keys/                  ``token`` and ``key``, if they were asked for
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stager.errors import ConflictError, InputError, StateError
from stager.state.copying import copy_database

FORMAT = 1
MANIFEST = "backup.json"
DATABASE = "stager.db"
KEYS = "keys"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself.

    Attributes:
        format: of the directory.
        program: the version that made it.
        schema: of the database; empty: the database is a PostgreSQL, and not in it.
        made_at: seconds since 1970 UTC.
        files: SHA-256 of each, by its path in the directory.
    """

    format: int
    program: str
    schema: str
    made_at: float
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the parts are.

    Attributes:
        database: the SQLite file; None: it is elsewhere.
        trees: directories and files, by their name in a backup.
        keys: files with secrets, likewise.
    """

    database: Path | None
    trees: Mapping[str, Path]
    keys: Mapping[str, Path]


def back_up(target: Path, places: Places, *, program: str, now: float, with_keys: bool) -> Manifest:
    """Write a backup into the new directory `target`; a server may run meanwhile.

    Runs are copied after the database: of a job that was handed over in between it is known that it was, and it is
    not started a second time.

    Raises:
        ConflictError: `target` exists.
        StateError: something can't be read or written; there is no `target` then.
    """
    if target.exists():
        raise ConflictError(f"{target} exists", remedy="name a directory that does not")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        schema = "" if places.database is None else copy_database(places.database, draft / DATABASE)
        for name, tree in places.trees.items():
            (draft / name).parent.mkdir(mode=0o700, exist_ok=True)
            _copy(tree, draft / name)
        if with_keys:
            (draft / KEYS).mkdir(mode=0o700)
            for name, file in places.keys.items():
                if file.exists():
                    shutil.copy2(file, draft / KEYS / name)
        manifest = Manifest(
            FORMAT, program, schema, now, {name: _digest(draft / name) for name in _files(draft)}
        )
        (draft / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")
        for file in draft.rglob("*"):
            _sync(file)
        draft.rename(target)
        _sync(target.parent)
    except OSError as error:
        raise StateError(
            f"{target} can't be written", cause=error.strerror or str(error), remedy="check the directory"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def read_manifest(source: Path) -> Manifest:
    """What a backup says of itself, once all its files are as they were.

    Raises:
        InputError: it is no backup, of a newer format, or damaged.
    """
    try:
        found = json.loads((source / MANIFEST).read_bytes())
        manifest = Manifest(**found)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{source} is no backup", cause=str(error), remedy="name what `stager backup` made"
        ) from None
    if manifest.format != FORMAT:
        raise InputError(
            f"{source} has format {manifest.format}", cause=f"{FORMAT} is known", remedy="upgrade the program"
        )
    for name, digest in manifest.files.items():
        file = source / name
        if not file.is_file() or _digest(file) != digest:
            raise InputError(
                f"{source} is damaged", cause=f"{name} is not as it was", remedy="use another backup"
            )
    return manifest


def restore(source: Path, places: Places, *, aside: Path) -> list[str]:
    """Put a backup in the place of what there is, which is moved to `aside`; the names of what was put back.

    No server may run. Interrupted, it is called again.

    Raises:
        InputError: see `read_manifest`; nothing was changed.
        ConflictError: the backup has a database, and the state is in another kind of it, or the other way round.
        StateError: something can't be written; what there was is in `aside`.
    """
    manifest = read_manifest(source)
    if bool(manifest.schema) != (places.database is not None):
        raise ConflictError(
            f"{source} is of another kind of database",
            cause="SQLite's is in a backup, PostgreSQL's is not",
            remedy="check database_url",
        )
    parts: list[tuple[Path, Path]] = [(source / name, place) for name, place in places.trees.items()]
    parts += [(source / KEYS / name, place) for name, place in places.keys.items()]
    if places.database is not None:
        parts.append((source / DATABASE, places.database))  # last: it says what there is
    try:
        return [_put(part, place, aside) for part, place in parts if part.exists()]
    except OSError as error:
        raise StateError(
            f"{source} can't be restored",
            cause=f"{error.filename}: {error.strerror}",
            remedy=f"what there was is in {aside}; mend the cause and restore again",
        ) from None


def _put(part: Path, place: Path, aside: Path) -> str:
    """Whole and on the disk before it has its name: whoever starts a server after a power loss finds no half of it."""
    draft = place.with_name(place.name + ".restoring")
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove(draft)  # of an attempt that was interrupted
    try:
        _copy(part, draft)
        for file in (draft, *draft.rglob("*")):
            _sync(file)
        _put_aside(place, aside)
        draft.rename(place)
    finally:
        _remove(draft)
    _sync(place.parent)
    return part.name


def _put_aside(place: Path, aside: Path) -> None:
    beside = [
        place.with_name(place.name + ending) for ending in ("-wal", "-shm")
    ]  # of SQLite: of the old one
    for old in (place, *beside):
        if old.exists():
            aside.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept = aside / old.name
            if kept.exists():  # of the attempt before, which was interrupted: that one was first
                _remove(old)
            else:
                shutil.move(old, kept)
                _sync(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """A file, or a directory that may change meanwhile: what goes while it is copied is left out."""
    if source.is_dir() and not source.is_symlink():
        target.mkdir(mode=0o700)
        for item in sorted(source.iterdir()):
            _copy(item, target / item.name)
    elif source.is_file():
        try:
            shutil.copy2(source, target)
        except FileNotFoundError:
            target.unlink(missing_ok=True)


def _files(root: Path) -> Iterator[str]:
    return (str(file.relative_to(root)) for file in sorted(root.rglob("*")) if file.is_file())


def _digest(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
