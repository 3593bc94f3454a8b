"""What holds of every place where sealed credentials are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stager.credentials.base import CredentialStore
from stager.credentials.files import FileStore
from stager.model.credential_scope import Scope
from stager.model.credentials import CredentialRow, Kind, Notes, SealedSession
from stager.service.credential_spread import CredentialSpread
from stager.signals.connection import RedisAddress
from stager.signals.vault import RedisStore
from tests.support.valkey import Valkey

ROW = CredentialRow(
    "one", Scope("data.example.org", "/d", "ann"), Kind.BASIC, {"user": "ada"}, 1, 5.0, 9.5, "box", "k"
)
OTHER = replace(ROW, id="two", scope=Scope("*.example.org"), expires_at=None)
SESSION = SealedSession(1, "sealed", "k", 7.5)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def shared(valkey: Valkey) -> Iterator[RedisStore]:
    with valkey.client() as client:
        client.flushall()
    given = valkey.environment()
    store = RedisStore(
        RedisAddress(given["STAGER_REDIS_URL"], password_file=given.get("STAGER_REDIS_PASSWORD_FILE", ""))
    )
    yield store
    store.close()


@pytest.fixture(params=["files", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> CredentialStore:
    if request.param == "files":
        return FileStore(tmp_path / "credentials")
    found: RedisStore = request.getfixturevalue("shared")
    return found


def test_rows_are_kept_replaced_and_removed(store: CredentialStore) -> None:
    assert store.rows() == []
    store.put(ROW)
    store.put(OTHER)
    store.put(replace(ROW, sealed="another"))
    assert sorted(store.rows(), key=lambda row: row.id) == [replace(ROW, sealed="another"), OTHER]
    assert store.remove("one")
    assert not store.remove("one")
    assert store.rows() == [OTHER]


def test_every_change_gives_another_stamp(store: CredentialStore) -> None:
    seen = {store.stamp()}
    for change in (ROW, OTHER, replace(ROW, serial=2)):
        store.put(change)
        seen.add(store.stamp())
    store.remove("two")
    seen.add(store.stamp())
    assert len(seen) == 5


def test_a_session_goes_with_the_secret_that_it_was_obtained_with(store: CredentialStore) -> None:
    store.put(ROW)
    assert store.session("one") is None
    store.put_session("one", SESSION)
    store.put(replace(ROW, sealed="sealed anew"))
    assert store.session("one") == SESSION
    store.put(replace(ROW, serial=2))
    assert store.session("one") is None


def test_notes_are_of_a_credential_that_there_is(store: CredentialStore) -> None:
    store.put_notes("one", Notes(1, 5.0))
    assert store.notes("one") == Notes()
    store.put(ROW)
    store.put_notes("one", Notes(1, 5.0, refused_at=6.0))
    assert store.notes("one").is_refused


def test_one_at_a_time_has_a_lease(store: CredentialStore) -> None:
    store.put(ROW)
    assert store.lease("one", 60)
    assert not store.lease("one", 60)
    assert store.lease("two", 60)
    store.release("one")
    assert store.lease("one", 60)


def test_workers_get_what_the_server_has_and_what_they_obtain_comes_back(
    shared: RedisStore, tmp_path: Path
) -> None:
    kept = FileStore(tmp_path / "credentials")
    spread = CredentialSpread(kept, shared)
    kept.put(ROW)
    kept.put(OTHER)
    spread()
    assert sorted(shared.rows(), key=lambda row: row.id) == [ROW, OTHER]
    stamp = shared.stamp()
    shared.put_session("one", SESSION)
    shared.put_notes("one", Notes(1, 5.0, accepted_at=5.0))
    spread()
    assert kept.session("one") == SESSION, "a replaced refresh token is nowhere else"
    assert kept.notes("one").accepted_at == 5.0
    assert shared.stamp() == stamp, "nothing changed for the workers"
    kept.put(replace(ROW, serial=2))
    kept.remove("two")
    spread()
    assert [row.serial for row in shared.rows()] == [2]
    assert shared.session("one") is None
    spread()
    assert kept.session("one") is None, "nor does the old one come back"


def test_a_redis_that_came_back_empty_is_filled_again(
    valkey: Valkey, shared: RedisStore, tmp_path: Path
) -> None:
    kept = FileStore(tmp_path / "credentials")
    spread = CredentialSpread(kept, shared)
    kept.put(ROW)
    kept.put_session("one", SESSION)
    spread()
    with valkey.client() as client:
        client.flushall()
    spread()
    assert (shared.rows(), shared.session("one")) == ([ROW], SESSION)
