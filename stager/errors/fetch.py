"""Errors of the transfer, from the origin to the verified bytes."""

from __future__ import annotations

from stager.errors.base import StagerError


class FetchError(StagerError):
    """A fetch did not deliver; ``details`` holds at least ``url`` (redacted)."""

    code = "fetch-failed"

    @property
    def retry_after(self) -> float | None:
        """Seconds the origin asked us to wait, if it did."""
        value = self.details.get("retry_after")
        return None if value is None else float(value)


class OriginRefusedError(FetchError):
    """The origin answered with a status that trying again will not change (400, 401, 403, 404, 410 ...)."""

    code = "origin-refused"


class CredentialError(OriginRefusedError):
    """The origin wants a credential that works; the fetch waits for one where somebody can give it.

    ``details`` holds ``url`` (redacted) and ``host``: for which host (and port) it is to be given.
    """

    code = "credential-wanted"


class CredentialRequiredError(CredentialError):
    """The origin wants a credential, and none was given for it."""

    code = "credential-required"


class CredentialExpiredError(CredentialError):
    """The credential for this origin has expired and can't be renewed."""

    code = "credential-expired"


class CredentialRefusedError(CredentialError):
    """The origin did not accept the credential that was given for it."""

    code = "credential-refused"


class CredentialUnreadableError(CredentialError):
    """The credential that was given can't be opened: its key is lost, or it was tampered with."""

    code = "credential-unreadable"


class OriginBusyError(FetchError):
    """The origin answered with a status that may pass (408, 425, 429, 500, 502, 503, 504)."""

    code = "origin-busy"
    transient = True


class ConnectionFailedError(FetchError):
    """No connection, or it broke, or it stalled."""

    code = "connection-failed"
    transient = True


class IncompleteError(FetchError):
    """The body ended before its announced length; what came is kept for resuming."""

    code = "incomplete"
    transient = True


class ProtocolError(FetchError):
    """The origin's answer breaks HTTP or contradicts itself."""

    code = "protocol-violation"
    transient = True


class DigestMismatchError(FetchError):
    """The bytes are complete but are not the ones asked for."""

    code = "digest-mismatch"


class UnprovenLengthError(FetchError):
    """The body had no length and no digest, so its completeness can't be proven."""

    code = "unproven-length"


class RedirectError(FetchError):
    """Too many redirects, a loop, or a target that is not allowed."""

    code = "redirect-refused"


class AddressRefusedError(FetchError):
    """The host's address, or the port, is none that a fetch may reach; the operator can allow it."""

    code = "address-refused"


class HeadTooLargeError(ProtocolError):
    """The head of the origin's answer is longer than `max_head_bytes`."""

    code = "head-too-large"
    transient = False


class FileTooLargeError(FetchError):
    """The file is larger than `max_file_bytes`; nothing of it is kept."""

    code = "file-too-large"


class FetchTooLongError(FetchError):
    """A try took longer than `max_fetch_seconds`; what came is kept, and the same URL goes on from there."""

    code = "fetch-too-long"


class TlsError(FetchError):
    """The origin's certificate was not accepted."""

    code = "tls-refused"


class HostKeyError(FetchError):
    """The key of an SSH server is not known, or is another one than the one that is known."""

    code = "host-key-refused"


class OriginChangedError(FetchError):
    """The file changed at the origin while it was read; the next try begins anew."""

    code = "origin-changed"
    transient = True


class SchemeError(FetchError):
    """What reads URLs of this scheme is not installed, or not allowed by the site."""

    code = "scheme-unreadable"


class CancelledError(FetchError):
    """Somebody cancelled the fetch."""

    code = "cancelled"


class WorkerLostError(FetchError):
    """Whoever ran the try is gone; what it brought is kept and gone on from."""

    code = "worker-lost"
    transient = True


class HandedBackError(FetchError):
    """A worker that stops gave the order back; the fetch is queued again at once."""

    code = "handed-back"
    transient = True
