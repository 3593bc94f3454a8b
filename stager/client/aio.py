"""The client whose calls are awaited, over aiohttp."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, closing
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import yarl

from stager.client.answers import broke_off, content, innermost, is_good, problem, unreachable
from stager.client.groups import BLOCK_BYTES, CONNECT_SECONDS, OUTAGE_SECONDS, Groups
from stager.client.patience import rest_seconds
from stager.client.talk import Awaited, Emit, Open, Pause, Read, Request, Step, Talk, Telling
from stager.errors import StagerError

T = TypeVar("T")
E = TypeVar("E")
R = TypeVar("R")

_FAILURES = (aiohttp.ClientError, TimeoutError, OSError)


class AsyncClient(Groups[Awaited]):
    """Connections to the server, for the tasks of one event loop.

    Use it as ``async with AsyncClient(...) as client``. Its calls are those of `Client`, awaited.

    Args:
        url: of the server, such as ``http://127.0.0.1:8717``.
        token: content of the server's token file.
        outage_seconds: how long a wait goes on asking a server that does not answer.
        ca_bundle: file with the certificates to trust; empty: the usual ones.
    """

    def __init__(
        self, url: str, token: str, *, outage_seconds: float = OUTAGE_SECONDS, ca_bundle: str = ""
    ) -> None:
        super().__init__(self)
        self.url = url.rstrip("/")
        self.outage_seconds = outage_seconds
        self._token = token
        self._ca_bundle = ca_bundle
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- the driver's side -----------------------------------------------------------------------

    async def talk(self, talk: Talk[T]) -> T:
        """Hold a conversation to its end; what it comes to."""
        found: Any = None
        async with aclosing(self._hold(talk)) as conversation:
            async for _, item in conversation:
                found = item
        return found  # type: ignore[no-any-return]  # the last is what it comes to

    async def listen(self, talk: Telling[E, R]) -> AsyncGenerator[E | R, None]:
        """Hold a conversation, giving what it emits, and last what it comes to, if that is something."""
        async with aclosing(self._hold(talk)) as conversation:
            async for is_last, item in conversation:
                if not is_last or item is not None:
                    yield item

    async def _hold(self, talk: Telling[Any, Any]) -> AsyncGenerator[tuple[bool, Any], None]:
        exchange = _Exchange(self.url, self._connected())
        answer: Any = None
        error: StagerError | None = None
        with closing(talk), closing(exchange):
            while True:
                try:
                    step = talk.send(answer) if error is None else talk.throw(error)
                except StopIteration as end:
                    yield True, end.value
                    return
                answer = error = None
                if isinstance(step, Emit):
                    yield False, step.item
                    continue
                for times in count():
                    try:
                        answer = await exchange.do(step)
                    except StagerError as met:
                        rest = rest_seconds(step, met, times)
                        if rest is not None:
                            await asyncio.sleep(rest)
                            continue
                        error = met
                    break

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:  # here, because it wants a running loop
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self._token}"},
                connector=aiohttp.TCPConnector(limit=0, ssl=self._trust()),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    def _trust(self) -> ssl.SSLContext | bool:
        return ssl.create_default_context(cafile=self._ca_bundle) if self._ca_bundle else True


class _Exchange:
    """Does the steps of one conversation; has at most one answer open."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session
        self._opened: aiohttp.ClientResponse | None = None

    async def do(self, step: Step) -> Any:
        match step:
            case Request():
                answer, body = await self._send(step, whole=True)
                return content(self._url, answer.status, body, step.kind)
            case Open(request):
                self.close()
                self._opened, _ = await self._send(request, whole=False)
                return {name.lower(): value for name, value in self._opened.headers.items()}
            case Read():
                assert self._opened is not None
                try:
                    return await self._opened.content.read(BLOCK_BYTES)
                except _FAILURES as error:
                    raise broke_off(self._url, innermost(error)) from None
            case Pause(seconds):
                return await asyncio.sleep(seconds)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    async def _send(self, request: Request, *, whole: bool) -> tuple[aiohttp.ClientResponse, bytes]:
        headers = dict(request.headers)
        body: Any = None if request.data is None else _awaited(request.data)
        if request.json is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(request.json).encode()
        patience = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=request.patience)
        try:
            answer = await self._session.request(
                request.method,
                yarl.URL(self._url + request.target, encoded=True),
                data=body,
                headers=headers,
                timeout=patience,
                allow_redirects=False,
            )
            if is_good(answer.status):
                return answer, await answer.read() if whole else b""
            async with answer:
                media_type = answer.headers.get("Content-Type", "")
                raise problem(self._url, answer.status, media_type, await answer.read())
        except _FAILURES as error:
            sent = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            raise unreachable(self._url, innermost(error), sent=sent) from None


async def _awaited(blocks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block
