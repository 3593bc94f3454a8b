"""Who did what: one entry for each request that changed something, read somebody's bytes, or was refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One request.

    Attributes:
        id: sorts by time; empty: not written yet.
        at: when it was answered, seconds since 1970 UTC.
        who: name of who asked; empty: nobody that is known.
        role: his role then; empty like `who`.
        token: id of the token that he showed; empty: none with an id.
        action: method and path of the call, without what it was about.
        subject: what it was about, without secrets.
        status: of the answer.
        request: id of the request, as in the log.
        address: where it came from.
    """

    id: str
    at: float
    who: str
    role: str
    token: str
    action: str
    subject: str
    status: int
    request: str
    address: str
