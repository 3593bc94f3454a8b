"""Whom the commands about credentials ask: the configured server, or the sealed files of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stager.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from stager.client.credentials import CredentialCalls
    from stager.client.talk import Blocking
    from stager.model.credentials import CredentialView
    from stager.service.credentials import CredentialService


@contextmanager
def credential_source() -> Iterator[CredentialService | CredentialCalls[Blocking]]:
    """The configured server's credentials; without one, those of this machine.

    A server of this machine looks at the same files, and lets go on what waited.
    """
    from stager.settings import load_settings

    settings = load_settings()
    if settings.server:
        from stager.cli.connect import client_of

        with client_of(settings) as client:
            yield client.credentials
        return
    from stager.wiring.credential_care import build_credential_service

    yield build_credential_service(settings)


def my_name() -> str:
    """Of whoever runs this command: as the configured server knows him, or his login name."""
    from stager.cli.login import asking_name, login_name
    from stager.settings import load_settings

    settings = load_settings()
    if settings.server and not asking_name():
        from stager.cli.connect import client_of

        with client_of(settings) as client:
            return client.accounts.whoami().name
    return login_name()


def named(found: Sequence[CredentialView], word: str) -> CredentialView:
    """The one that `word` names, by its id or its host.

    Raises:
        NotFoundError: none.
        ConflictError: several.
    """
    meant = [one for one in found if one.id == word] or [one for one in found if one.host == word]
    if not meant:
        raise NotFoundError(f"no credential {word[:80]!r}", remedy="see `stager credentials ls`")
    if len(meant) > 1:
        ids = ", ".join(one.id for one in meant)
        raise ConflictError(f"{word!r} names several credentials", cause=ids, remedy="name one by its id")
    return meant[0]
