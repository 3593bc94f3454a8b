"""A whole job server with its API in this process, and things in it that belong to somebody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import requests

from stager.cli.serve import admittance
from stager.model.credential_scope import Scope
from stager.model.credentials import Kind, NewCredential
from stager.model.grants import Access
from stager.model.jobs import JobSpec, JobState
from stager.model.principals import Role
from stager.model.stages import StageItem
from stager.server.app import create_app
from stager.server.listen import ApiServer, open_socket, url_of
from stager.server.tls import Certificate
from stager.settings import Settings
from stager.wiring.server import JobServer

TOKEN = "t" * 43
PATIENCE = 60.0


class World:
    """A running server; every call makes a thing of its own for `owner`, behind the API's back."""

    def __init__(self, url: str, server: JobServer) -> None:
        self.url = url
        self.server = server
        self._numbers = count(1)
        self._done: dict[tuple[str, str], str] = {}
        self._session = requests.Session()
        self._session.trust_env = False

    def __call__(self, method: str, path: str, token: str | None, **more: Any) -> requests.Response:
        """One request, its body read."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        headers |= more.pop("headers", {})
        answer = self._session.request(method, self.url + path, headers=headers, timeout=PATIENCE, **more)
        assert answer.content is not None
        return answer

    def close(self) -> None:
        self._session.close()

    def name(self, what: str) -> str:
        return f"{what}-{next(self._numbers)}"

    def user(self, name: str, role: Role) -> str:
        """A user; his token's secret."""
        self.server.accounts.add_user(name, role)
        return self.server.accounts.create_token(name).secret

    def job(self, owner: str) -> str:
        """A job that waits."""
        spec = JobSpec(("/bin/true",), after=("never",), owner=owner)
        return self.server.jobs.submit([spec])[0]

    def cancelled(self, owner: str) -> str:
        """A job that was cancelled."""
        job = self.job(owner)
        self.server.jobs.cancel(job)
        return job

    def done(self, owner: str, use: str) -> str:
        """A job that has left a result, one for each use."""
        if (owner, use) not in self._done:
            script = 'echo printed; echo data > "$STAGER_RESULTS/result.txt"'
            job = self.server.jobs.submit([JobSpec(("/bin/sh", "-c", script), owner=owner)])[0]
            assert self.server.jobs.wait(job, PATIENCE).state is JobState.DONE
            self._done[owner, use] = job
        return self._done[owner, use]

    def stage(self, owner: str) -> str:
        item = StageItem(f"http://127.0.0.1:9/{self.name('staged')}")  # nobody answers there
        return self.server.stages.stage([item], owner=owner)

    def credential(self, owner: str) -> str:
        scope = Scope(f"{self.name('host')}.example.org", "/", owner)
        new = NewCredential(scope, Kind.BASIC, {"user": "u", "password": "p"})
        return self.server.credentials.add(new).id

    def restricted(self, owner: str) -> str:
        """A file that came for a credential, which that user has proved he may read; its key."""
        key = f"http://data.example.org/{self.name('restricted')}"
        data = f"bytes of {key}".encode()
        self.server.cache.put(key, data, owner="first", restricted=True)
        self._grant(owner, key, sha256(data).hexdigest())
        return key

    def _grant(self, owner: str, key: str, object_: str) -> None:
        access = Access(owner, key, object_)
        self.server._mapper.repair(lambda machine, now: machine.flights.grants.give(access, (), now)).result(
            PATIENCE
        )

    def grant(self, owner: str) -> str:
        """The id of a grant."""
        key = self.restricted(owner)
        (found,) = [one for one in self.server.grants.held(owner) if one.key == key]
        return found.id

    def put(self, owner: str) -> str:
        """A file under a name of its own; its key."""
        key = self.name("put")
        with self.server.cache_site.content.begin(key, owner=owner) as incoming:
            incoming.write(key.encode())
            incoming.finish()
        return key

    def pin(self, owner: str) -> str:
        return self.server.cache_site.pins.pin(self.put(owner), owner=owner).id

    def token(self, owner: str) -> str:
        """The id of a token of a user that there is."""
        return self.server.accounts.create_token(owner).token.id


def app_of(server: JobServer, settings: Settings) -> Any:
    """The API with all that the server has."""
    return create_app(
        server.jobs,
        TOKEN,
        hosts=settings.host_names,
        admittance=admittance(settings, server.accounts),
        runs=server.runs,
        site=server.site,
        cache=server.cache_site,
        stages=server.stages,
        credentials=server.credentials,
        grants=server.grants,
        accounts=server.accounts,
        events=server.events,
        audit=server.audit,
        flow=server.flow,
        repeats=server.repeats,
    )


@contextmanager
def world(root: Path, tls: Certificate | None = None, **more: Any) -> Iterator[World]:
    """A world on a free port; `more` are settings."""
    given: dict[str, Any] = {"cache_dir": root / "cache", "state_dir": root / "state"}
    settings = Settings(**{"requests_per_second": 0.0} | given | more)
    with JobServer(settings) as server, open_socket("127.0.0.1", 0) as listening:
        ready = threading.Event()
        context = None if tls is None else tls.context
        api = ApiServer(app_of(server, settings), ready.set, context)
        thread = threading.Thread(target=api.run, kwargs={"sockets": [listening]})
        thread.start()
        made = World(url_of(listening, encrypted=tls is not None), server)
        try:
            assert ready.wait(PATIENCE)
            yield made
        finally:
            made.close()
            api.stop()
            thread.join(PATIENCE)
