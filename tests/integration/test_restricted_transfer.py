"""What comes for a credential is kept apart, and nobody gets it who has not proved that he may; on both drivers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from random import Random
from stat import S_IMODE
from typing import Any

import pytest

from stager.cache.store import FileCache
from stager.errors import (
    CredentialRefusedError,
    CredentialRequiredError,
    IncompleteError,
    OriginRefusedError,
    StagerError,
)
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult
from tests.support.drivers import DRIVERS, AnyFetcher, Driver
from tests.support.origin import Answer, Exchange, Origin, content, status
from tests.support.vault import Vault, basic, guarded, place

DATA = Random(5).randbytes(30_000)
LARGE = Random(6).randbytes(3_000_000)
DIGEST = sha256(DATA).hexdigest()
Fetch = Callable[..., FetchResult]
_numbers = itertools.count(1)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def vault(tmp_path: Path, origin: Origin) -> Vault:
    """Ann and Bob have credentials that the origin takes, Eve has one that it does not, Guest has none."""
    vault = Vault(tmp_path / "credentials")
    for user in ("ann", "bob", "eve"):
        vault.give(place(origin.base), owner=user, user=user, password="canary-password")
    return vault


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


@pytest.fixture(params=DRIVERS)
def fetch(request: pytest.FixtureRequest, cache: FileCache, vault: Vault) -> Iterator[Fetch]:
    driver: Driver = DRIVERS[request.param]
    fetcher: AnyFetcher = driver(cache, wallet=vault.wallet())

    def fetch(
        url: str, owner: str, *, digest: str | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> FetchResult:
        order = FetchOrder(f"f{next(_numbers)}", 1, FetchRequest(url, sha256=digest, owner=owner))
        return fetcher.fetch(order, cancelled=cancelled)

    yield fetch
    fetcher.close()


def admits(headers: Mapping[str, str]) -> bool:
    return headers.get("authorization") in {basic("ann"), basic("bob")}


def closed(data: bytes = DATA, etag: str | None = '"1"') -> Answer:
    """Content for Ann and Bob, which stays fresh for long."""
    validator: dict[str, Any] = {"etag": etag} if etag else {}
    return guarded(data, admits, **validator, headers={"Cache-Control": "max-age=9999"})


def public_files(cache: FileCache) -> list[Path]:
    return [path for path in (cache.root / "objects").rglob("*") if path.is_file()]


def modes_above(cache: FileCache, path: Path) -> set[int]:
    """Modes of the directories between the file and the root of the cache."""
    above = path.relative_to(cache.root).parents
    return {S_IMODE((cache.root / part).stat().st_mode) for part in above if part != Path()}


@pytest.mark.parametrize("data", [DATA, LARGE], ids=["small", "large"])
def test_what_came_for_a_credential_is_readable_for_the_service_alone(
    data: bytes, origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    url = origin.serve("/a", closed(data))
    found = fetch(url, "ann")
    assert found.restricted
    assert found.path.read_bytes() == data
    assert found.path.is_relative_to(cache.root / "restricted")
    assert S_IMODE(found.path.stat().st_mode) == 0o400
    assert modes_above(cache, found.path) == {0o700}
    assert not public_files(cache)
    entry = cache.lookup(url)
    assert entry is not None
    assert entry.restricted
    (written,) = (cache.root / "entries").rglob("*.json")
    assert S_IMODE(written.stat().st_mode) == 0o600
    assert not [link for link in (cache.root / "entries").rglob("*") if link.is_symlink()]


def test_what_came_without_a_credential_is_as_it_was(origin: Origin, fetch: Fetch, cache: FileCache) -> None:
    url = origin.serve("/a", content(DATA))
    found = fetch(url, "guest")
    assert not found.restricted
    assert found.path.is_relative_to(cache.root / "objects")
    assert S_IMODE(found.path.stat().st_mode) == 0o444


@pytest.mark.parametrize("digest", [None, DIGEST], ids=["by path", "by digest"])
def test_each_user_proves_it_to_the_origin_and_nothing_is_sent_twice(
    digest: str | None, origin: Origin, fetch: Fetch
) -> None:
    url = origin.serve("/a", closed())
    fetch(url, "ann")
    found = fetch(url, "bob", digest=digest)
    assert (found.restricted, found.cached, found.received) == (True, True, 0)
    assert found.path.read_bytes() == DATA
    first, proof = origin.seen("/a")
    assert first.headers["authorization"] == basic("ann")
    assert (proof.headers["authorization"], proof.headers["if-none-match"]) == (basic("bob"), '"1"')


@pytest.mark.parametrize("digest", [None, DIGEST], ids=["by path", "by digest"])
@pytest.mark.parametrize(
    ("user", "error"), [("guest", CredentialRequiredError), ("eve", CredentialRefusedError)]
)
def test_who_can_not_prove_it_gets_what_he_would_get_of_an_empty_cache(
    user: str, error: type[StagerError], digest: str | None, origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    url = origin.serve("/a", closed())
    fetch(url, "ann")
    with pytest.raises(error) as known:
        fetch(url, user, digest=digest)
    with pytest.raises(error) as unknown:
        fetch(origin.serve("/b", closed()), user, digest=digest)
    assert str(known.value).replace("/a", "/b") == str(unknown.value)
    assert known.value.details["status"] == unknown.value.details["status"]
    entry = cache.lookup(url)
    assert entry is not None
    assert entry.restricted, "the refusal took nothing from Ann"


def test_the_origin_is_asked_as_often_whether_somebody_else_has_it_or_not(
    origin: Origin, fetch: Fetch
) -> None:
    held, not_held = origin.serve("/held", closed()), origin.serve("/not-held", closed())
    fetch(held, "ann")
    for url in (held, not_held):
        with pytest.raises(CredentialRequiredError):
            fetch(url, "guest")
    assert len(origin.seen("/held")) - 1 == len(origin.seen("/not-held")) == 1


def test_a_url_of_ones_own_with_the_digest_of_a_restricted_object_brings_nothing(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    fetch(origin.serve("/a", closed()), "ann")
    with Origin(host="127.0.0.2") as eves:
        with pytest.raises(OriginRefusedError):
            fetch(eves.serve("/x", status(404)), "eve", digest=DIGEST)
        assert len(eves.seen()) == 1
    assert not cache.has_object(DIGEST)
    assert not public_files(cache)


def test_the_host_in_capitals_is_the_same_key_and_the_path_in_capitals_another_one(
    origin: Origin, fetch: Fetch
) -> None:
    url = origin.serve("/a", closed()).replace("127.0.0.1", "localhost")
    origin.serve("/A", status(404))
    fetch(url.replace("localhost", "127.0.0.1"), "ann")
    with pytest.raises(CredentialRequiredError):
        fetch(url.replace("localhost", "127.0.0.1").replace("http:", "HTTP:"), "guest")
    with pytest.raises(OriginRefusedError):
        fetch(url.replace("localhost", "127.0.0.1").replace("/a", "/A"), "bob")


def test_the_same_bytes_are_a_public_and_a_restricted_object_that_share_nothing(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    hidden = fetch(origin.serve("/a", closed()), "ann").path
    with Origin(host="127.0.0.2") as everybodys:
        shown = fetch(everybodys.serve("/a", content(DATA)), "guest").path
    assert hidden.name == shown.name
    assert hidden.stat().st_ino != shown.stat().st_ino
    assert (hidden.stat().st_nlink, shown.stat().st_nlink) == (1, 1)
    assert cache.remove(str(origin.base + "/a"))
    assert shown.exists()
    assert not hidden.exists()


def test_a_public_copy_is_not_confirmed_under_a_credential_but_fetched_and_kept_apart(
    origin: Origin, fetch: Fetch
) -> None:
    url = origin.serve("/a", content(DATA, etag='"1"', headers={"Cache-Control": "max-age=0"}))
    assert not fetch(url, "guest").restricted
    found = fetch(url, "ann")
    assert found.restricted
    assert not found.cached
    assert "if-none-match" not in origin.seen("/a")[1].headers


def test_what_the_origin_gives_to_everybody_by_now_is_confirmed_without_a_credential(
    origin: Origin, fetch: Fetch
) -> None:
    url = origin.serve("/a", closed(), content(DATA, etag='"1"'))
    fetch(url, "ann")
    found = fetch(url, "guest")
    assert (found.restricted, found.cached, found.credentials) == (True, True, ())


def test_another_version_for_another_user_takes_nothing_for_granted(origin: Origin, fetch: Fetch) -> None:
    def own(exchange: Exchange) -> None:
        who = exchange.request.headers["authorization"]
        text = f"for {who}".encode()
        content(text, etag=f'"{sha256(text).hexdigest()[:8]}"')(exchange)

    url = origin.serve("/a", own)
    for user in ("ann", "bob", "ann"):
        assert fetch(url, user).path.read_bytes() == f"for {basic(user)}".encode()


def test_without_a_validator_the_file_is_sent_again_as_proof(origin: Origin, fetch: Fetch) -> None:
    url = origin.serve("/a", closed(etag=None))
    fetch(url, "ann")
    assert fetch(url, "bob").received == len(DATA)


def test_a_result_says_which_credentials_were_shown(origin: Origin, fetch: Fetch, vault: Vault) -> None:
    (anns,) = vault.service.list(owner="ann")
    assert fetch(origin.serve("/a", closed()), "ann").credentials == (anns.id,)


def test_nobody_goes_on_with_the_bytes_that_came_for_another_ones_credential(
    origin: Origin, fetch: Fetch, cache: FileCache
) -> None:
    url = origin.serve(
        "/a",
        guarded(LARGE, admits, etag='"1"', cut=2_000_000),
        content(LARGE, etag='"1"'),
    )
    with pytest.raises(StagerError):
        fetch(url, "ann")
    left = list((cache.root / "partial").rglob("*.part"))
    assert left
    assert {S_IMODE(path.stat().st_mode) for path in left} == {0o600}
    found = fetch(url, "guest")
    assert (found.resumed_from, found.restricted) == (0, False)
    assert "range" not in origin.seen("/a")[-1].headers


def test_who_began_goes_on_and_what_comes_of_it_is_restricted_whatever_was_shown_in_the_end(
    origin: Origin, fetch: Fetch, vault: Vault
) -> None:
    url = origin.serve(
        "/a",
        guarded(LARGE, admits, etag='"1"', cut=2_000_000),
        content(LARGE, etag='"1"'),
    )
    with pytest.raises(StagerError):
        fetch(url, "ann")
    (anns,) = vault.service.list(owner="ann")
    vault.service.remove(anns.id)
    found = fetch(url, "ann")
    assert found.resumed_from > 0
    assert found.restricted


@pytest.mark.parametrize("refusal", [401, 403, 404, 410])
@pytest.mark.parametrize("who", ["guest", "eve"])
def test_who_is_refused_does_not_cost_another_ones_half_a_file(
    origin: Origin, fetch: Fetch, refusal: int, who: str
) -> None:
    given = iter([content(LARGE, etag='"1"', cut=2_000_000)])

    def answer(exchange: Exchange) -> None:
        may = admits(exchange.request.headers)
        (next(given, content(LARGE, etag='"1"')) if may else status(refusal))(exchange)

    url = origin.serve("/a", answer)
    with pytest.raises(IncompleteError):
        fetch(url, "ann")
    for _ in range(2):
        with pytest.raises(OriginRefusedError):
            fetch(url, who)
    found = fetch(url, "ann")
    assert found.path.read_bytes() == LARGE
    assert found.resumed_from > 1_900_000
