"""One tree of errors; each names the thing, the cause and the way out.

An error is raised where its nature is known, so that is where it is decided whether it is
*transient* (trying again may help) or permanent. Errors cross process borders (pickle) and are kept
in the database (`to_dict`, `error_from_dict`), so they carry plain attributes only, and no secret.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self, TypeVar


class StagerError(Exception):
    """Base of every error that a user may see.

    Args:
        what: the thing and what happened to it, without a final full stop.
        cause: why, in words (empty when `what` says it all).
        remedy: what the reader can do now (empty when nothing can be done).
        details: plain values (JSON types) that a program may want, such as ``url`` or ``status``.
    """

    code: ClassVar[str] = "error"
    """Stable name: problem type of the API, ``code`` in ``--json``."""
    transient: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything."""

    def __init__(self, what: str, *, cause: str = "", remedy: str = "", **details: Any) -> None:
        super().__init__(what)
        self.what = what
        self.cause = cause
        self.remedy = remedy
        self.details = details

    def __str__(self) -> str:
        text = f"{self.what}: {self.cause}" if self.cause else self.what
        return f"{text}; {self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.what, self.cause, self.remedy, self.details)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StagerError) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.code, self.what, self.cause))

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON; `error_from_dict` is the inverse."""
        return {
            "code": self.code,
            "what": self.what,
            "cause": self.cause,
            "remedy": self.remedy,
            "transient": self.transient,
            "details": self.details,
        }

    def with_cause(self, cause: str) -> Self:
        """The same error with another cause."""
        return _rebuild(type(self), self.what, cause, self.remedy, self.details)


_Kind = TypeVar("_Kind", bound=StagerError)


def _rebuild(kind: type[_Kind], what: str, cause: str, remedy: str, details: dict[str, Any]) -> _Kind:
    error = kind(what, cause=cause, remedy=remedy)
    error.details = dict(details)  # not as keywords: a foreign record may use the names of ours
    return error


# -- what the caller gave ------------------------------------------------------------------------


class InputError(StagerError):
    """What the caller gave is not valid; nothing was changed."""

    code = "bad-input"


class NotFoundError(StagerError):
    """No such job, key, object, result or precondition."""

    code = "not-found"


class ResultGoneError(NotFoundError):
    """A job left it, and it has been removed since: its time was up, or somebody removed it."""

    code = "result-gone"


class ConflictError(StagerError):
    """The thing exists but is in a state that forbids this."""

    code = "conflict"


class IllegalTransitionError(StagerError):
    """A state machine was asked for a step that its table does not have: a fault in this program."""

    code = "illegal-transition"


# -- the cache -----------------------------------------------------------------------------------


class CacheError(StagerError):
    """The cache directory can't be used as asked."""

    code = "cache-unusable"


class NotACacheError(CacheError):
    """The directory exists, is not empty and is not a cache."""

    code = "not-a-cache"


class LayoutVersionError(CacheError):
    """The cache was written by a newer version of the program."""

    code = "cache-from-the-future"


class CachePermissionError(CacheError):
    """The file system refuses access."""

    code = "cache-permission"


class CacheGoneError(CacheError):
    """The cache that was opened is not there any more: not mounted, moved away, or hidden by another one."""

    code = "cache-gone"
    transient = True


class CacheFullError(CacheError):
    """No space, no inodes or no quota left; somebody may make room."""

    code = "cache-full"
    transient = True


class CacheIOError(CacheError):
    """The file system failed (EIO, ESTALE); it may recover."""

    code = "cache-io"
    transient = True


class ObjectLostError(CacheError):
    """An object that was published is gone or damaged; it has to be fetched again."""

    code = "object-lost"
    transient = True


# -- the transfer --------------------------------------------------------------------------------


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


# -- jobs ----------------------------------------------------------------------------------------


class JobError(StagerError):
    """A job could not be brought to its end."""

    code = "job-failed"


class InputFailedError(JobError):
    """A precondition of the job failed for good; ``cause`` names it."""

    code = "input-failed"


class CommandFailedError(JobError):
    """The job's command ended with a status other than zero, or could not be started."""

    code = "command-failed"


class ResultMissingError(JobError):
    """The command succeeded without leaving a result that the job promised."""

    code = "result-missing"


class RunnerLostError(JobError):
    """The job was started and its end was never recorded; it is not started a second time."""

    code = "runner-lost"


# -- the installation ----------------------------------------------------------------------------


class SettingsError(StagerError):
    """A setting is unknown or has a value that makes no sense."""

    code = "bad-setting"


class StateError(StagerError):
    """The database can't be used."""

    code = "state-unusable"


class CredentialStoreError(StagerError):
    """The stored credentials, or the key that opens them, can't be used."""

    code = "credentials-unusable"


class ServerUnreachableError(StagerError):
    """No server answers at the configured address."""

    code = "server-unreachable"
    transient = True


class ServerBusyError(StagerError):
    """Another server already uses this state directory."""

    code = "already-running"


class SignalsError(StagerError):
    """Redis, which carries orders and signals, can't be used now."""

    code = "redis-unavailable"
    transient = True


class AccessDeniedError(StagerError):
    """The server did not accept the token."""

    code = "access-denied"


class RemoteError(StagerError):
    """An error that another process reported and whose kind this version does not know."""

    code = "remote-error"


class RemoteTransientError(RemoteError):
    """Likewise; the other process said that trying again may help."""

    code = "remote-error-transient"
    transient = True


def _kinds() -> dict[str, type[StagerError]]:
    found: dict[str, type[StagerError]] = {}
    waiting: list[type[StagerError]] = [StagerError]
    while waiting:
        kind = waiting.pop()
        found[kind.code] = kind
        waiting.extend(kind.__subclasses__())
    return found


def error_from_dict(data: dict[str, Any]) -> StagerError:
    """The error that `StagerError.to_dict` wrote; an unknown code becomes a `RemoteError`."""
    unknown = RemoteTransientError if data.get("transient") is True else RemoteError
    details = data.get("details")
    return _rebuild(
        _kinds().get(str(data.get("code")), unknown),
        str(data.get("what", "error")),
        str(data.get("cause", "")),
        str(data.get("remedy", "")),
        details if isinstance(details, dict) else {},
    )
