"""Who gets the bytes of a restricted object over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from stager.cache.store import FileCache
from stager.clock import SystemClock
from stager.errors import NotFoundError
from stager.model.principals import SERVER_TOKEN, Principal, Role
from stager.server.reading import readable
from stager.service.cache_content import ContentService
from stager.service.grants import GrantService
from stager.state.catalogue import Catalogue

ADA = Principal("ada", Role.USER)
KEY, DATA = "https://h.test/secret", b"restricted"


@dataclass
class Granted:
    """Grants of one user for one key."""

    user: str
    key: str
    object: str

    def allows(self, user: str, sha256: str, key: str | None = None) -> bool:
        return (user, sha256) == (self.user, self.object) and key in {None, self.key}


@pytest.fixture
def content(tmp_path: Path) -> ContentService:
    cache = FileCache(tmp_path / "cache")
    catalogue = Catalogue(f"sqlite:///{tmp_path / 'catalogue.db'}", cache.root)
    return ContentService(cache, catalogue, SystemClock())


def test_a_restricted_object_is_for_operators_and_those_who_proved_it(content: ContentService) -> None:
    sha256 = content.cache.put(KEY, DATA, restricted=True).object

    def grants(user: str, key: str = KEY) -> GrantService:
        return cast("GrantService", Granted(user, key, sha256))

    for who, held in ((SERVER_TOKEN, None), (Principal("op", Role.OPERATOR), None), (ADA, grants("ada"))):
        for opened in (
            content.open(KEY, readable(who, held)),
            content.open_object(sha256, readable(who, held)),
        ):
            with opened[1] as file:
                assert (opened[0].sha256, file.read()) == (sha256, DATA)
    for held in (None, grants("bob")):
        with pytest.raises(NotFoundError):
            content.open(KEY, readable(ADA, held))
        with pytest.raises(NotFoundError):
            content.open_object(sha256, readable(ADA, held))
    with pytest.raises(NotFoundError):
        content.open(KEY, readable(ADA, grants("ada", "https://h.test/other")))


def test_what_is_public_too_is_for_all(content: ContentService) -> None:
    content.cache.put(KEY, DATA, restricted=True)
    sha256 = content.cache.put("https://h.test/public", DATA).object
    with content.open_object(sha256, readable(ADA, None))[1] as file:
        assert file.read() == DATA
    with pytest.raises(NotFoundError):
        content.open(KEY, readable(ADA, None))
