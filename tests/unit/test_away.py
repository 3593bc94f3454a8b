"""A node that does not see the server's cache: what it takes as the server's word, and what it asks again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from stager.cache.store import FileCache
from stager.client.answers import foreign
from stager.errors import (
    AccessDeniedError,
    CacheGoneError,
    ConflictError,
    DigestMismatchError,
    InputError,
    NotFoundError,
    RemoteError,
    ResultGoneError,
    ServerUnreachableError,
    StagerError,
    StateError,
)
from stager.mapper.dispatch.away import ServerClaim
from stager.mapper.dispatch.claims import NOBODY
from stager.model.events import DispatchOrder, JobEnded, JobResult
from stager.model.uploads import Upload, Uploaded
from stager.wiring import away
from stager.wiring.away import Server

PASSING = [
    foreign("http://s.test", 502),
    RemoteError("internal fault", status=500),
    StateError("the database can't be used"),
    AccessDeniedError("the token is not accepted"),
    ServerUnreachableError("no server answers"),
]
FINAL = [
    NotFoundError("no job 'j'"),
    ConflictError("run 1 of job j is not the one that counts"),
    InputError("no run leaves that"),
]


class Calls:
    """What `client.runs` is; errors are raised once each, first."""

    def __init__(self, *errors: StagerError) -> None:
        self.errors = list(errors)
        self.parts: dict[Upload, bytes] = {}
        self.taken: dict[str, bytes] = {}

    def look(self, upload: Upload) -> Uploaded:
        if self.errors:
            raise self.errors.pop(0)
        return Uploaded(len(self.parts.get(upload, b"")), complete=False)

    def append(self, upload: Upload, offset: int, blocks: Iterable[bytes]) -> Uploaded:
        data = self.parts.pop(upload, b"")
        assert len(data) == offset
        data += b"".join(blocks)
        if len(data) > upload.size:
            raise InputError(f"{upload.name} is longer than {upload.size} bytes")
        if len(data) < upload.size:
            self.parts[upload] = data
            return Uploaded(len(data), complete=False)
        if sha256(data).hexdigest() != upload.sha256:
            raise DigestMismatchError(f"{upload.name} was not taken")
        self.taken[upload.name] = data
        return Uploaded(upload.size, complete=True)


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "near")


@pytest.fixture
def server(cache: FileCache, monkeypatch: pytest.MonkeyPatch) -> Callable[[Calls], Server]:
    monkeypatch.setattr(away, "PAUSE_SECONDS", 0.0)

    def made(calls: Calls) -> Server:
        monkeypatch.setattr(away, "Client", lambda *_: nullcontext(SimpleNamespace(runs=calls)))
        return Server("http://s.test", "t", cache)

    return made


def left(cache: FileCache, data: bytes = b"result") -> JobEnded:
    """What a job left there as its only result."""
    cache.put("result:j/a", data)
    return JobEnded("j", 1, 0, None, (JobResult("a", sha256(data).hexdigest(), len(data)),))


ORDER = DispatchOrder("j", 1, "name", ("true",), (), (), ("a",))


def never() -> bool:
    return False


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_a_claim_is_asked_for_again_while_the_server_is_not_well(error: StagerError) -> None:
    def claim(*_: object) -> str:
        raise error

    with pytest.raises(OSError, match=str(error.what)):
        ServerClaim(SimpleNamespace(claim=claim), "j", 1).take("node1")


@pytest.mark.parametrize("error", FINAL, ids=lambda error: type(error).__name__)
def test_a_run_that_the_server_does_not_want_is_nobodys(error: StagerError) -> None:
    def claim(*_: object) -> str:
        raise error

    assert ServerClaim(SimpleNamespace(claim=claim), "j", 1).take("node1") == NOBODY


def test_results_are_brought_back_again_until_the_server_is_well(
    server: Callable[[Calls], Server], cache: FileCache
) -> None:
    calls = Calls(*PASSING, ConflictError("a goes on at byte 0", offset=0))
    assert server(calls).deliver(ORDER, left(cache), never)
    assert calls.taken == {"results/a": b"result"}


@pytest.mark.parametrize("error", FINAL, ids=lambda error: type(error).__name__)
def test_results_that_the_server_does_not_want_are_not_brought_again(
    server: Callable[[Calls], Server], cache: FileCache, error: StagerError
) -> None:
    with pytest.raises(type(error)):
        server(Calls(error)).deliver(ORDER, left(cache), never)


def printed(cache: FileCache, data: bytes) -> Path:
    path = cache.job_dir("j") / "stdout"
    path.write_bytes(data)
    return path


class Printing(Calls):
    """While they look for the first time, what the job left running prints."""

    def __init__(self, path: Path, data: bytes) -> None:
        super().__init__()
        self.path = path
        self.data: bytes | None = data

    def look(self, upload: Upload) -> Uploaded:
        if self.data is not None:
            self.path.write_bytes(self.data)
            self.data = None
        return super().look(upload)


@pytest.mark.parametrize(
    ("later", "brought"),
    [(b"before and after", b"before"), (b"anew!!", b"anew!!"), (b"be", b"be"), (b"", b"")],
    ids=["longer", "other", "shorter", "empty"],
)
def test_what_a_job_printed_may_change_while_it_is_brought_back(
    server: Callable[[Calls], Server], cache: FileCache, later: bytes, brought: bytes
) -> None:
    calls = Printing(printed(cache, b"before"), later)
    patience = [True] * 10
    assert server(calls).deliver(ORDER, JobEnded("j", 1, 0), lambda: not (patience and patience.pop()))
    assert calls.taken == {"stdout": brought}


def test_results_are_brought_back_before_what_the_job_printed(
    server: Callable[[Calls], Server], cache: FileCache
) -> None:
    printed(cache, b"hello")
    calls = Calls()
    assert server(calls).deliver(ORDER, left(cache), never)
    assert list(calls.taken) == ["results/a", "stdout"]


def test_a_result_that_was_damaged_on_the_node_is_an_error(
    server: Callable[[Calls], Server], cache: FileCache
) -> None:
    end = left(cache)
    path = cache.object_path(end.results[0].sha256)
    path.chmod(0o600)
    for damaged in (b"resu", b"tluser"):
        path.write_bytes(damaged)
        patience = [True] * 10
        with pytest.raises(ResultGoneError, match="changed on the node"):
            server(Calls()).deliver(ORDER, end, lambda: not (patience and patience.pop()))  # noqa: B023 - called at once


def test_a_result_that_is_gone_from_the_node_is_an_error(
    server: Callable[[Calls], Server], cache: FileCache
) -> None:
    end = left(cache)
    cache.object_path(end.results[0].sha256).unlink()
    with pytest.raises(ResultGoneError, match="gone from the node"):
        server(Calls()).deliver(ORDER, end, never)


def test_a_result_is_not_given_up_while_the_cache_of_the_node_is_not_mounted(
    server: Callable[[Calls], Server], cache: FileCache
) -> None:
    end = left(cache)
    cache.root.rename(cache.root.with_name("elsewhere"))
    with pytest.raises(CacheGoneError):
        server(Calls()).deliver(ORDER, end, never)
