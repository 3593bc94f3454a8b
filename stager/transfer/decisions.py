"""What the plan of a fetch says: what to ask the origin, and what to do with its answer."""

from __future__ import annotations

from typing import NamedTuple

from stager.model.entries import Entry
from stager.model.urls import Url


class ClientCertificate(NamedTuple):
    """What proves to an origin, within TLS, who asks; as text (PEM).

    Attributes:
        name: no two different ones have the same; no secret.
        chain: the certificate, and those that lead to the authority.
        key: its private key.
        passphrase: of the key; empty: it has none.
    """

    name: str
    chain: str
    key: str
    passphrase: str

    def __repr__(self) -> str:
        return f"ClientCertificate({self.name!r})"


class Identity(NamedTuple):
    """Who asks, where that is no matter of headers. What a scheme has no use for is empty.

    Attributes:
        user: name, or id of an S3 key.
        password: or the secret of an S3 key.
        key: private SSH key as text.
        passphrase: of `key`.
        token: that belongs to an S3 key, or a bearer token.
    """

    user: str = ""
    password: str = ""
    key: str = ""
    passphrase: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"Identity({self.user!r})"


class Request(NamedTuple):
    """What to send: nearly always a GET."""

    url: Url
    headers: dict[str, str]
    certificate: ClientCertificate | None = None
    """To be shown within TLS."""
    form: bytes | None = None
    """The body of a POST, urlencoded; None: it is a GET."""
    identity: Identity | None = None
    """For the schemes beside http; None: nobody in particular asks."""

    def __repr__(self) -> str:  # a header or a form may hold a secret
        return f"Request({self.url.redacted!r})"


class Again(NamedTuple):
    """Throw this answer away and ask the next request."""

    reason: str


class Receive(NamedTuple):
    """Take the body.

    Attributes:
        offset: where its first byte belongs; what the partial has beyond is dropped.
        length: bytes that may come, None where that is not known; more are thrown away.
        total: bytes of the whole file, or None.
    """

    offset: int
    length: int | None
    total: int | None


class Unchanged(NamedTuple):
    """The cached copy is still what the origin has; `entry` is its new entry."""

    entry: Entry


class Finish(NamedTuple):
    """All `size` bytes are in place."""

    size: int
