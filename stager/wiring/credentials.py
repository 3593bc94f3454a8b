"""Where credentials are kept, who opens them and who can only store them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stager.clock import Clock, SystemClock
from stager.credentials.files import FileStore
from stager.credentials.wallet import Wallet
from stager.errors import CredentialStoreError
from stager.model.checks import Checked, Health
from stager.model.credentials import view_of
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


def credential_checks(settings: Settings) -> Iterator[Checked]:
    """Whether what is kept can be read, opened here, and used."""
    name = "credentials"
    store = build_store(settings)
    try:
        rows = store.rows()
        if not rows:
            yield Checked(name, Health.SKIPPED, "none were given")
            return
        keys = key_files(settings)
        if settings.farm == "celery" and not keys.private.exists():
            yield Checked(name, Health.OK, f"{len(rows)}, sealed; the key is where fetches run")
            return
        live = keys.opener().keys
    except CredentialStoreError as error:
        finding = f"{error.what}: {error.cause}"
        yield Checked(name, Health.FAILED, finding, error.remedy)
        return
    now = SystemClock().time()
    views = [view_of(row, store.notes(row.id), now) for row in rows]
    lost = [row.id for row in rows if row.key not in live]
    bad = [f"{one.id} ({one.state})" for one in views if one.state in {"refused", "expired"}]
    if lost:
        remedy = "give them again: `stager credentials rotate ID`"
        yield Checked(name, Health.FAILED, f"no key opens {', '.join(lost)}", remedy)
    elif bad:
        yield Checked(
            name, Health.WARNING, f"not used any more: {', '.join(bad)}", "`stager credentials rotate ID`"
        )
    else:
        yield Checked(name, Health.OK, f"{len(rows)}, sealed, and opened here")
