"""From Python, as on the command line, the site's settings hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from stager import FetchService, FileCache
from stager.errors import UnprovenLengthError
from stager.settings import current_settings
from tests.support.origin import Origin, until_close

PATIENCE = 20.0


@pytest.mark.parametrize("policy", ["refuse", "accept"])
def test_a_fetch_service_of_its_own_obeys_the_settings(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGER_UNPROVEN", policy)
    current_settings.cache_clear()
    try:
        with Origin() as origin, FetchService(FileCache(tmp_path / "cache")) as service:
            handle = service.prefetch(origin.serve("/a", until_close(b"no length, no digest")))
            if policy == "refuse":
                with pytest.raises(UnprovenLengthError):
                    handle.result(PATIENCE)
            else:
                assert handle.result(PATIENCE).unproven
    finally:
        current_settings.cache_clear()
