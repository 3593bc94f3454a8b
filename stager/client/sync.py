"""The client whose calls return when they are answered."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar

import requests
from urllib3.exceptions import NewConnectionError

from stager.client.answers import broke_off, content, innermost, is_good, problem, unreachable
from stager.client.groups import BLOCK_BYTES, CONNECT_SECONDS, OUTAGE_SECONDS, Groups
from stager.client.patience import rest_seconds
from stager.client.remote_file import AHEAD_BYTES, HELD_BYTES
from stager.client.talk import Blocking, Emit, Open, Pause, Read, Request, Step, Talk, Telling
from stager.errors import StagerError

T = TypeVar("T")
E = TypeVar("E")
R = TypeVar("R")


class Client(Groups[Blocking]):
    """A connection to the server; not to be shared between threads.

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
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca_bundle or True
        self._session.headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the driver's side -----------------------------------------------------------------------

    def talk(self, talk: Talk[T]) -> T:
        """Hold a conversation to its end; what it comes to."""
        conversation: Generator[Any, None, T] = self.listen(talk)
        while True:
            try:
                next(conversation)
            except StopIteration as end:
                found: T = end.value
                return found

    def listen(self, talk: Telling[E, R]) -> Generator[E, None, R]:
        """Hold a conversation, giving what it emits; returns what it comes to."""
        with closing(talk), closing(_Exchange(self.url, self._session)) as exchange:
            answer: Any = None
            error: StagerError | None = None
            while True:
                try:
                    step = talk.send(answer) if error is None else talk.throw(error)
                except StopIteration as end:
                    found: R = end.value
                    return found
                answer = error = None
                if isinstance(step, Emit):
                    yield step.item
                    continue
                for times in count():
                    try:
                        answer = exchange.do(step)
                    except StagerError as met:
                        rest = rest_seconds(step, met, times)
                        if rest is not None:
                            time.sleep(rest)
                            continue
                        error = met
                    break


def open_remote(
    word: str,
    url: str,
    token: str,
    *,
    held_bytes: int = HELD_BYTES,
    ahead_bytes: int = AHEAD_BYTES,
    outage_seconds: float = OUTAGE_SECONDS,
) -> io.BufferedReader:
    """A file of a server, open for reading, whose blocks are brought as they are read. See `ObjectCalls.open`.

    Args:
        word: which file: a SHA-256, or a key (of most files: the URL; of a result: ``result:JOB/NAME``).
        url: of the server.
        token: to show it.
        held_bytes: how much of the file is held in memory.
        ahead_bytes: how much is brought at once at most.
        outage_seconds: how long a server that does not answer is waited for.
    """
    client = Client(url, token, outage_seconds=outage_seconds)
    try:
        file = client.objects.open(word, held_bytes=held_bytes, ahead_bytes=ahead_bytes)
    except BaseException:
        client.close()
        raise
    file.raw.closes.append(client.close)  # type: ignore[attr-defined]  # it is a RemoteFile
    return file


class _Exchange:
    """Does the steps of one conversation; has at most one answer open."""

    def __init__(self, url: str, session: requests.Session) -> None:
        self._url = url
        self._session = session
        self._opened: requests.Response | None = None
        self._blocks: Iterator[bytes] = iter(())

    def do(self, step: Step) -> Any:
        match step:
            case Request():
                with self._send(step, stream=False) as answer:
                    return content(self._url, answer.status_code, answer.content, step.kind)
            case Open(request):
                self.close()
                self._opened = self._send(request, stream=True)
                self._blocks = self._opened.iter_content(BLOCK_BYTES)
                return {name.lower(): value for name, value in self._opened.headers.items()}
            case Read():
                try:
                    return next(self._blocks, b"")
                except requests.RequestException as error:
                    raise broke_off(self._url, innermost(error)) from None
            case Pause(seconds):
                return time.sleep(seconds)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _send(self, request: Request, *, stream: bool) -> requests.Response:
        headers = dict(request.headers)
        body: Any = None if request.data is None else iter(request.data)
        if request.json is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(request.json).encode()
        try:
            answer = self._session.request(
                request.method,
                self._url + request.target,
                data=body,
                headers=headers,
                stream=stream,
                timeout=(CONNECT_SECONDS, request.patience),
                allow_redirects=False,
            )
            if is_good(answer.status_code):
                return answer
            with answer:
                media_type = answer.headers.get("Content-Type", "")
                raise problem(self._url, answer.status_code, media_type, answer.content)
        except requests.RequestException as error:
            sent = not _never_connected(error)
            raise unreachable(self._url, innermost(error), sent=sent) from None


def _never_connected(error: requests.RequestException) -> bool:
    if isinstance(error, requests.ConnectTimeout | requests.exceptions.SSLError):
        return True
    outer = error.args[0] if error.args else None
    return isinstance(getattr(outer, "reason", None), NewConnectionError)
