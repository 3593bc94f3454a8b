"""The way to Redis: timeouts that find a dead peer, TLS, and errors that say what is wrong in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import redis
from redis.exceptions import NoPermissionError

from stager.errors import SettingsError, SignalsError

ANSWER_SECONDS = 10.0
"""Longest wait for an answer that is not a blocking read; a half-open connection is found within that."""
CONNECT_SECONDS = 5.0
PROBE_SECONDS = 10.0
"""An idle connection is tried before it is used again after so long."""
SCHEMES = ("redis", "rediss", "unix")


class RedisAddress:
    """Where Redis is and how to get in; shown without the password.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``.
        password_file: file whose first line is the password; it goes before one in the URL.
        ca_bundle: file with the certificates to trust; empty: the usual ones.

    Raises:
        SettingsError: no such scheme, or a file that can't be read.
    """

    def __init__(self, url: str, *, password_file: str = "", ca_bundle: str = "") -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # whose text would show a part of the password
            raise SettingsError(
                "setting redis_url is no URL",
                cause="its port is no number, or a password in it has a character that means something in URLs",
                remedy="write / as %2F in a password, or put it into redis_password_file",
            ) from None
        if parts.scheme not in SCHEMES:
            raise SettingsError(
                f"setting redis_url has the scheme {parts.scheme!r}",
                remedy=f"write {', '.join(f'{s}://' for s in SCHEMES)}",
            )
        self._password = _first_line(password_file) if password_file else None
        self.ca_bundle = ca_bundle
        self._parts = parts
        host = parts.hostname or ""
        self.shown = parts.path if parts.scheme == "unix" else f"{host}:{port or 6379}{parts.path}"

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self._parts.scheme == "rediss"

    @property
    def url(self) -> str:
        """The address with the password, for those who take nothing else; never to be shown."""
        parts = self._parts
        if self._password is None:
            return urlunsplit(parts)
        place = parts.netloc.rpartition("@")[2]
        user = quote(parts.username or "", safe="")
        return urlunsplit(parts._replace(netloc=f"{user}:{quote(self._password, safe='')}@{place}"))

    def connect(self) -> redis.Redis:
        """A client; it connects when it is first used."""
        given = {"ssl_ca_certs": self.ca_bundle} if self.is_tls and self.ca_bundle else {}
        client: redis.Redis = redis.Redis.from_url(
            self.url,
            protocol=2,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            health_check_interval=PROBE_SECONDS,
            **({} if self._parts.scheme == "unix" else {"socket_keepalive": True}),
            **given,
        )
        return client

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Inside, errors of Redis become `SignalsError` with a cause and a way out."""
        try:
            yield
        except (redis.RedisError, OSError) as error:
            cause, remedy = _explained(error)
            raise SignalsError(f"Redis at {self.shown} can't be used", cause=cause, remedy=remedy) from error


def _explained(error: Exception) -> tuple[str, str]:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, redis.AuthenticationError | NoPermissionError) or "NOAUTH" in text:
        return text, "check redis_url and redis_password_file"
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return "no answer in time", "check the host and the network"
    if "CERTIFICATE" in text:
        return text, "check redis_ca_bundle"
    if isinstance(error, redis.ConnectionError | OSError):
        return text, "check that it runs, and redis_url"
    return text, "see its log"


def _first_line(path: str) -> str:
    try:
        return Path(path).expanduser().read_text("utf-8").partition("\n")[0].strip()
    except (OSError, ValueError) as error:
        cause = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise SettingsError(f"redis_password_file {path} can't be read", cause=cause) from None
