"""Where credentials are kept, who opens them and who can only store them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stager.clock import Clock, SystemClock
from stager.credentials.files import FileStore
from stager.credentials.wallet import Wallet
from stager.settings import Settings

if TYPE_CHECKING:
    from stager.credentials.base import CredentialStore
    from stager.credentials.keys import KeyFiles
    from stager.credentials.seal import Closer, Opener


def credentials_root(settings: Settings) -> Path:
    """The directory with the sealed credentials."""
    given = settings.credentials_dir
    return Path(given).expanduser() if given else settings.state_dir / "credentials"


def build_store(settings: Settings) -> FileStore:
    """The credentials, sealed."""
    return FileStore(credentials_root(settings))


def key_files(settings: Settings) -> KeyFiles:
    """The keys that close and open them."""
    from stager.credentials.keys import KeyFiles

    root = credentials_root(settings)
    private, public = settings.credentials_key_file, settings.credentials_public_key_file
    return KeyFiles(
        Path(private).expanduser() if private else root / "key",
        Path(public).expanduser() if public else root / "key.pub",
    )


def closer(settings: Settings, *, make: bool = False) -> Closer:
    """What seals a credential; with `make`, a pair of keys is made if there is none.

    Raises:
        CredentialStoreError: there is no public key.
    """
    keys = key_files(settings)
    if make:
        keys.make()
    return keys.closer()


def build_wallet(
    settings: Settings, store: CredentialStore | None = None, clock: Clock | None = None
) -> Wallet:
    """The credentials, for a process that fetches; by default those of this machine."""

    def opener() -> Opener:
        return key_files(settings).opener()

    return Wallet(store or build_store(settings), opener, lambda: closer(settings), clock or SystemClock())
