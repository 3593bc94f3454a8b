"""One tree of errors; each names the thing, the cause and the way out.

An error is raised where its nature is known, so that is where it is decided whether it is
*transient* (trying again may help) or permanent. Errors cross process borders (pickle) and are kept
in the database (`to_dict`, `error_from_dict`), so they carry plain attributes only, and no secret.
"""

from __future__ import annotations

from typing import Any

from stager.errors.base import StagerError, rebuilt
from stager.errors.fetch import (
    AddressRefusedError,
    CancelledError,
    ConnectionFailedError,
    CredentialError,
    CredentialExpiredError,
    CredentialRefusedError,
    CredentialRequiredError,
    CredentialUnreadableError,
    DigestMismatchError,
    FetchError,
    FetchTooLongError,
    FileTooLargeError,
    HandedBackError,
    HeadTooLargeError,
    HostKeyError,
    IncompleteError,
    OriginBusyError,
    OriginChangedError,
    OriginRefusedError,
    ProtocolError,
    RedirectError,
    SchemeError,
    TlsError,
    UnprovenLengthError,
    WorkerLostError,
)

__all__ = [
    "AccessDeniedError",
    "AddressRefusedError",
    "CacheError",
    "CacheFullError",
    "CacheGoneError",
    "CacheIOError",
    "CachePermissionError",
    "CacheTooSmallError",
    "CancelledError",
    "CommandFailedError",
    "ConflictError",
    "ConnectionFailedError",
    "CredentialError",
    "CredentialExpiredError",
    "CredentialRefusedError",
    "CredentialRequiredError",
    "CredentialStoreError",
    "CredentialUnreadableError",
    "DigestMismatchError",
    "FetchError",
    "FetchTooLongError",
    "FileTooLargeError",
    "ForbiddenError",
    "HandedBackError",
    "HeadTooLargeError",
    "HostKeyError",
    "IllegalTransitionError",
    "IncompleteError",
    "InputError",
    "InputFailedError",
    "JobError",
    "JobTooLargeError",
    "KeyReusedError",
    "LayoutVersionError",
    "NotACacheError",
    "NotFoundError",
    "NotReadyError",
    "ObjectLostError",
    "OriginBusyError",
    "OriginChangedError",
    "OriginRefusedError",
    "ProtocolError",
    "RedirectError",
    "RemoteError",
    "RemoteTransientError",
    "ResultGoneError",
    "ResultMissingError",
    "RunnerLostError",
    "SchemeError",
    "ServerBusyError",
    "ServerUnreachableError",
    "SettingsError",
    "SignalsError",
    "StagerError",
    "StateError",
    "SupersededError",
    "TlsError",
    "TooManyInputsError",
    "TooManyRequestsError",
    "UnderWayError",
    "UnprovenLengthError",
    "WorkerLostError",
    "error_from_dict",
]


# -- what the caller gave ------------------------------------------------------------------------


class InputError(StagerError):
    """What the caller gave is not valid; nothing was changed."""

    code = "bad-input"


class KeyReusedError(InputError):
    """An Idempotency-Key was sent with another request before; nothing was changed."""

    code = "key-reused"


class TooManyInputsError(InputError):
    """A job has more inputs than `max_job_inputs`; nothing was taken in."""

    code = "too-many-inputs"


class NotFoundError(StagerError):
    """No such job, key, object, result or precondition."""

    code = "not-found"


class ResultGoneError(NotFoundError):
    """A job left it, and it has been removed since: its time was up, or somebody removed it."""

    code = "result-gone"


class ConflictError(StagerError):
    """The thing exists but is in a state that forbids this."""

    code = "conflict"


class UnderWayError(ConflictError):
    """A call with the same Idempotency-Key is being answered just now."""

    code = "under-way"
    transient = True


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


class CacheTooSmallError(CacheError):
    """The file is larger than the cache may ever be: to make room would not help."""

    code = "cache-too-small"


class CacheIOError(CacheError):
    """The file system failed (EIO, ESTALE); it may recover."""

    code = "cache-io"
    transient = True


class ObjectLostError(CacheError):
    """An object that was published is gone or damaged; it has to be fetched again."""

    code = "object-lost"
    transient = True


# -- jobs ----------------------------------------------------------------------------------------


class JobError(StagerError):
    """A job could not be brought to its end."""

    code = "job-failed"


class InputFailedError(JobError):
    """A precondition of the job failed for good; ``cause`` names it."""

    code = "input-failed"


class JobTooLargeError(JobError):
    """The inputs of a job are larger than `max_job_bytes` in all."""

    code = "job-too-large"


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


class NotReadyError(StagerError):
    """A part of the server can't do its work now; ``cause`` and ``details.parts`` say which."""

    code = "not-ready"
    transient = True


class SupersededError(StateError):
    """Another server has taken over; this one writes nothing any more, and ends."""

    code = "superseded"


class SignalsError(StagerError):
    """Redis, which carries orders and signals, can't be used now."""

    code = "redis-unavailable"
    transient = True


class AccessDeniedError(StagerError):
    """The server did not accept the token."""

    code = "access-denied"


class ForbiddenError(StagerError):
    """Who asked is known, and may not do that."""

    code = "forbidden"


class TooManyRequestsError(StagerError):
    """Somebody asks more often than the server answers; nothing was changed."""

    code = "too-many-requests"
    transient = True


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
    return rebuilt(
        _kinds().get(str(data.get("code")), unknown),
        str(data.get("what", "error")),
        str(data.get("cause", "")),
        str(data.get("remedy", "")),
        details if isinstance(details, dict) else {},
    )
