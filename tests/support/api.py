"""The HTTP API in this process, over a real socket, with scripted fetches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from fastapi import FastAPI

from stager.client import Client
from stager.client.talk import Request, Talk
from stager.server.app import create_app
from stager.server.listen import ApiServer, open_socket, url_of
from tests.support.jobserver import SmallServer

TOKEN = "t" * 43
PATIENCE = 60.0


@dataclass
class Api:
    """A running API."""

    url: str
    server: SmallServer
    app: FastAPI

    def __call__(
        self, method: str, path: str, *, token: str | None = TOKEN, **more: Any
    ) -> requests.Response:
        """One request, its body read."""
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, self.url + path, headers=headers, timeout=PATIENCE, **more)
            assert answer.content is not None
            return answer

    def problem(self, method: str, path: str, status: int, **more: Any) -> dict[str, Any]:
        """The problem that a request is answered with; it is checked to be one."""
        answer = self(method, path, **more)
        assert answer.headers["Content-Type"] == "application/problem+json", answer.text
        found: dict[str, Any] = answer.json()
        assert answer.status_code == found["status"] == status, found
        assert found["type"] == f"urn:stager:error:{found['code']}"
        assert found["title"]
        assert "\n" not in found["detail"]
        assert "Traceback" not in answer.text
        return found

    def client(self) -> Client:
        return Client(self.url, TOKEN)


@contextmanager
def running_api(root: Path) -> Iterator[Api]:
    """An API on a free port."""
    with SmallServer(root) as server, open_socket("127.0.0.1", 0) as listening:
        app = create_app(server.jobs, TOKEN, events=server.events, repeats=server.repeats)
        ready = threading.Event()
        api = ApiServer(app, ready.set)
        url = url_of(listening)
        thread = threading.Thread(target=api.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert ready.wait(PATIENCE)
            yield Api(url, server, app)
        finally:
            api.stop()
            thread.join(PATIENCE)


def ask(client: Client, method: str, path: str, *, json: Any = None, kind: type = dict) -> Any:
    """What the server answers to what none of the client's calls would ask."""

    def talk() -> Talk[Any]:
        return (yield Request(method, path, json=json, kind=kind))

    return client.talk(talk())
