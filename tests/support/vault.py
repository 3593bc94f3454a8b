"""Credentials in a directory of the test, and a fetcher that has them; a token endpoint; a login form."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from stager.clock import Clock, SystemClock
from stager.credentials.files import FileStore
from stager.credentials.keys import KeyFiles
from stager.credentials.wallet import Wallet
from stager.model.credential_scope import Scope
from stager.model.credentials import CredentialView, Kind, NewCredential
from stager.service.credentials import CredentialService
from stager.service.ids import IdMaker
from tests.support.origin import Answer, Exchange, content, status


class Vault:
    """A store, its keys, the service that fills it, and wallets on it."""

    def __init__(self, root: Path, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.root = root
        self.store = FileStore(root)
        self.keys = KeyFiles(root / "key", root / "key.pub")
        self.keys.make()
        self.service = CredentialService(self.store, self.keys.closer, self.clock, IdMaker(self.clock))

    def give(
        self,
        host: str,
        kind: str = "basic",
        *,
        prefix: str = "/",
        owner: str = "",
        allow_http: bool = True,
        expires_at: float | None = None,
        **parts: str,
    ) -> CredentialView:
        given = parts or {"user": "ada", "password": "canary-password"}
        scope = Scope(host, prefix, owner, allow_http)
        return self.service.add(NewCredential(scope, Kind(kind), given, expires_at))

    def wallet(self) -> Wallet:
        return Wallet(self.store, self.keys.opener, self.keys.closer, self.clock)


def place(base: str) -> str:
    """Host and port of an origin."""
    return urlsplit(base).netloc


def basic(user: str = "ada", password: str = "canary-password") -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def guarded(
    data: bytes, admits: Callable[[Mapping[str, str]], bool], refusal: int = 401, **more: Any
) -> Answer:
    """Content for those whose request's headers are admitted."""

    def answer(exchange: Exchange) -> None:
        if admits(exchange.request.headers):
            content(data, **more)(exchange)
        else:
            status(refusal)(exchange)

    return answer


class TokenEndpoint:
    """Gives tokens that are numbered, to whoever shows the present secret."""

    def __init__(
        self,
        accepts: Callable[[dict[str, str], Mapping[str, str]], bool],
        *,
        seconds: float | None = 3600,
        rotates: bool = False,
    ) -> None:
        self.accepts = accepts
        self.seconds = seconds
        self.rotates = rotates
        self.asked: list[dict[str, str]] = []
        self.issued: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> None:
        form = {name: values[0] for name, values in parse_qs(exchange.request.body.decode()).items()}
        with self._lock:
            self.asked.append(form)
            if not self.accepts(form, exchange.request.headers):
                reply, code = {"error": "invalid_grant"}, 400
            else:
                token = f"canary-token-{len(self.issued) + 1}"
                self.issued.append(token)
                reply, code = {"access_token": token, "token_type": "Bearer"}, 200
                if self.seconds is not None:
                    reply["expires_in"] = self.seconds  # type: ignore[assignment]
                if self.rotates:
                    reply["refresh_token"] = f"canary-refresh-{len(self.issued) + 1}"
        body = json.dumps(reply).encode()
        exchange.head(code, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        exchange.body(body)


def bearer(headers: Mapping[str, str]) -> str:
    return headers.get("authorization", "").removeprefix("Bearer ")
