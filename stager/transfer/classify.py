"""Status or failure → transient or permanent error that names the URL, the cause and the way out."""

from __future__ import annotations

import re
from http import HTTPStatus

from stager.errors import (
    AddressRefusedError,
    CacheError,
    CancelledError,
    CredentialRequiredError,
    FetchError,
    FetchTooLongError,
    FileTooLargeError,
    HeadTooLargeError,
    OriginBusyError,
    OriginRefusedError,
)
from stager.model.credential_scope import PLAIN_SCHEMES
from stager.model.urls import Url
from stager.transfer.fields import Headers, parse_retry_after

TRANSIENT_STATUSES = frozenset({202, 408, 425, 429})
"""Besides the 5xx: may pass without anybody doing anything (202: the origin is still preparing it)."""
PERMANENT_SERVER_STATUSES = frozenset({501, 505, 506, 508, 510, 511})
"""The 5xx that say that this request will never work."""

_BASIC = re.compile(r"(^|,)\s*basic\b", re.IGNORECASE)

_REMEDIES = {
    400: "check the URL",
    403: "ask the origin's owner for access; if the URL was signed, it may have expired: get a new one",
    404: "check the URL; the origin has no such file",
    407: "ask for a way to the origin without a proxy that wants a login",
    410: "the origin has removed the file for good: use another source",
    451: "the origin may not give it out: use another source",
}


def is_transient(status: int) -> bool:
    """Whether an answer with this status may be another one later."""
    return status in TRANSIENT_STATUSES or (status >= 500 and status not in PERMANENT_SERVER_STATUSES)  # noqa: PLR2004


def status_error(url: Url, status: int, headers: Headers, now: float, *, at: Url | None = None) -> FetchError:
    """The error for an answer that brings no data.

    Args:
        url: what was asked for.
        status: of the final answer.
        headers: its fields.
        now: seconds since 1970 UTC, for a Retry-After that is a date.
        at: where redirects had led to.
    """
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "unknown status"
    cause = f"{status} {phrase}"
    if at is not None and at.text != url.text:
        cause += f" at {at.redacted}"
    details: dict[str, object] = {"url": url.redacted, "status": status}
    what = f"{url.redacted} can't be fetched"
    if status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and not url.is_signed):
        challenge = headers.get("www-authenticate", "")
        return credential_required(url, cause, at=at, challenge=challenge, status=status)
    if not is_transient(status):
        remedy = _REMEDIES.get(status, "trying again will not help; check the URL with the origin's owner")
        return OriginRefusedError(what, cause=cause, remedy=remedy, **details)
    wait = parse_retry_after(headers.get("retry-after"), now)
    if wait is not None:
        details["retry_after"] = wait
    remedy = f"try again in {wait:.0f} s" if wait else "try again later"
    return OriginBusyError(what, cause=cause, remedy=remedy, **details)


def credential_required(
    url: Url, cause: str, *, at: Url | None = None, challenge: str = "", **details: object
) -> CredentialRequiredError:
    """The error of a fetch of `url` that got no further than a request for a credential, at `at` if redirected.

    `challenge` is what the origin said it wants to see, as in ``WWW-Authenticate``.
    """
    place = (at or url).place
    how = f"`stager credentials add {place}{_options(at or url, challenge)}`"
    if (at or url).scheme in PLAIN_SCHEMES:
        how += ", which lets it go unencrypted"
    return CredentialRequiredError(
        f"{url.redacted} can't be fetched",
        cause=f"{cause}: {place} wants a credential",
        remedy=f"give it once with {how}, or ask the origin's owner for access",
        url=url.redacted,
        host=place,
        **details,
    )


def _options(at: Url, challenge: str) -> str:
    """What the command needs besides the host, as far as that is known."""
    said = ""
    if at.scheme == "s3":
        said = " --kind s3 --user ACCESS_KEY"
    elif at.scheme in {"ftp", "sftp", "smb", "webdav"} or _BASIC.search(challenge):
        said = " --user NAME"
    return said + (" --allow-http" if at.scheme in PLAIN_SCHEMES else "")


def cancelled_error(url: Url) -> CancelledError:
    """The error of a try that somebody cancelled."""
    return CancelledError(
        f"{url.redacted} was not fetched",
        cause="the fetch was cancelled",
        remedy="ask again to go on",
        url=url.redacted,
    )


def os_cause(error: BaseException) -> str:
    """What an exception of the operating system or a library says, in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


def name_url(error: BaseException, url: str) -> None:
    """Make an error of the cache, or of a place that `url` led to, one of the fetch of `url` (redacted)."""
    if isinstance(error, CacheError):
        error.what = f"{url} can't be stored: {error.what}"
    elif isinstance(error, AddressRefusedError) and error.details["url"] != url:
        error.what = f"{url} can't be fetched: it leads to {error.details['url']}"
    else:
        return
    error.details["url"] = url


def file_too_large(url: Url, size: int | None, most: int) -> FetchError:
    """The error for a file that is larger than the site takes; `size` in bytes, None: it never ended."""
    return FileTooLargeError(
        f"{url.redacted} is too large",
        cause=f"{'more than' if size is None else f'{size:,} of at most'} {most:,} bytes",
        remedy="whoever runs this site sets the limit (max_file_bytes)",
        url=url.redacted,
        size=size,
        limit=most,
    )


def head_too_large(url: Url, most: int) -> FetchError:
    """The error for an answer whose head has no end."""
    return HeadTooLargeError(
        f"{url.redacted} can't be fetched",
        cause=f"the head of the origin's answer has more than {most:,} bytes",
        remedy="tell the origin's owner; whoever runs this site sets the limit (max_head_bytes)",
        url=url.redacted,
        limit=most,
    )


def fetch_too_long(url: Url, longest: float, received: int) -> FetchError:
    """The error for a try that went on and on; `received` bytes are in place."""
    return FetchTooLongError(
        f"{url.redacted} took too long",
        cause=f"{received:,} bytes in {longest:,.0f} s, and no end",
        remedy="ask again to go on from there; whoever runs this site sets the limit (max_fetch_seconds)",
        url=url.redacted,
        received=received,
        limit=longest,
    )
