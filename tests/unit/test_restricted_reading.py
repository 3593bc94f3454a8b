"""Who gets the bytes of a restricted object over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from stager.cache.store import FileCache
from stager.cache.walk import TreeReader
from stager.clock import SystemClock
from stager.errors import ForbiddenError, NotFoundError
from stager.model.principals import SERVER_TOKEN, Principal, Role
from stager.model.roles import rule_of
from stager.service.cache_catalogue import CatalogueService
from stager.service.cache_content import ContentService
from stager.service.cache_reach import CacheReach
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


def only(who: Principal) -> str | None:
    return rule_of("GET /v1/objects/{sha256}").permit(who).only


def test_a_restricted_object_is_for_administrators_and_those_who_proved_it(content: ContentService) -> None:
    sha256 = content.cache.put(KEY, DATA, restricted=True).object

    def grants(user: str, key: str = KEY) -> GrantService:
        return cast("GrantService", Granted(user, key, sha256))

    for who, held in ((SERVER_TOKEN, None), (Principal("root", Role.ADMIN), None), (ADA, grants("ada"))):
        reach = CacheReach(content.cache, held)
        for opened in (
            reach.open(content, KEY, only(who)),
            reach.open_object(content, sha256, only(who)),
        ):
            with opened[1] as file:
                assert (opened[0].sha256, file.read()) == (sha256, DATA)
    for who in (ADA, Principal("op", Role.OPERATOR), Principal("looks", Role.READER)):
        for held in (None, grants("bob")):
            reach = CacheReach(content.cache, held)
            with pytest.raises(NotFoundError):
                reach.open(content, KEY, only(who))
            with pytest.raises(NotFoundError):
                reach.open_object(content, sha256, only(who))
    with pytest.raises(NotFoundError):
        CacheReach(content.cache, grants("ada", "https://h.test/other")).open(content, KEY, "ada")


def test_what_a_job_left_is_found_by_its_key_by_its_owner_alone(content: ContentService) -> None:
    content.cache.put("result:job1/fit.json", DATA, owner="ada")
    reach = CacheReach(content.cache, None)
    with reach.open(content, "result:job1/fit.json", "ada")[1] as file:
        assert file.read() == DATA
    with pytest.raises(NotFoundError):
        reach.open(content, "result:job1/fit.json", "bob")


def test_what_is_public_too_is_for_all(content: ContentService) -> None:
    content.cache.put(KEY, DATA, restricted=True)
    sha256 = content.cache.put("https://h.test/public", DATA).object
    reach = CacheReach(content.cache, None)
    with reach.open_object(content, sha256, "ada")[1] as file:
        assert file.read() == DATA
    with pytest.raises(NotFoundError):
        reach.open(content, KEY, "ada")


def test_what_a_job_left_is_not_found_by_its_digest_either(content: ContentService) -> None:
    entry = content.cache.put("result:job1/fit.json", DATA, owner="ada")
    content.stored(entry)
    reach = CacheReach(content.cache, None)
    for who in (ADA, SERVER_TOKEN):
        with reach.open_object(content, entry.object, only(who))[1] as file:
            assert file.read() == DATA
    for who in (Principal("bob", Role.USER), Principal("op", Role.OPERATOR), Principal("looks", Role.READER)):
        with pytest.raises(NotFoundError):
            reach.open_object(content, entry.object, only(who))
    content.stored(content.cache.put("https://h.test/same", DATA))
    with reach.open_object(content, entry.object, "bob")[1] as file:
        assert file.read() == DATA


@pytest.mark.parametrize("word", ["file:/data/run.nxs", "FILE:/data/run.nxs", "https://h.test/run.nxs"])
def test_a_user_puts_nothing_under_a_url_however_it_is_written(content: ContentService, word: str) -> None:
    reach = CacheReach(content.cache, None)
    with pytest.raises(ForbiddenError, match="may not put anything under that key"):
        reach.check_put(word, "bob")
    reach.check_put(word, None)
    reach.check_put("calibration of today", "bob")


def test_who_is_not_shown_a_file_may_not_keep_it_either_by_key_or_digest(content: ContentService) -> None:
    left = content.cache.put("result:job1/fit.json", DATA, owner="ada")
    public = content.cache.put("https://h.test/public", b"public")
    for entry in (left, public):
        content.stored(entry)
    files = CatalogueService(
        content.cache, content.catalogue, TreeReader(content.cache.root, content.cache.tree.id), SystemClock()
    )
    reach = CacheReach(content.cache, None)
    for word in (left.key, left.object):
        reach.check_pin(files, word, "ada")
        reach.check_pin(files, word, None)
        with pytest.raises(NotFoundError):
            reach.check_pin(files, word, "bob")
    for word in (public.key, public.object):
        reach.check_pin(files, word, "bob")
