"""Whether the server can do its work, for what sends requests to it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from stager.errors import NotReadyError, StateError
from stager.service import readiness
from stager.service.readiness import Readiness
from tests.support.farm import until
from tests.support.processes import PATIENCE, ServerProcess


def ready(server: ServerProcess) -> tuple[int, dict[str, Any]]:
    """Status and body; without a token."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(server.url + "/readyz", timeout=PATIENCE)
    return answer.status_code, answer.json()


def test_a_server_is_ready_and_says_which_parts_it_asked(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        assert ready(server) == (
            200,
            {"status": "ok", "parts": {"mapper": "ok", "state": "ok", "cache": "ok"}},
        )


def test_one_whose_cache_has_gone_is_not_and_says_so_and_is_again_when_it_is_back(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        (tmp_path / "cache").rename(tmp_path / "elsewhere")
        until(lambda: ready(server)[0] == 503, "it has noticed")
        problem = ready(server)[1]
        assert problem["code"] == "not-ready"
        assert problem["transient"] is True
        assert problem["cause"] == "cache: gone"
        assert problem["details"]["parts"] == {"mapper": "ok", "state": "ok", "cache": "gone"}
        assert str(tmp_path) not in str(problem), "whoever asks without a token learns no path"
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        (tmp_path / "elsewhere").rename(tmp_path / "cache")
        until(lambda: ready(server)[0] == 200, "it is there again")


def fails() -> str:
    raise StateError("state can't be read")


def breaks() -> str:
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("look", "said"), [(fails, "state-unusable"), (breaks, "OSError"), (lambda: "gone", "gone")]
)
def test_a_part_that_fails_is_named_and_the_others_are_asked_all_the_same(
    look: Callable[[], str], said: str
) -> None:
    with pytest.raises(NotReadyError) as refused:
        Readiness({"state": look, "cache": lambda: ""}).check()
    assert refused.value.details["parts"] == {"state": said, "cache": "ok"}


def test_a_part_that_never_answers_holds_up_nobody_and_is_asked_by_one_thread_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 0.05)
    release = threading.Event()
    asked: list[int] = []

    def hangs() -> str:
        asked.append(os.getpid())
        release.wait(PATIENCE)
        return ""

    parts = Readiness({"cache": hangs})
    for _ in range(3):
        assert parts.parts() == {"cache": readiness.SILENT}
        assert not parts.answers("cache")
    assert len(asked) == 1
    release.set()
    until(lambda: parts.parts() == {"cache": ""}, "it answers again")
