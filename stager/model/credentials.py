"""A credential: for which hosts, whose, of which kind, what belongs to it. Values and rules, no secret is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from stager.errors import InputError
from stager.model.credential_scope import PLAIN_SCHEMES, Scope
from stager.model.urls import Url, parse_url

MAX_SECRET_BYTES = 65_536
"""All of one credential together; a certificate with its chain takes about 10,000."""
LAST_SECOND = 253_402_300_799.0
"""Of the year 9999, since 1970 UTC: calendars end there."""
MAX_CREDENTIALS = 10_000
"""More are refused: they are held in memory wherever fetches run."""
_LINE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset(
    ("host", "range", "if-range", "if-none-match", "if-modified-since", "content-length", "transfer-encoding",
     "connection", "accept-encoding")
)  # fmt: skip


class Kind(StrEnum):
    """How a credential is shown to an origin."""

    BASIC = "basic"
    BEARER = "bearer"
    HEADER = "header"
    FORM = "form"
    OAUTH2_CLIENT = "oauth2-client"
    OAUTH2_REFRESH = "oauth2-refresh"
    CERTIFICATE = "certificate"
    S3 = "s3"
    SSH = "ssh"


class Parts(NamedTuple):
    """What belongs to a kind: the part that is asked for hidden, those that must be there, those that may be."""

    secret: str
    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return frozenset((self.secret, *self.needed, *self.optional))


PARTS: dict[Kind, Parts] = {
    Kind.BASIC: Parts("password", ("user",)),
    Kind.BEARER: Parts("token"),
    Kind.HEADER: Parts("value", ("name",)),
    Kind.FORM: Parts("password", ("user", "login_url"), ("user_field", "password_field", "fields")),
    Kind.OAUTH2_CLIENT: Parts("client_secret", ("client_id", "token_url"), ("scope", "client_auth")),
    Kind.OAUTH2_REFRESH: Parts(
        "refresh_token", ("client_id", "token_url"), ("client_secret", "scope", "client_auth", "device_url")
    ),
    Kind.CERTIFICATE: Parts("key", ("certificate",), ("passphrase",)),
    Kind.S3: Parts("secret_key", ("access_key",), ("session_token",)),
    Kind.SSH: Parts("key", ("user",), ("passphrase",)),
}
"""`fields` of a form are ``name=value`` pairs, urlencoded; `client_auth` is ``basic`` (the default) or ``post``."""
SECRET_PARTS = frozenset(
    ("password", "token", "value", "client_secret", "refresh_token", "key", "passphrase", "secret_key",
     "session_token", "fields")
)  # fmt: skip
"""Parts that are kept under the seal alone."""
_GIVEN_BY = dict.fromkeys(("user", "client_id", "access_key"), "give it with --user") | {
    "certificate": "give it with --certificate"
}


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """A credential as it is stored: what anybody may know, and the rest sealed.

    Attributes:
        id: made when it was given.
        scope: where it may go.
        kind: how it is shown to an origin.
        public: those of its parts (`PARTS`) that are no secret, such as a user's name.
        serial: grows with each new secret.
        created_at: when this secret was given, seconds since 1970 UTC.
        expires_at: when it is not to be used any more; None: never.
        sealed: base64 of the sealed box; only a process that fetches can open it.
        key: which key opens it.
    """

    id: str
    scope: Scope
    kind: Kind
    public: Mapping[str, str]
    serial: int
    created_at: float
    expires_at: float | None
    sealed: str = ""
    key: str = ""

    @property
    def user(self) -> str:
        """The name at the origin; empty where the kind has none."""
        return user_of(self.public)

    def facts(self) -> dict[str, Any]:
        """What is written in clear, and once more inside the seal: the two must agree."""
        return {
            "id": self.id,
            "host": self.scope.host,
            "prefix": self.scope.prefix,
            "owner": self.scope.owner,
            "allow_http": self.scope.allow_http,
            "kind": self.kind.value,
            "public": dict(self.public),
            "serial": self.serial,
            "expires_at": self.expires_at,
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `from_dict` is the inverse."""
        return self.facts() | {"created_at": self.created_at, "sealed": self.sealed, "key": self.key}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CredentialRow:
        """What `to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError, InputError: it is something else.
        """
        expires_at = data["expires_at"]
        return cls(
            id=str(data["id"]),
            scope=Scope(data["host"], data["prefix"], data["owner"], data["allow_http"] is True),
            kind=Kind(data["kind"]),
            public={str(name): str(value) for name, value in data["public"].items()},
            serial=int(data["serial"]),
            created_at=float(data["created_at"]),
            expires_at=None if expires_at is None else float(expires_at),
            sealed=str(data["sealed"]),
            key=str(data["key"]),
        )


