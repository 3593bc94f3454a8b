"""Exit codes of every command, and which error leads to which."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from stager import errors


class Exit(IntEnum):
    """What a command's status means; the same for all commands."""

    OK = 0
    """Everything that was asked for is done."""
    FAILED = 1
    """A fetch or a job failed."""
    USAGE = 2
    """Bad input, unknown option, or a setting that makes no sense; nothing was changed."""
    WARNING = 1
    """`doctor`, `cache probe`: it works, and somebody should look at it."""
    BROKEN = 2
    """`doctor`, `cache probe`: something is broken, or unfit."""
    NOT_FOUND = 3
    """No such job, key, result or precondition."""
    SERVER = 4
    """The server can't be reached, or refused the token or what was asked with it."""
    STORAGE = 5
    """The cache or the server's state can't be used."""
    CONFLICT = 6
    """It exists but its state forbids this; or it is already running."""
    TIMEOUT = 7
    """It was not done in the time given."""
    CREDENTIAL = 8
    """A fetch needs a credential: none was given, or it has expired or was refused."""
    INTERNAL = 70
    """A fault of this program; ``--debug`` shows where."""
    NOT_RUN = 125
    """`stager run`: the job could not be run (its own status otherwise)."""
    INTERRUPTED = 130
    """Ctrl-C or SIGTERM."""
    PIPE = 141
    """The reader of the output went away."""


BY_ERROR: Final[dict[type[BaseException], Exit]] = {
    errors.InputError: Exit.USAGE,
    errors.SettingsError: Exit.USAGE,
    errors.NotFoundError: Exit.NOT_FOUND,
    errors.ServerUnreachableError: Exit.SERVER,
    errors.AccessDeniedError: Exit.SERVER,
    errors.ForbiddenError: Exit.SERVER,
    errors.TooManyRequestsError: Exit.SERVER,
    errors.CredentialError: Exit.CREDENTIAL,
    errors.CredentialStoreError: Exit.STORAGE,
    errors.CacheError: Exit.STORAGE,
    errors.StateError: Exit.STORAGE,
    errors.ConflictError: Exit.CONFLICT,
    errors.ServerBusyError: Exit.CONFLICT,
    TimeoutError: Exit.TIMEOUT,
}
"""The nearest class in the error's ancestry counts."""


def exit_code(error: BaseException) -> Exit:
    """The code of a command that ends with `error`."""
    for kind in type(error).__mro__:
        if kind in BY_ERROR:
            return BY_ERROR[kind]
    return Exit.FAILED if isinstance(error, errors.StagerError) else Exit.INTERNAL
