"""What nodes bring back: two calls of one part at once, and runs that are superseded while they bring it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stager.cache.store import FileCache
from stager.errors import ConflictError, StagerError, UnderWayError
from stager.mapper.dispatch.results import result_key
from stager.model.records import JobRecord
from stager.model.uploads import Upload, Uploaded
from stager.service import uploads
from stager.service.uploads import UploadService

DATA = b"what the run left"
NAMES = ["results/a", "stdout"]


def upload(name: str, data: bytes = DATA) -> Upload:
    return Upload("j", 1, name, sha256(data).hexdigest(), len(data))


class Rig:
    """A service whose store knows one job; `at_digest` is called before a part gets its digest."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.record = JobRecord("j", (), (), epoch=1, handed=True)
        self.cache = FileCache(root / "cache")
        self.cache.job_dir("j")
        store: Any = SimpleNamespace(job=lambda _: SimpleNamespace(record=self.record))
        self.service = UploadService(self.cache, store)
        self.at_digest: Callable[[Path], None] = lambda _: None
        digest = uploads._digest

        def watched(path: Path) -> str:
            if path.suffix == ".part":
                self.at_digest(path)
            return digest(path)

        monkeypatch.setattr(uploads, "_digest", watched)

    def bytes(self, name: str) -> bytes | None:
        """What is there by that name."""
        if name.startswith("results/"):
            path = self.cache.get(result_key("j", name.removeprefix("results/")))
        else:
            path = self.cache.job_dir("j") / name
        return path.read_bytes() if path is not None and path.exists() else None


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


@pytest.mark.parametrize("name", NAMES)
def test_a_node_that_asks_again_while_its_last_part_is_taken_hears_that_it_is_there(
    rig: Rig, name: str
) -> None:
    file = upload(name)
    going, go, asked = threading.Event(), threading.Event(), threading.Event()
    heard: list[Uploaded | StagerError] = []

    def at_digest(_: Path) -> None:
        if not going.is_set():
            going.set()
            assert go.wait(60)

    def call(offset: int, blocks: list[bytes]) -> None:
        try:
            heard.append(rig.service.append(file, offset, blocks))
        except StagerError as error:
            heard.append(error)

    rig.at_digest = at_digest
    first = threading.Thread(target=call, args=(0, [DATA]))
    first.start()
    assert going.wait(60)
    assert rig.service.look(file) == Uploaded(len(DATA), complete=False)
    running = rig.service._running

    def told(job: str, epoch: int) -> JobRecord:
        asked.set()
        return running(job, epoch)

    rig.service._running = told  # type: ignore[method-assign]
    second = threading.Thread(target=call, args=(len(DATA), []))
    second.start()
    assert asked.wait(60)
    second.join(0.2)  # unless it waits, it takes the part from under the first one now
    go.set()
    first.join(60)
    second.join(60)
    assert heard == [Uploaded(len(DATA), complete=True)] * 2
    assert rig.bytes(name) == DATA
    assert not list((rig.cache.job_dir("j") / "results").iterdir()), "no part is left"


@pytest.mark.parametrize("name", NAMES)
def test_a_part_that_another_server_took_away_is_looked_for_again(rig: Rig, name: str) -> None:
    rig.at_digest = lambda part: part.unlink()
    with pytest.raises(ConflictError, match="goes on at byte 0") as met:
        rig.service.append(upload(name), 0, [DATA])
    assert met.value.details["offset"] == 0
    rig.at_digest = lambda _: None
    assert rig.service.append(upload(name), 0, [DATA]) == Uploaded(len(DATA), complete=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_is_superseded_while_it_brings_its_last_part_replaces_nothing(rig: Rig, name: str) -> None:
    def superseded(_: Path) -> None:
        rig.record = JobRecord("j", (), (), epoch=2, handed=True)

    rig.at_digest = superseded
    with pytest.raises(ConflictError, match="not the one that counts"):
        rig.service.append(upload(name), 0, [DATA])
    assert rig.bytes(name) is None


def test_a_node_is_asked_to_come_again_when_its_last_part_is_long_being_taken(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "WAIT_SECONDS", 0.01)
    met: list[type[Exception]] = []

    def at_digest(_: Path) -> None:
        with pytest.raises(UnderWayError) as error:
            rig.service.append(upload("stdout"), len(DATA), [])
        met.append(error.type)

    rig.at_digest = at_digest
    assert rig.service.append(upload("stdout"), 0, [DATA]).complete
    assert met == [UnderWayError]