@dataclass(frozen=True, slots=True)
class Notes:
    """What became of a credential when it was used; times are seconds since 1970 UTC, None: never.

    `serial` says of which secret.
    """

    serial: int = 0
    used_at: float | None = None
    accepted_at: float | None = None
    refused_at: float | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the last word of an origin about it was no."""
        return self.refused_at is not None and (self.accepted_at or 0.0) < self.refused_at


@dataclass(frozen=True, slots=True)
class SealedSession:
    """What was obtained with a credential (a token, cookies), sealed.

    Attributes:
        serial: of the secret with which it was obtained.
        sealed: base64 of the sealed box.
        key: which key opens it.
        expires_at: when it ends, seconds since 1970 UTC; None: nobody said.
    """

    serial: int
    sealed: str
    key: str
    expires_at: float | None = None


class CredentialState(StrEnum):
    """What is known of a credential."""

    GIVEN = "given"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class CredentialView:
    """A credential as people see it. Times are seconds since 1970 UTC, None for what has not happened.

    Attributes:
        id: of it.
        host: pattern.
        prefix: of the path.
        owner: whose fetches use it; empty: everybody's.
        kind: how it is shown to an origin.
        user: name at the origin.
        allow_http: it may go over unencrypted connections.
        state: what is known of it.
        created_at: when its secret was given.
        expires_at: when it ends; None: never, or nobody said.
        used_at: when it was last used, within a minute.
        renewed_until: until when what was obtained with it (a token, a session) holds.
    """

    id: str
    host: str
    prefix: str
    owner: str
    kind: Kind
    user: str
    allow_http: bool
    state: CredentialState
    created_at: float
    expires_at: float | None = None
    used_at: float | None = None
    renewed_until: float | None = None


def view_of(
    row: CredentialRow, notes: Notes, now: float, renewed_until: float | None = None
) -> CredentialView:
    """What is shown of a stored credential."""
    state = CredentialState.GIVEN
    if notes.serial == row.serial:
        state = CredentialState.ACCEPTED if notes.accepted_at is not None else state
        state = CredentialState.REFUSED if notes.is_refused else state
    if row.expires_at is not None and row.expires_at <= now:
        state = CredentialState.EXPIRED
    scope = row.scope
    return CredentialView(
        row.id, scope.host, scope.prefix, scope.owner, row.kind, row.user, scope.allow_http, state,
        row.created_at, row.expires_at, notes.used_at, renewed_until,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential as somebody gives it. The parts with the secret are in no representation of it.

    Attributes:
        scope: where it may go.
        kind: how it is shown to an origin.
        parts: what belongs to the kind (`PARTS`), by name.
        expires_at: seconds since 1970 UTC; None: never, or nobody knows.

    Raises:
        InputError: a part is missing, unknown, or can't be what it is to be. No value is repeated.
    """

    scope: Scope
    kind: Kind
    parts: Mapping[str, str] = field(repr=False)
    expires_at: float | None = None

    def __post_init__(self) -> None:
        check_parts(self.kind, self.parts, allow_http=self.scope.allow_http)
        if self.expires_at is not None and not self.expires_at <= LAST_SECOND:
            raise InputError(
                f"{self.expires_at:g} is no time at which a credential ends",
                cause="it is after the year 9999",
                remedy="give none if it does not end",
            )

    @property
    def public(self) -> dict[str, str]:
        """Those parts that are no secret."""
        return {name: value for name, value in self.parts.items() if name not in SECRET_PARTS}


def user_of(public: Mapping[str, str]) -> str:
    """Whatever of a credential names who shows it."""
    return next(
        (public[name] for name in ("user", "client_id", "access_key", "name") if public.get(name)), ""
    )


def narrowest(rows: Iterable[CredentialRow], url: Url, owner: str) -> list[CredentialRow]:
    """Those that are for this URL and owner, the narrowest scope first."""
    found = [row for row in rows if row.scope.covers(url, owner)]
    return sorted(found, key=lambda row: (row.scope.rank, row.created_at), reverse=True)


def check_parts(kind: Kind, parts: Mapping[str, str], *, allow_http: bool = False) -> None:
    """Raise `InputError` unless `parts` are what the kind needs; no value is repeated."""
    known = PARTS[kind]
    for name in parts:
        if name not in known.names:
            raise InputError(
                f"a credential of kind {kind} has no part {name!r}",
                cause=f"its parts are {', '.join(sorted(known.names))}",
                remedy="leave it out, or choose another kind",
            )
    for name in (*known.needed, known.secret):
        if not parts.get(name):
            raise InputError(
                f"a credential of kind {kind} needs {name}",
                cause="it is empty or missing",
                remedy=_GIVEN_BY.get(
                    name, "give it" if name in SECRET_PARTS else f"give it with --set {name}=VALUE"
                ),
            )
    if sum(len(name) + len(value) for name, value in parts.items()) > MAX_SECRET_BYTES:
        raise InputError(
            "the credential is too long",
            cause=f"{MAX_SECRET_BYTES} bytes are allowed",
            remedy="check what was given",
        )
    many_lines = {"certificate", "key"} if kind in {Kind.CERTIFICATE, Kind.SSH} else set()
    for name, value in parts.items():
        if name not in many_lines and not _LINE.fullmatch(value):
            raise InputError(
                f"{name} of the credential can't be sent",
                cause="it has a line break, a control character or one that is not Latin-1",
                remedy="check what was given",
            )
    if kind is Kind.HEADER and (not _TOKEN.fullmatch(parts["name"]) or parts["name"].lower() in _OURS):
        raise InputError(
            "name of the credential is not that of a header for it", remedy="give one such as X-Api-Key"
        )
    if parts.get("client_auth", "basic") not in {"basic", "post"}:
        raise InputError("client_auth of the credential is unknown", remedy="write basic or post")
    if kind is Kind.BASIC and ":" in parts["user"]:
        raise InputError("user of the credential has a colon", cause="basic authentication can't send one")
    for name in ("login_url", "token_url", "device_url"):
        if name in parts and parse_url(parts[name]).scheme in PLAIN_SCHEMES and not allow_http:
            raise InputError(
                f"{name} of the credential is not https",
                cause="whoever is on the way would read the secret",
                remedy="give the https address, or allow plain http for this credential",
            )
