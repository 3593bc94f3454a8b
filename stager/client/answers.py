"""What answers mean, whichever driver got them: JSON, or an error that says what went wrong."""

from __future__ import annotations

import os
import ssl
from json import loads
from typing import Any

from stager.errors import (
    AccessDeniedError,
    RemoteError,
    ServerUnreachableError,
    StagerError,
    error_from_dict,
)

PROBLEM = "application/problem+json"


def content(url: str, status: int, body: bytes, kind: type) -> Any:
    """The JSON of an answer that is no problem.

    Raises:
        RemoteError: it is none, or of another kind.
    """
    found = _json(body)
    if not isinstance(found, kind):
        raise foreign(url, status)
    return found


def is_good(status: int) -> bool:
    """Whether an answer with this status is what was asked for; redirects are not followed."""
    return 200 <= status < 300  # noqa: PLR2004


def problem(url: str, status: int, media_type: str, body: bytes) -> StagerError:
    """The error that an answer of another status tells of."""
    found = _json(body) if media_type.startswith(PROBLEM) else None
    if not isinstance(found, dict):
        return foreign(url, status)
    error = error_from_dict(found)
    if isinstance(error, AccessDeniedError):  # the server tells what to send, not where to get it
        error.remedy = (
            "set STAGER_TOKEN, or token_file to a copy of the server's, or run as the server's user"
        )
    return error


def foreign(url: str, status: int) -> StagerError:
    """Somebody else answers there."""
    return RemoteError(
        f"what answers at {url} is not a Stager server",
        cause=f"status {status} without a meaning here",
        remedy="check the setting `server`",
    )


def unreachable(url: str, cause: str, *, sent: bool) -> StagerError:
    """Nobody answers there, or nobody that is trusted; `sent`: somebody may have got the request."""
    remedy = "start it with `stager serve`"
    if "certificate verify failed" in cause.lower():
        remedy = "set server_ca_bundle to a file with the certificates to trust, and use a name that is in the server's"
    return ServerUnreachableError(f"no server answers at {url}", cause=cause, remedy=remedy, sent=sent)


def broke_off(url: str, cause: str) -> StagerError:
    """An answer began and did not end."""
    return ServerUnreachableError(f"the server at {url} broke off", cause=cause, remedy="try again")


def innermost(error: BaseException) -> str:
    """The innermost cause: the outer ones only repeat the URL."""
    inner = error
    seen = {id(inner)}
    while True:
        candidates = [getattr(inner, "reason", None), *inner.args, inner.__cause__, inner.__context__]
        deeper = next((c for c in candidates if isinstance(c, BaseException) and id(c) not in seen), None)
        if deeper is None:
            return _said(inner) or type(inner).__name__
        inner = deeper
        seen.add(id(inner))


def _said(error: BaseException) -> str:
    if not isinstance(error, OSError):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):  # its number is none of the system's
        return error.reason or str(error)
    if error.errno is not None and error.errno > 0:  # asyncio puts the address in place of these words
        return os.strerror(error.errno)
    return error.strerror or str(error)


def _json(body: bytes) -> Any:
    try:
        return loads(body)
    except ValueError:
        return None
