"""Sealed credentials in a directory on a local disk: one that every process of the machine that fetches can read.

    version                 1
    rows/<id>.json          the credential: what anybody may know, and the sealed box
    sessions/<id>.json      what was obtained with it, sealed
    notes/<id>.json         when it was used, accepted, refused
    leases/<id>             locked by whoever renews its session
    lock                    locked by whoever changes a row

Each file is replaced whole, so that no reader needs a lock, and several processes may write.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stager.errors import CredentialStoreError, InputError
from stager.model.credentials import CredentialRow, Notes, SealedSession

VERSION = 1
"""Of this directory."""
GRAIN_SECONDS = 0.05
"""Two changes within so long may leave the same time stamp on a directory."""
_PARTS = ("rows", "sessions", "notes", "leases")
_ID = re.compile(r"[a-z0-9]{1,32}")


class FileStore:
    """See the module, and `CredentialStore`.

    Args:
        root: the directory; made when something is put into it. `CredentialStoreError` is raised, when it is used,
            of one of another version, open to others, or that can't be read.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._leases: dict[str, int] = {}
        self._lock = threading.Lock()

    def stamp(self) -> Hashable:
        """See `CredentialStore.stamp`: the time of the directory; of one that has just changed, always another."""
        try:
            found = os.stat(self._root / "rows")  # noqa: PTH116 - half the time of its own
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from None
        if time.time() - found.st_mtime < GRAIN_SECONDS:
            return time.monotonic_ns()
        return found.st_mtime_ns, found.st_ino

    def rows(self) -> list[CredentialRow]:
        """See `CredentialStore.rows`."""
        self._check()
        found = []
        for path in self._files("rows"):
            data = self._read(path)
            if data is not None:
                try:
                    found.append(CredentialRow.from_dict(data))
                except (KeyError, TypeError, ValueError, InputError) as error:
                    raise self._damaged(path, error) from None
        return found

    def put(self, row: CredentialRow) -> None:
        """See `CredentialStore.put`."""
        self._make()
        with self._alone():
            self._write("rows", row.id, row.to_dict())
        session = self.session(row.id)
        if session is not None and session.serial != row.serial:
            self._drop("sessions", row.id)

    def swap(self, old: CredentialRow, new: CredentialRow) -> bool:
        """Replace `old` by `new`, unless somebody else has replaced or removed it meanwhile."""
        path = self._path("rows", old.id)
        with self._alone():
            if self._read(path) != old.to_dict():
                return False
            self._write("rows", new.id, new.to_dict())
        return True

    def remove(self, credential: str) -> bool:
        """See `CredentialStore.remove`."""
        self._make()
        with self._alone():
            was_there = self._drop("rows", credential)
        for part in _PARTS[1:]:
            self._drop(part, credential)
        return was_there

    def session(self, credential: str) -> SealedSession | None:
        """See `CredentialStore.session`."""
        path = self._path("sessions", credential)
        data = self._read(path)
        try:
            return None if data is None else SealedSession(**data)
        except TypeError as error:
            raise self._damaged(path, error) from None

    def put_session(self, credential: str, session: SealedSession) -> None:
        """See `CredentialStore.put_session`."""
        self._make()
        self._write("sessions", credential, asdict(session))

    def notes(self, credential: str) -> Notes:
        """See `CredentialStore.notes`."""
        path = self._path("notes", credential)
        data = self._read(path)
        try:
            return Notes() if data is None else Notes(**data)
        except TypeError as error:
            raise self._damaged(path, error) from None

    def put_notes(self, credential: str, notes: Notes) -> None:
        """See `CredentialStore.put_notes`."""
        if self._path("rows", credential).exists():
            self._write("notes", credential, asdict(notes), durable=False)

    def lease(self, credential: str, seconds: float) -> bool:  # noqa: ARG002 - the kernel frees it with its holder
        """See `CredentialStore.lease`; held until `release`, or the end of the process."""
        self._make()
        try:
            fd = os.open(self._path("leases", credential), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        with self._lock:
            self._leases[credential] = fd
        return True

    def release(self, credential: str) -> None:
        """See `CredentialStore.release`."""
        with self._lock:
            fd = self._leases.pop(credential, None)
        if fd is not None:
            os.close(fd)

    # -- parts ----------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Inside, no other process changes a row."""
        try:
            fd = os.open(self._root / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _check(self) -> None:
        """Look at a directory that is there."""
        try:
            mode = stat.S_IMODE(self._root.stat().st_mode)
            version = (self._root / "version").read_text("ascii").strip()
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise self._unusable(error) from None
        if mode & 0o077:
            raise CredentialStoreError(
                f"credentials in {self._root} are open to others",
                cause=f"the mode of the directory is {mode:o}",
                remedy=f"`chmod 700 {self._root}`",
            )
        if version != str(VERSION):
            raise CredentialStoreError(
                f"credentials in {self._root} have version {version[:20]!r}",
                cause=f"this program knows version {VERSION}",
                remedy="upgrade the program",
            )

    def _make(self) -> None:
        if (self._root / "version").exists():
            self._check()
            return
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in _PARTS:
                (self._root / part).mkdir(mode=0o700, exist_ok=True)
            self._replace(self._root / "version", f"{VERSION}\n".encode(), durable=True)
        except OSError as error:
            raise self._unusable(error) from None

    def _path(self, part: str, credential: str) -> Path:
        if not _ID.fullmatch(credential):
            raise InputError(
                f"{credential[:40]!r} is no id of a credential", remedy="see `stager credentials ls`"
            )
        return self._root / part / (credential if part == "leases" else f"{credential}.json")

    def _files(self, part: str) -> list[Path]:
        try:
            return sorted(path for path in (self._root / part).iterdir() if path.suffix == ".json")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from None

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            data = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from None
        except ValueError as error:
            raise self._damaged(path, error) from None
        if not isinstance(data, dict):
            raise self._damaged(path, ValueError("it is no table"))
        return data

    def _write(self, part: str, credential: str, data: dict[str, Any], *, durable: bool = True) -> None:
        try:
            self._replace(self._path(part, credential), json.dumps(data).encode(), durable=durable)
        except OSError as error:
            raise self._unusable(error) from None

    def _replace(self, path: Path, data: bytes, *, durable: bool) -> None:
        draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        fd = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(fd)
            draft.rename(path)
        finally:
            draft.unlink(missing_ok=True)
        if durable:
            directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
            with suppress(OSError):
                os.fsync(directory)
            os.close(directory)

    def _drop(self, part: str, credential: str) -> bool:
        try:
            self._path(part, credential).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unusable(error) from None
        return True

    def _unusable(self, error: Exception) -> CredentialStoreError:
        return CredentialStoreError(
            f"credentials in {self._root} can't be used",
            cause=getattr(error, "strerror", None) or str(error),
            remedy="check that the directory is yours, on a local disk and not full",
        )

    def _damaged(self, path: Path, error: Exception) -> CredentialStoreError:
        return CredentialStoreError(
            f"credential in {path} can't be read",
            cause=f"it is damaged ({type(error).__name__})",
            remedy="remove the file, and give the credential again",
        )
