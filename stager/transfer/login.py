"""Obtaining a session with a credential: a token, or the cookies of a login form. Steps of a try (`asks`)."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Generator, Mapping
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urljoin

from stager.credentials.wallet import Credential, Session
from stager.errors import CredentialRefusedError, FetchError, InputError, ProtocolError
from stager.model.credentials import LAST_SECOND, Kind
from stager.model.urls import Url, parse_web_url
from stager.transfer.asks import Fill, Open
from stager.transfer.classify import is_transient, status_error
from stager.transfer.cookies import Jar
from stager.transfer.decisions import Request
from stager.transfer.exchange import no_connection
from stager.transfer.fields import Headers
from stager.transfer.transport import Pulse

MAX_ANSWER_BYTES = 1 << 20
"""Of a token endpoint or a login page."""
MAX_SECONDS = 30.0
"""For the body of one answer."""
MAX_HOPS = 10
"""From the login form to where it leads."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {"Accept": "application/json, text/html;q=0.9, */*;q=0.1", "Accept-Encoding": "identity"}

Logging = Generator[Open | Fill, Any, Session]
Answered = tuple[int, Headers, bytes]


class Login:
    """One attempt to obtain a session.

    Args:
        credential: with what.
        before: the session that there was, whose refresh token may be newer than the one that was given.
        pulse: as of the try.
        now: gives the time.
    """

    def __init__(
        self, credential: Credential, before: Session | None, pulse: Pulse, now: Callable[[], float]
    ) -> None:
        self._credential = credential
        self._parts = credential.parts
        self._before = before
        self._pulse = pulse
        self._now = now

    def steps(self) -> Logging:
        """Obtain it.

        Raises:
            CredentialRefusedError: who was asked for it does not accept the credential.
            FetchError: it can't be asked now, or answers with something else.
        """
        if self._credential.kind is Kind.FORM:
            return (yield from self._form())
        return (yield from self._token())

    # -- OAuth 2 --------------------------------------------------------------------------------

    def _token(self) -> Logging:
        parts = self._parts
        url = self._allowed(parts["token_url"])
        form = {"grant_type": "client_credentials"}
        refresh = ""
        if self._credential.kind is Kind.OAUTH2_REFRESH:
            newer = None if self._before is None else self._before.values.get("refresh_token")
            refresh = newer or parts["refresh_token"]
            form = {"grant_type": "refresh_token", "refresh_token": refresh}
        if parts.get("scope"):
            form["scope"] = parts["scope"]
        headers = dict(_HEADERS)
        secret = parts.get("client_secret", "")
        if secret and parts.get("client_auth", "basic") == "basic":  # RFC 6749, 2.3.1
            pair = f"{quote_plus(parts['client_id'])}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = parts["client_id"]
            if secret:
                form["client_secret"] = secret
        status, fields, body = yield from read_answer(
            Request(url, headers, form=urlencode(form).encode()), self._pulse
        )
        if status in {400, 401, 403}:
            raise self._refused(url, f"{status}, {_oauth_error(body)}")
        if status != 200:  # noqa: PLR2004 - HTTP's own numbers
            raise self._not_now(url, status, fields)
        return self._tokens(url, body, refresh)

    def _tokens(self, url: Url, body: bytes, refresh: str) -> Session:
        try:
            found = json.loads(body)
        except ValueError:
            raise _no_token(url) from None
        token = found.get("access_token") if isinstance(found, dict) else None
        if not isinstance(token, str) or not token or not token.isprintable() or not token.isascii():
            raise _no_token(url)
        now = self._now()
        try:
            expires_at = min(now + max(0.0, float(found["expires_in"])), LAST_SECOND)
        except (KeyError, TypeError, ValueError, OverflowError):
            expires_at = None
        values = {"token": token}
        given = found.get("refresh_token") or refresh
        if isinstance(given, str) and given:
            values["refresh_token"] = given
        return Session(self._credential.row.serial, values, now, expires_at)

    # -- a login form ---------------------------------------------------------------------------

    def _form(self) -> Logging:
        parts = self._parts
        url = self._allowed(parts["login_url"])
        jar = Jar()
        status, fields, body = yield from read_answer(Request(url, dict(_HEADERS)), self._pulse)
        jar.take(url, fields, self._now())
        if is_transient(status):
            raise self._not_now(url, status, fields)
        form = _hidden_fields(body)
        form |= dict(parse_qsl(parts.get("fields", ""), keep_blank_values=True))
        user_field = parts.get("user_field") or "username"
        password_field = parts.get("password_field") or "password"
        form |= {user_field: parts["user"], password_field: parts["password"]}
        sent: bytes | None = urlencode(form).encode()
        at, hops = url, 0
        while True:
            headers = dict(_HEADERS)
            cookies = jar.header(at, self._now())
            if cookies:
                headers["Cookie"] = cookies
            status, fields, body = yield from read_answer(Request(at, headers, form=sent), self._pulse)
            jar.take(at, fields, self._now())
            location = fields.get("location")
            if status not in _REDIRECTS or not location:
                break
            hops += 1
            target = self._allowed(urljoin(at.text, location))
            # The password goes nowhere but to the address that was given.
            if hops > MAX_HOPS or target.origin != url.origin:
                status = 200
                break
            at, sent = target, None
        if is_transient(status):
            raise self._not_now(url, status, fields)
        if status >= 400 or _asks_for(password_field, body):  # noqa: PLR2004 - HTTP's own numbers
            raise self._refused(url, "the form is shown again" if status < 400 else f"{status}")  # noqa: PLR2004
        if not jar.to_list():
            raise self._refused(url, "it set no cookie")
        values = {"cookies": jar.to_list()}
        return Session(self._credential.row.serial, values, self._now(), jar.expires_at)

    # -- parts ----------------------------------------------------------------------------------

    def _allowed(self, text: str) -> Url:
        try:
            url = parse_web_url(text)
        except InputError as error:
            raise ProtocolError("a login leads to no address", cause=error.cause) from None
        if not self._credential.row.scope.may_travel(url):
            raise self._refused(url, "it leads to an address without encryption")
        return url

    def _refused(self, url: Url, said: str) -> CredentialRefusedError:
        row = self._credential.row
        return CredentialRefusedError(
            f"{url.place} did not accept the credential for {row.scope.host}",
            cause=f"{row.kind} of {row.user}: {said}" if row.user else f"{row.kind}: {said}",
            remedy=f"`stager credentials rotate {row.id}` takes the right one",
            url=url.redacted,
            host=row.scope.host,
            credential=row.id,
        )

    def _not_now(self, url: Url, status: int, fields: Headers) -> FetchError:
        return status_error(url, status, fields, self._now())


def read_answer(request: Request, pulse: Pulse) -> Generator[Open | Fill, Any, Answered]:
    """Send a request and read the whole answer, which is to be small: status, fields, body."""
    answer = yield Open(request, pulse)
    try:
        body = answer.take()
        if body is None:
            room = memoryview(bytearray(MAX_ANSWER_BYTES))
            filled, took = 0, 0.0
            while answer.end is None and filled < MAX_ANSWER_BYTES:
                count, seconds = yield Fill(answer, room[filled:])
                filled, took = filled + count, took + seconds
                pulse(0.0)
                if took > MAX_SECONDS:
                    raise no_connection(request.url, f"its answer took more than {MAX_SECONDS:.0f} s")
            body = bytes(room[:filled])
        return answer.status, dict(answer.headers), bytes(body)
    finally:
        answer.close()


def _no_token(url: Url) -> ProtocolError:
    return ProtocolError(
        f"{url.redacted} gave no token",
        cause="its answer is none of OAuth 2",
        remedy="check token_url of the credential",
        url=url.redacted,
    )


def _oauth_error(body: bytes) -> str:
    """The code that the answer gives, of those that RFC 6749 knows; nothing else of what it says."""
    known = ("invalid_grant", "invalid_client", "invalid_request", "invalid_scope", "unauthorized_client",
             "unsupported_grant_type", "access_denied", "expired_token")  # fmt: skip
    try:
        said = json.loads(body).get("error")
    except (ValueError, AttributeError):
        said = None
    return said if said in known else "without a reason"


class _Form(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hidden: dict[str, str] = {}
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given: Mapping[str, str | None] = dict(attrs)
        name = given.get("name")
        if tag == "input" and name:
            self.names.add(name)
            if (given.get("type") or "").lower() == "hidden":
                self.hidden[name] = given.get("value") or ""


def _read(body: bytes) -> _Form:
    form = _Form()
    form.feed(body.decode("utf-8", "replace"))
    return form


def _hidden_fields(body: bytes) -> dict[str, str]:
    """Such as the token against forged requests."""
    return _read(body).hidden


def _asks_for(field: str, body: bytes) -> bool:
    return field in _read(body).names
