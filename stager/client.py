"""The API's client: the same calls as `JobService`, over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from email.utils import parsedate_to_datetime
from json import loads
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import requests

from stager.client_cache import CacheCalls
from stager.client_credentials import CredentialCalls
from stager.client_stage import StageCalls
from stager.errors import (
    AccessDeniedError,
    RemoteError,
    ServerUnreachableError,
    StagerError,
    StateError,
    error_from_dict,
)
from stager.model.fetches import FetchState
from stager.model.grants import GrantView
from stager.model.jobs import JobSpec, JobState
from stager.model.views import (
    InputView,
    JobDetail,
    JobView,
    OriginView,
    PreconditionView,
    ResultView,
    WorkersView,
    WorkerView,
)

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 90.0
"""Longest silence of the server; longer than it waits for its own database."""
POLL_SECONDS = 30.0
"""One long poll."""
OUTAGE_SECONDS = 60.0
"""So long `wait` puts up with a server that is gone: it may be starting again."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
BLOCK_BYTES = 256 * 1024

_View = TypeVar("_View")


class Client:
    """A connection to the server; not to be shared between threads.

    Args:
        url: of the server, such as ``http://127.0.0.1:8717``.
        token: content of the server's token file.
        outage_seconds: how long `wait` goes on asking a server that does not answer.
    """

    def __init__(self, url: str, token: str, *, outage_seconds: float = OUTAGE_SECONDS) -> None:
        self.url = url.rstrip("/")
        self._outage = outage_seconds
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {token}"
        self.cache = CacheCalls(self._ask, self._tell, self._resumed)
        """What can be asked about the server's cache."""
        self.staging = StageCalls(self._ask, self._patiently)
        """Stage requests: many files at once."""
        self.credentials = CredentialCalls(self._ask)
        """What origins are shown; no secret comes back."""

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- calls ----------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec]) -> list[str]:
        """Take in jobs, all or none; their ids.

        Raises:
            StagerError: as of `JobService.submit`; nothing was submitted, unless it is `ServerUnreachableError`.
        """
        answer = self._ask("POST", "jobs", json=[spec.to_dict() for spec in specs])
        return [str(job) for job in answer["ids"]]

    def jobs(
        self, *, states: Collection[JobState] = (), limit: int = 100, before: str | None = None
    ) -> list[JobView]:
        """Jobs, newest first."""
        found: list[JobView] = []
        while len(found) < limit:
            query: dict[str, Any] = {
                "state": [s.value for s in states],
                "limit": min(limit - len(found), 1000),
            }
            answer = self._ask("GET", "jobs", params=query | ({"before": before} if before else {}))
            found += [_view(JobView, job) for job in answer["jobs"]]
            before = answer["next"]
            if before is None:
                break
        return found

    def job(self, word: str, *, wait: float = 0.0) -> JobDetail:
        """One job with all that belongs to it; answered when it is over or after `wait` seconds."""
        query = {"wait": f"{wait:.3f}"} if wait else {}
        return _detail(self._ask("GET", f"jobs/{_part(word)}", params=query, patience=ANSWER_SECONDS + wait))

    def wait(self, word: str, seconds: float | None = None) -> JobDetail:
        """Wait until the job is over, for at most `seconds`; the job, over or not.

        A server that is started again meanwhile is waited for.

        Raises:
            ServerUnreachableError: it stayed away too long.
        """
        return self._patiently(
            lambda patience: self.job(word, wait=patience), lambda job: job.state.is_final, seconds
        )

    def _patiently(
        self, ask: Callable[[float], _View], is_over: Callable[[_View], bool], seconds: float | None
    ) -> _View:
        until = None if seconds is None else time.monotonic() + seconds
        gone_since: float | None = None
        pause = FIRST_PAUSE_SECONDS
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            try:
                found = ask(POLL_SECONDS if left is None else min(left, POLL_SECONDS))
            except (ServerUnreachableError, StateError):
                now = time.monotonic()
                gone_since = now if gone_since is None else gone_since
                if now - gone_since > self._outage or (until is not None and now >= until):
                    raise
                time.sleep(pause if left is None else min(pause, left))
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                continue
            if is_over(found) or (until is not None and time.monotonic() >= until):
                return found
            gone_since, pause = None, FIRST_PAUSE_SECONDS

    def cancel(self, word: str) -> bool:
        """Cancel a job; False when it was cancelled already."""
        return bool(self._ask("POST", f"jobs/{_part(word)}/cancel")["changed"])

    def meet(self, name: str) -> bool:
        """Say that a precondition is met; False when it was already."""
        return bool(self._ask("PUT", f"preconditions/{_part(name)}")["changed"])

    def preconditions(self) -> list[PreconditionView]:
        """All preconditions."""
        return [_view(PreconditionView, p) for p in self._ask("GET", "preconditions")["preconditions"]]

    def results(self, word: str) -> list[ResultView]:
        """The files that the job left."""
        return [_view(ResultView, r) for r in self._ask("GET", f"jobs/{_part(word)}/results")["results"]]

    def origins(self) -> list[OriginView]:
        """Origins that have work or had some lately, and how they cope."""
        return [_view(OriginView, one) for one in self._ask("GET", "origins")["origins"]]

    def grants(self, user: str | None = None) -> list[GrantView]:
        """See `GrantService.held`."""
        params = {} if user is None else {"user": user}
        return [_view(GrantView, one) for one in self._ask("GET", "grants", params=params)["grants"]]

    def revoke(self, words: Sequence[str] = (), *, user: str | None = None) -> list[GrantView]:
        """See `GrantService.revoke`."""
        params = {"grant": list(words)} | ({} if user is None else {"user": user})
        return [_view(GrantView, one) for one in self._ask("DELETE", "grants", params=params)["grants"]]

    def workers(self) -> WorkersView:
        """Who fetches files and runs jobs, where that is not the server itself."""
        found = self._ask("GET", "workers")
        return WorkersView([_view(WorkerView, one) for one in found["workers"]], str(found["flower_url"]))

    def clock(self) -> float | None:
        """Seconds since 1970 UTC by the server's clock, in whole seconds; None: it does not say."""
        with self._send("GET", "status") as answer:
            date = answer.headers.get("Date", "")
        try:
            return parsedate_to_datetime(date).timestamp()
        except ValueError:
            return None

    def status(self) -> dict[str, Any]:
        """Version, uptime and number of jobs by state."""
        found: dict[str, Any] = self._ask("GET", "status")
        return found

    def remove_results(self, word: str, names: Sequence[str] | None = None) -> list[ResultView]:
        """Remove what the job left (all of it, or these), whatever was promised; those that were there."""
        path = f"jobs/{_part(word)}/results"
        paths = [path] if names is None else [f"{path}/{quote(name)}" for name in names]
        answers = [self._ask("DELETE", one) for one in paths]
        return [_view(ResultView, result) for answer in answers for result in answer["results"]]

    @contextmanager
    def result(self, word: str, name: str) -> Iterator[Iterator[bytes]]:
        """The bytes of a result, a block at a time, gone on with when they break off; the caller checks their digest."""
        with closing(self._resumed(f"jobs/{_part(word)}/results/{quote(name)}")) as blocks:
            yield blocks

    @contextmanager
    def log(self, word: str, stream: str, *, offset: int = 0) -> Iterator[Iterator[bytes]]:
        """What the job has printed so far, from byte `offset`, a block at a time."""
        with self._stream(f"jobs/{_part(word)}/logs/{stream}?offset={offset}") as blocks:
            yield blocks

    # -- parts ----------------------------------------------------------------------------------

    @contextmanager
    def _stream(self, path: str, first: int = 0) -> Iterator[Iterator[bytes]]:
        headers = {"Range": f"bytes={first}-"} if first else None
        with self._send("GET", path, stream=True, headers=headers) as answer:
            yield self._blocks(answer)

    def _resumed(self, path: str) -> Generator[bytes, None, None]:
        """The bytes of what never changes; one break without a byte since the last one is an error."""
        received, failed_at = 0, -1
        while True:
            try:
                with self._stream(path, received) as blocks:
                    for block in blocks:
                        received += len(block)
                        yield block
            except ServerUnreachableError:
                if failed_at == received:
                    raise
                failed_at = received
            else:
                return

    def _tell(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, json: Any = None
    ) -> Generator[dict[str, Any], None, dict[str, Any]]:
        """A long operation: yields how far it is, returns what it came to."""
        with self._send(method, path, params=params, json=json, stream=True) as answer:
            try:
                for text in answer.iter_lines():
                    line = loads(text)
                    if "error" in line:
                        raise error_from_dict(line["error"])
                    if "result" in line:
                        return dict(line["result"])
                    yield dict(line["progress"])
            except (requests.RequestException, ValueError) as error:
                reason = _reason(error) if isinstance(error, requests.RequestException) else str(error)
                raise _broke_off(self.url, reason) from None
        raise _broke_off(self.url, "it ended without a result")

    def _blocks(self, answer: requests.Response) -> Iterator[bytes]:
        try:
            yield from answer.iter_content(BLOCK_BYTES)
        except requests.RequestException as error:
            raise _broke_off(self.url, _reason(error)) from None

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        patience: float = ANSWER_SECONDS,
        data: Any = None,
        kind: type = dict,
    ) -> Any:
        with self._send(method, path, params=params, json=json, patience=patience, data=data) as answer:
            try:
                found = answer.json()
            except requests.RequestException:
                found = None
        if not isinstance(found, kind):
            raise _foreign(self.url, answer)
        return found

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        patience: float = ANSWER_SECONDS,
        stream: bool = False,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
    ) -> requests.Response:
        try:
            answer = self._session.request(
                method,
                f"{self.url}/v1/{path}",
                params=params,
                json=json,
                data=data,
                headers=headers,
                stream=stream,
                timeout=(CONNECT_SECONDS, patience),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise ServerUnreachableError(
                f"no server answers at {self.url}",
                cause=_reason(error),
                remedy="start it with `stager serve`",
            ) from None
        if answer.ok and not answer.is_redirect:
            return answer
        with answer:
            raise _problem(self.url, answer)


def _broke_off(url: str, cause: str) -> StagerError:
    return ServerUnreachableError(f"the server at {url} broke off", cause=cause, remedy="try again")


def _problem(url: str, answer: requests.Response) -> StagerError:
    if answer.headers.get("Content-Type", "").startswith("application/problem+json"):
        try:
            found = answer.json()
        except requests.RequestException:
            found = None
        if isinstance(found, dict):
            error = error_from_dict(found)
            if isinstance(error, AccessDeniedError):  # the server tells what to send, not where to get it
                error.remedy = (
                    "set STAGER_TOKEN, or token_file to a copy of the server's, or run as the server's user"
                )
            return error
    return _foreign(url, answer)


def _foreign(url: str, answer: requests.Response) -> StagerError:
    return RemoteError(
        f"what answers at {url} is not a Stager server",
        cause=f"status {answer.status_code} without a meaning here",
        remedy="check the setting `server`",
    )


def _reason(error: requests.RequestException) -> str:
    """The innermost cause: the outer ones only repeat the URL."""
    inner: BaseException = error
    seen = {id(inner)}
    while True:
        reason = getattr(inner, "reason", None)
        candidates = [reason, *inner.args, inner.__cause__, inner.__context__]
        deeper = next((c for c in candidates if isinstance(c, BaseException) and id(c) not in seen), None)
        if deeper is None:
            return (inner.strerror or str(inner)) if isinstance(inner, OSError) else str(inner)
        inner = deeper
        seen.add(id(inner))


def _part(word: str) -> str:
    return quote(word, safe="")


def _view(kind: type[_View], data: Mapping[str, Any]) -> _View:
    """A view from its JSON; what a newer server says besides is left out."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]  # all views are dataclasses
    values = {name: value for name, value in data.items() if name in known}
    if "state" in values:
        states: type[JobState | FetchState] = FetchState if kind is InputView else JobState
        values["state"] = states(values["state"])
    return kind(**values)


def _detail(data: Mapping[str, Any]) -> JobDetail:
    parts = {
        "inputs": [_view(InputView, item) for item in data["inputs"]],
        "after": [_view(PreconditionView, item) for item in data["after"]],
        "results": [_view(ResultView, item) for item in data["results"]],
    }
    return _view(JobDetail, {**data, **parts})
