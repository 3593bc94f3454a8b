"""Who is logged in: a browser shows a random word in a cookie, the server keeps only its digest.

Sessions are written to a file of the state directory, so that a restart logs nobody out.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from stager.clock import Clock
from stager.model.principals import SERVER, Principal, Role

log = logging.getLogger(__name__)

SESSION_SECONDS = 7 * 86_400.0
"""A browser is logged in for so long."""
LINK_SECONDS = 300.0
"""A login link is good for so long, and once."""
MOST_SESSIONS = 10_000
"""The oldest ones end when there are more."""
MOST_OF_ONE = 20
"""Of one user; his own oldest one ends when there are more, nobody else's."""
MOST_LINKS = 100
MOST_LINKS_OF_ONE = 5


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is logged in.

    Attributes:
        principal: as whom.
        csrf: word that every form of this session carries.
        expires_at: seconds since 1970 UTC.
    """

    principal: Principal
    csrf: str
    expires_at: float


class Sessions:
    """All of them. May be called from any thread.

    Args:
        clock: the time.
        path: where they are kept; None: in memory alone.
        still: a user's principal as it is now; None: he may not come in any more (a token was revoked, a user removed).
        seal: sessions that were kept under another one are over.
    """

    def __init__(
        self,
        clock: Clock,
        path: Path | None = None,
        still: Callable[[Principal], Principal | None] = lambda principal: principal,
        seal: str = "",
    ) -> None:
        self._clock = clock
        self._path = path
        self._still = still
        self._seal = _digest(seal)
        self._lock = threading.Lock()
        self._open: dict[str, Session] = _read(path, self._seal) if path is not None else {}
        self._links: dict[str, tuple[Principal, float]] = {}

    def open(self, principal: Principal) -> str:
        """Log in; the word for the cookie."""
        word = secrets.token_urlsafe(32)
        now = self._clock.time()
        with self._lock:
            self._open = {at: one for at, one in self._open.items() if one.expires_at > now}
            own = [at for at, one in self._open.items() if one.principal.name == principal.name]
            for at in own[: max(0, len(own) - MOST_OF_ONE + 1)]:
                del self._open[at]
            while len(self._open) >= MOST_SESSIONS:
                del self._open[next(iter(self._open))]
            self._open[_digest(word)] = Session(principal, secrets.token_urlsafe(32), now + SESSION_SECONDS)
            self._write()
        return word

    def find(self, word: str) -> Session | None:
        """The session with that word, if it is not over."""
        with self._lock:
            found = self._open.get(_digest(word)) if word else None
        if found is None or found.expires_at <= self._clock.time():
            return None
        is_server = found.principal.name == SERVER
        principal = found.principal if is_server else self._still(found.principal)
        return None if principal is None else Session(principal, found.csrf, found.expires_at)

    def close(self, word: str) -> None:
        """Log out."""
        with self._lock:
            if self._open.pop(_digest(word), None) is not None:
                self._write()

    def link(self, principal: Principal) -> str:
        """A word that logs a browser in as that principal, once and soon."""
        word = secrets.token_urlsafe(32)
        with self._lock:
            own = [at for at, (of, _) in self._links.items() if of.name == principal.name]
            for at in own[: max(0, len(own) - MOST_LINKS_OF_ONE + 1)]:
                del self._links[at]
            while len(self._links) >= MOST_LINKS:
                del self._links[next(iter(self._links))]
            self._links[_digest(word)] = principal, self._clock.time() + LINK_SECONDS
        return word

    def redeem(self, word: str) -> Principal | None:
        """Who a login link is for; None: it was used, is too old, or never was."""
        with self._lock:
            principal, until = self._links.pop(_digest(word), (None, 0.0))
        return principal if until > self._clock.time() else None

    def _write(self) -> None:
        if self._path is None:
            return
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        kept = {"seal": self._seal, "sessions": {at: asdict(one) for at, one in self._open.items()}}
        try:
            fd = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w") as file:
                json.dump(kept, file, default=list)
            draft.rename(self._path)
        except OSError as error:  # who is logged in stays so until the next start
            log.warning("logins can't be kept in %s: %s", self._path, error.strerror)


def _digest(word: str) -> str:
    return sha256(word.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path, seal: str) -> dict[str, Session]:
    try:
        kept = json.loads(path.read_bytes())
        if kept["seal"] != seal:
            return {}
        return {at: _session(one) for at, one in kept["sessions"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("logins kept in %s can't be read: %s; people log in again", path, error)
        return {}


def _session(data: dict[str, Any]) -> Session:
    who = data["principal"]
    scopes = None if who["scopes"] is None else frozenset(who["scopes"])
    principal = Principal(str(who["name"]), Role(who["role"]), scopes, str(who["token"]))
    return Session(principal, str(data["csrf"]), float(data["expires_at"]))
