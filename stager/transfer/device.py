"""A refresh token by the device grant (RFC 8628): somebody says yes in a browser, wherever that is."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import urlencode

from stager.clock import Clock
from stager.errors import CredentialRefusedError, ProtocolError
from stager.model.urls import Url, parse_web_url
from stager.transfer.asks import Fill, Open, Steps
from stager.transfer.blocking import run
from stager.transfer.decisions import Request
from stager.transfer.login import read_answer
from stager.transfer.transport import Transport

DEFAULT_SECONDS = 5.0
"""Between two questions whether it was granted, where the origin says nothing."""
SLOWER_SECONDS = 5.0
"""Added each time that it says that we ask too often."""
LONGEST_SECONDS = 1800.0
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}
_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Invitation(NamedTuple):
    """Where somebody has to say yes, and with which code."""

    address: str
    code: str


def refresh_token(
    parts: Mapping[str, str],
    transport: Transport,
    clock: Clock,
    sleep: Callable[[float], None],
    invite: Callable[[Invitation], None],
) -> str:
    """The refresh token that was granted.

    Args:
        parts: of the credential: ``device_url``, ``token_url``, ``client_id``, perhaps ``client_secret``, ``scope``.
        transport: how the origin is asked.
        clock: the time.
        sleep: waits so many seconds.
        invite: told where somebody has to say yes.

    Raises:
        CredentialRefusedError: somebody said no, or nobody said yes in time.
        FetchError: the origin can't be asked, or answers with something else.
    """
    return cast("str", run(cast("Steps", _steps(parts, clock, sleep, invite)), transport, clock))


def _steps(
    parts: Mapping[str, str],
    clock: Clock,
    sleep: Callable[[float], None],
    invite: Callable[[Invitation], None],
) -> Generator[Open | Fill, Any, str]:
    at, token_url = parse_web_url(parts["device_url"]), parse_web_url(parts["token_url"])
    client = {name: parts[name] for name in ("client_id", "client_secret") if parts.get(name)}
    scope = {"scope": parts["scope"]} if parts.get("scope") else {}
    _, said = yield from _ask(at, client | scope)
    code, user, address = (said.get(n) for n in ("device_code", "user_code", "verification_uri"))
    if not (isinstance(code, str) and isinstance(user, str) and isinstance(address, str)):
        raise _nonsense(at)
    invite(Invitation(_shown(said.get("verification_uri_complete") or address), _shown(user)))
    pause = _seconds(said.get("interval"), DEFAULT_SECONDS)
    until = clock.monotonic() + min(_seconds(said.get("expires_in"), LONGEST_SECONDS), LONGEST_SECONDS)
    while clock.monotonic() < until:
        sleep(pause)
        status, said = yield from _ask(token_url, client | {"grant_type": _GRANT, "device_code": code})
        token, error = said.get("refresh_token"), said.get("error")
        if status == 200:  # noqa: PLR2004 - HTTP's own numbers
            if isinstance(token, str) and token:
                return token
            raise _nonsense(token_url)
        if error == "slow_down":
            pause += SLOWER_SECONDS
        elif error != "authorization_pending":
            raise _refused(token_url, "it was not granted")
    raise _refused(token_url, "nobody said yes in time")


def _ask(url: Url, form: Mapping[str, str]) -> Generator[Open | Fill, Any, tuple[int, dict[str, Any]]]:
    def pulse(_: float) -> None:
        """Whoever waits presses Ctrl-C."""

    status, _, body = yield from read_answer(
        Request(url, dict(_HEADERS), form=urlencode(form).encode()), pulse
    )
    try:
        said = json.loads(body)
    except ValueError:
        raise _nonsense(url) from None
    if not isinstance(said, dict):
        raise _nonsense(url)
    return status, said


def _seconds(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and value >= 0 else otherwise


def _shown(value: object) -> str:
    return "".join(c for c in str(value)[:500] if c.isprintable())


def _nonsense(url: Url) -> ProtocolError:
    return ProtocolError(
        f"{url.redacted} grants nothing",
        cause="its answer is not that of a device grant with a refresh token",
        remedy="check device_url, token_url and scope (some origins want offline_access)",
        url=url.redacted,
    )


def _refused(url: Url, cause: str) -> CredentialRefusedError:
    return CredentialRefusedError(
        "no refresh token was granted", cause=cause, remedy="try again", url=url.redacted, host=url.place
    )
