"""Signed posts to one URL, and what their answers mean."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests

from stager.errors import SettingsError
from stager.mapper.dispatch.signing import signature
from stager.transfer.fields import parse_retry_after

TIMEOUT_SECONDS = (10.0, 30.0)
"""Longest wait for a connection, and for the answer; to take a job means to queue it, not to run it."""
PASSING = frozenset({408, 425, 429})
"""Refusals that may pass, besides those of 500 and more."""
_SMALL_BYTES = 4096
"""An answer of that size is read, so that its connection can be used again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a post.

    Attributes:
        status: of HTTP; 0 when there was no answer.
        cause: in words.
        retry_after: seconds that the other side asked for.
    """

    status: int
    cause: str
    retry_after: float | None = None

    @property
    def taken(self) -> bool:
        """Whether it was accepted."""
        return 200 <= self.status < 300  # noqa: PLR2004

    @property
    def passing(self) -> bool:
        """Whether the same post may be accepted later."""
        return self.status == 0 or self.status in PASSING or self.status >= 500  # noqa: PLR2004


class Webhook:
    """Posts signed messages to one URL.

    Args:
        url: http or https, without credentials.
        secret: signs what is posted.
        ca_bundle: file with the certificates to trust; empty: the usual ones.

    Raises:
        SettingsError: an impossible URL.
    """

    def __init__(self, url: str, secret: bytes, *, ca_bundle: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
            raise SettingsError(
                "setting webhook_url is no address to post to",
                cause="http or https, a host, and no user or password in it, are needed",
                remedy="write it as https://jobs.example.org/path",
            )
        self.host = parts.hostname
        self._url = url
        self._secret = secret
        self._verify = ca_bundle or True
        self._local = threading.local()
        self._sessions: list[requests.Session] = []

    def post(self, key: str, message: dict[str, Any]) -> Answer:
        """Post once; `key` is the same for the same message, however often it is posted."""
        body = json.dumps(message).encode()
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            "Webhook-Id": key,
            "Webhook-Timestamp": str(now),
            "Webhook-Signature": signature(self._secret, key, now, body),
        }
        try:
            with self._session().post(
                self._url,
                data=body,
                headers=headers,
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
                stream=True,
                verify=self._verify,
            ) as answer:
                length = answer.headers.get("Content-Length", "")
                if length.isdigit() and int(length) <= _SMALL_BYTES:
                    with suppress(requests.RequestException):
                        _ = answer.content
                wait = parse_retry_after(answer.headers.get("Retry-After"), time.time())
                return Answer(answer.status_code, _in_words(answer.status_code), wait)
        except requests.RequestException as error:
            return Answer(0, _reason(error))

    def close(self) -> None:
        """Close the connections."""
        for session in self._sessions:
            session.close()

    def _session(self) -> requests.Session:
        """One for each thread."""
        found: requests.Session | None = getattr(self._local, "session", None)
        if found is None:
            found = self._local.session = requests.Session()
            found.trust_env = False
            self._sessions.append(found)
        return found


def _in_words(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"status {status}"


def _reason(error: requests.RequestException) -> str:
    """The innermost cause: the outer ones repeat the URL, which may hold a secret."""
    inner: BaseException = error
    seen = {id(inner)}
    while True:
        nearer = [getattr(inner, "reason", None), *inner.args, inner.__cause__, inner.__context__]
        deeper = next((c for c in nearer if isinstance(c, BaseException) and id(c) not in seen), None)
        if deeper is None:
            return (inner.strerror if isinstance(inner, OSError) else None) or type(inner).__name__
        inner = deeper
        seen.add(id(inner))
