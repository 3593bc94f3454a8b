"""What a plan says when it can't go on, in words."""

from __future__ import annotations

from stager.errors import DigestMismatchError, FetchError, IncompleteError, ProtocolError, UnprovenLengthError
from stager.model.digests import Digest
from stager.model.urls import Url
from stager.transfer.classify import credential_required, file_too_large


def violation(url: Url, cause: str) -> FetchError:
    """The origin contradicts HTTP or itself."""
    return ProtocolError(
        f"{url.redacted} can't be fetched",
        cause=f"the origin's answer makes no sense: {cause}",
        remedy="try again later; if it stays, tell the origin's owner",
        url=url.redacted,
    )


def unproven(url: Url) -> FetchError:
    """The body has neither length nor digest."""
    return UnprovenLengthError(
        f"{url.redacted} can't be verified",
        cause="the origin announces no length, so a body cut short would look complete",
        remedy="give its sha256, or accept such bodies with the setting unproven=accept",
        url=url.redacted,
    )


def incomplete(url: Url, received: int, total: int | None, *, resumable: bool) -> FetchError:
    """The connection ended too early."""
    of = "" if total is None else f" of {total}"
    return IncompleteError(
        f"{url.redacted} came incomplete",
        cause=f"the connection ended after {received}{of} bytes",
        remedy="try again; it goes on from there" if resumable else "try again",
        url=url.redacted,
        received=received,
        total=total,
    )


def check_size(url: Url, expected: int | None, size: int | None) -> None:
    """Refuse a file that is not as long as the caller says; None: nobody says.

    Raises:
        DigestMismatchError: it is not.
    """
    if expected in {None, size} or size is None:
        return
    raise DigestMismatchError(
        f"{url.redacted} is not the file that was asked for",
        cause=f"it has {size} bytes, {expected} were expected",
        remedy="check the size with whoever gave it; if the file was replaced, give the new one",
        url=url.redacted,
        expected=expected,
        got=size,
    )


def mismatch(url: Url, wanted: Digest, got: str, size: int, *, twice: bool, given: bool) -> FetchError:
    """The bytes do not hash to what the caller, or the origin, says.

    Args:
        url: where they came from.
        wanted: what they should hash to.
        got: what they hash to, hexadecimal digits.
        size: bytes.
        twice: they were fetched again past all caches.
        given: the caller said so.
    """
    said = "expected" if given else "announced by the origin"
    times = ", twice" if twice else ""
    return DigestMismatchError(
        f"{url.redacted} does not have the bytes that {'were asked for' if given else 'it announces'}",
        cause=f"{wanted.algorithm} {said} {wanted.value}, got {got} ({size} bytes){times}",
        remedy="check the digest with the origin's owner; if the file was replaced, give the new one"
        if given
        else "tell the origin's owner; if you know the right digest, give it: it overrules the origin's",
        url=url.redacted,
        expected=str(wanted),
        got=got,
    )


def check_limit(url: Url, most: int, size: int) -> None:
    """Refuse a file of which more than `most` bytes came; 0: any number may.

    Raises:
        FileTooLargeError: more came.
    """
    if most and size > most:
        raise file_too_large(url, None, most)


def allowed_length(url: Url, most: int, offset: int, expected: int | None, total: int | None) -> int | None:
    """How many bytes of a body are taken that belongs at `offset`.

    Args:
        url: where it comes from.
        most: bytes that the file may have; 0: any number.
        offset: bytes in place.
        expected: bytes that were announced, or None.
        total: bytes of the whole, or None.

    Raises:
        FileTooLargeError: more are announced than the file may have.
    """
    if not most:
        return expected
    if max(total or 0, offset + (expected or 0)) > most:
        raise file_too_large(url, total, most)
    return most + 1 - offset if expected is None else expected  # one byte more shows that it is too large


def login_page(url: Url, at: Url) -> FetchError:
    """A login came where data was expected."""
    error = credential_required(url, "a login page came instead of data", at=at)
    error.remedy += f"; if that page is what you want, add {at.host} to the setting html_hosts"
    return error
