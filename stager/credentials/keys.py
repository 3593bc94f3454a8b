"""The files with the keys: the private ones for who fetches, the public one for who stores."""

from __future__ import annotations

import os
import stat
from base64 import b64decode, b64encode
from contextlib import suppress
from pathlib import Path

from stager.credentials.memory import keep_memory_private
from stager.credentials.seal import KEY_BYTES, Closer, Opener, new_key, public_of
from stager.errors import CredentialStoreError

_PRIVATE = "stager-credentials-key-1"
_PUBLIC = "stager-credentials-public-key-1"
LIVE_KEYS = 2
"""Private keys in the file: the present one, and during a rotation the one before."""


class KeyFiles:
    """Where the keys are. Whoever opens or closes a seal has secrets in memory, and keeps that to itself.

    Args:
        private: file with the private keys, the present one first; mode 0600.
        public: file with the public key of the present one.
    """

    def __init__(self, private: Path, public: Path) -> None:
        self.private = private
        self.public = public

    def make(self) -> None:
        """Make a pair, if there is neither file.

        Raises:
            CredentialStoreError: they can't be written.
        """
        if self.public.exists():
            return
        if self.private.exists():
            self.write_public()  # a process was killed between the two files
            return
        key = new_key()
        try:  # the name is taken by whoever comes first: its key counts, also if both run at once
            _write(self.private, f"{_line(_PRIVATE, key)}\n", 0o600, only_new=True)
        except FileExistsError:
            return
        self.write_public()

    def write_public(self) -> None:
        """Write the public key that belongs to the present private one."""
        _write(self.public, f"{_line(_PUBLIC, public_of(self._keys()[0]))}\n", 0o644)

    def opener(self) -> Opener:
        """What opens the seals.

        Raises:
            CredentialStoreError: the file is missing, open to others, or no key.
        """
        return Opener(self._keys())

    def closer(self) -> Closer:
        """What closes them: for the present private key, where that can be read, else for the public one.

        Raises:
            CredentialStoreError: there is no public key, or it is none.
        """
        keep_memory_private()
        if self.private.exists():
            with suppress(CredentialStoreError):  # who needs to open one is told
                return Closer(public_of(self._keys()[0]))
        found = _read(self.public, _PUBLIC)
        if len(found) != 1:
            raise _unusable(self.public, "one line with a public key is needed")
        return Closer(found[0])

    def add(self) -> None:
        """Begin a rotation: a new present key, beside the one that there was.

        Raises:
            CredentialStoreError: the files can't be used.
        """
        keys = [new_key(), self._keys()[0]]
        _write(self.private, "".join(f"{_line(_PRIVATE, key)}\n" for key in keys), 0o600)
        self.write_public()

    def retire(self) -> None:
        """End a rotation: only the present key stays."""
        _write(self.private, f"{_line(_PRIVATE, self._keys()[0])}\n", 0o600)

    def _keys(self) -> list[bytes]:
        keep_memory_private()
        try:
            found = self.private.stat()
        except OSError as error:
            raise CredentialStoreError(
                f"private key {self.private} can't be read",
                cause=error.strerror or str(error),
                remedy="bring it back from a copy; if it is lost, remove the public key beside it and give the"
                " credentials again",
            ) from None
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise CredentialStoreError(
                f"private key {self.private} is open to others",
                cause=f"its mode is {stat.S_IMODE(found.st_mode):o}",
                remedy=f"`chmod 600 {self.private}`; if others may have read it, `stager credentials rotate-keys`"
                " and change the secrets at their origins",
            )
        keys = _read(self.private, _PRIVATE)
        if not 1 <= len(keys) <= LIVE_KEYS:
            raise _unusable(self.private, f"it has {len(keys)} keys, and 1 or {LIVE_KEYS} are needed")
        return keys


def _line(word: str, key: bytes) -> str:
    return f"{word} {b64encode(key).decode()}"


def _read(path: Path, word: str) -> list[bytes]:
    try:
        lines = path.read_text("ascii").split("\n")
        pairs = [line.split(" ") for line in lines if line]
        keys = [b64decode(key, validate=True) for mark, key in pairs if mark == word]
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None
    except ValueError:  # whose text may repeat the key
        raise _unusable(path, "it is no key file of this version") from None
    if len(keys) != len(pairs) or any(len(key) != KEY_BYTES for key in keys):
        raise _unusable(path, "it is no key file of this version")
    return keys


def _unusable(path: Path, cause: str) -> CredentialStoreError:
    return CredentialStoreError(
        f"key file {path} can't be used",
        cause=cause,
        remedy="bring it back from a copy, or upgrade the program",
    )


def _write(path: Path, text: str, mode: int, *, only_new: bool = False) -> None:
    """Whole or not at all: a name of its own first."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        fd = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        try:
            if only_new:
                os.link(draft, path)
                draft.unlink()
            else:
                draft.rename(path)
        finally:
            draft.unlink(missing_ok=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise CredentialStoreError(
            f"key file {path} can't be written",
            cause=error.strerror or str(error),
            remedy="check its directory, or set credentials_key_file",
        ) from None
