"""What the pages say of the cache, and what operators do to it there; credentials."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.cache.store import FileCache
from stager.model.credential_scope import Scope
from stager.model.credentials import Kind, NewCredential
from stager.model.keys import key_digest
from stager.model.principals import Role
from tests.support.until import until
from tests.support.visitor import Visitor, words
from tests.support.world import TOKEN, World, world

FILES = 230


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root: Path = tmp_path_factory.mktemp("cache")
    with world(root) as made:
        yield made


@pytest.fixture(scope="module")
def stored(running: World) -> list[str]:
    """Keys, the largest file first."""
    keys = [f"https://host{n % 3}.example.org/run{n:03}.nxs" for n in range(FILES)]
    for number, key in enumerate(keys):
        with running.server.cache_site.content.begin(key, owner=f"user{number % 2}") as incoming:
            incoming.write(b"x" * (10 * (FILES - number)))
            incoming.finish()
    return keys


@pytest.fixture
def visitor(running: World) -> Iterator[Visitor]:
    with Visitor(running.url) as visitor:
        visitor.log_in(TOKEN)
        yield visitor


def listed(page: str) -> list[str]:
    return [words(one) for one in re.findall(r'<th scope="row" class="url"><a[^>]*>(.*?)</a>', page)]


def pages(visitor: Visitor, path: str) -> list[str]:
    """All that a list has, page by page."""
    found: list[str] = []
    while True:
        page = visitor.get(path).text
        found += listed(page)
        more = re.search(r'href="([^"#]+)#files-h" rel="next"', page)
        if more is None:
            return found
        path = more[1].replace("&amp;", "&")


def test_the_table_has_every_file_once_in_the_order_chosen(stored: list[str], visitor: Visitor) -> None:
    assert pages(visitor, "/cache") == stored
    assert pages(visitor, "/cache?sort=size&reverse=true") == stored[::-1]
    assert pages(visitor, "/cache?sort=url") == sorted(stored)
    assert pages(visitor, "/cache?sort=url&reverse=true") == sorted(stored)[::-1]
    for sort in ("access", "age", "hits"):
        assert sorted(pages(visitor, f"/cache?sort={sort}")) == sorted(stored)
    head = visitor.get("/cache").text
    assert 'aria-sort="descending"><a href="/cache?sort=size&amp;reverse=true#files-h">Size' in head


def test_the_table_is_narrowed_by_host_owner_kind_and_age(stored: list[str], visitor: Visitor) -> None:
    chosen = [key for key in stored if "host1" in key]
    assert pages(visitor, "/cache?host=host1.example.org") == chosen
    assert pages(visitor, "/cache?host=host1.example.org&reverse=true") == chosen[::-1]
    assert pages(visitor, "/cache?owner=user1&host=host0.example.org") == [
        key for number, key in enumerate(stored) if number % 6 == 3
    ]
    assert pages(visitor, "/cache?kind=result") == []
    assert pages(visitor, "/cache?unused=1d") == []
    assert "No file is like that" in words(visitor.get("/cache?unused=1d"))
    assert visitor.get("/cache?unused=soon").status_code == 422
    assert visitor.get("/cache?kind=x").status_code == 422


def test_a_page_that_ended_with_a_file_that_is_gone_says_so(stored: list[str], visitor: Visitor) -> None:
    assert stored
    answer = visitor.get("/cache?after=999999")
    assert answer.status_code == 404
    assert "begin anew" in words(answer)


def test_the_plots_come_when_the_files_are_counted(stored: list[str], visitor: Visitor) -> None:
    assert stored

    until(lambda: "being counted" not in visitor.get("/cache").text, "the files are counted")
    page = visitor.get("/cache").text
    for host in range(3):
        assert re.search(rf"<title>host{host}.example.org: [\d.]+ KiB in 7\d files</title>", page)
    assert re.search(rf"< 1 hour [\d.]+ KiB {FILES}", words(page))
    assert "Throughput" in words(page)
    assert "Size by origin" in words(page)


def test_a_file_is_found_by_its_url_and_shows_where_it_is_from(stored: list[str], visitor: Visitor) -> None:
    found = visitor.get(f"/cache?find={stored[3]}")
    assert found.headers["Location"] == f"/cache/files/{key_digest(stored[3])}"
    page = words(visitor.get(found.headers["Location"]))
    assert stored[3] in page
    assert "Nobody: it goes when room is needed" in page
    assert visitor.get("/cache?find=https://host0.example.org/nothing").status_code == 404
    for digest in ("0" * 64, "x", "..%2f..%2fetc"):
        assert visitor.get(f"/cache/files/{digest}").status_code == 404


def test_a_file_is_pinned_and_unpinned_with_a_form(
    running: World, stored: list[str], visitor: Visitor
) -> None:
    path = f"/cache/files/{key_digest(stored[5])}"
    assert visitor.send(f"{path}/pin", {"for": "7d", "reason": "beam time <4711>"}).status_code == 303
    page = visitor.get(path)
    assert "beam time <4711>" in words(page)
    (pin,) = running.server.cache_site.pins.pins(stored[5])
    assert pin.until is not None
    assert f'name="pin" value="{pin.id}"' in page.text
    assert visitor.send(f"{path}/pin", {"for": "soon"}).status_code == 422
    assert visitor.send(f"{path}/unpin", {"pin": pin.id}).status_code == 303
    assert running.server.cache_site.pins.pins(stored[5]) == []


def outcome(visitor: Visitor, path: str) -> str:
    """What a purge came to."""
    until(lambda: "data-still" in visitor.get(path).text, "the purge is over")
    return visitor.get(path).text


def test_a_purge_is_seen_before_anything_goes_and_only_what_was_seen_goes(
    running: World, stored: list[str], visitor: Visitor
) -> None:
    root, victim, kept = running.server.cache.root, stored[10], stored[11]
    form = {"file": key_digest(victim)}
    shown = visitor.send("/cache/purge", form).headers["Location"]
    page = outcome(visitor, shown)
    assert "1 file, 2.1 KiB, would go." in words(page)
    assert "Nothing has gone yet" in words(page)
    assert victim in FileCache(root)
    seen = re.search(r'name="seen" value="([^"]+)"', page)
    assert seen is not None
    other = {"file": key_digest(kept), "seen": seen[1]}
    refused = visitor.send("/cache/purge", other)
    assert refused.status_code == 409
    assert "that is not what was shown" in words(refused)
    assert kept in FileCache(root)
    gone = outcome(visitor, visitor.send("/cache/purge", form | {"seen": seen[1]}).headers["Location"])
    assert "1 file, 2.1 KiB, has gone." in words(gone), words(gone)
    assert victim not in FileCache(root)
    assert kept in FileCache(root)


def test_a_purge_that_makes_no_sense_changes_nothing_and_says_why(visitor: Visitor) -> None:
    for form, said in (({}, "nothing is chosen"), ({"to_free": "much"}, "to free: 'much' is no size")):
        answer = visitor.send("/cache/purge", form)
        assert answer.status_code == 422
        assert said in words(answer)
    assert visitor.get("/cache/purge?run=unknown").status_code == 404
    assert visitor.send("/cache/purge", {"seen": "unknown", "host": "x"}).status_code == 404


def test_the_cache_is_verified_from_the_page(running: World, stored: list[str], visitor: Visitor) -> None:
    assert stored
    assert visitor.send("/cache/verify", {"rate": "fast"}).status_code == 422
    assert visitor.send("/cache/verify", {"sample": "100%"}).headers["Location"] == "/cache/verify"
    service = running.server.cache_site.verification
    until(
        lambda: (report := service.last_verification()) is not None and report.ended_at is not None,
        "all is verified",
    )
    until(lambda: not service.is_running, "the verification is over")
    page = words(visitor.get("/cache/verify"))
    assert "done" in page
    assert re.search(r"Sound \d+", page)


def test_only_operators_are_offered_what_only_they_may_do(running: World, stored: list[str]) -> None:
    for role in Role:
        secret = running.user(f"a-{role.value}", role)
        with Visitor(running.url) as visitor:
            visitor.log_in(secret)
            may = role in {Role.OPERATOR, Role.ADMIN}
            assert ("Purge" in words(visitor.get("/cache"))) is may
            assert (visitor.get("/cache/purge").status_code == 200) is may
            assert (visitor.send("/cache/purge", {"file": key_digest(stored[20])}).status_code == 303) is may
            assert visitor.send("/cache/verify", {"rate": "x"}).status_code == (422 if may else 403)


def test_a_credential_is_given_with_a_form_and_shown_to_nobody(running: World, visitor: Visitor) -> None:
    page = visitor.get("/credentials?host=data.example.org&owner=ada")
    assert 'value="data.example.org"' in page.text
    form = {
        "kind": "basic",
        "host": "data.example.org",
        "owner": "ada",
        "user": "ada",
        "password": "hunter2-secret",
    }
    answer = visitor.send("/credentials", form)
    assert answer.status_code == 303
    after = visitor.get(answer.headers["Location"])
    assert "The credential is kept, sealed" in words(after)
    assert "hunter2" not in after.text
    (view,) = running.server.credentials.list("data.example.org")
    assert (view.owner, view.user, view.kind) == ("ada", "ada", Kind.BASIC)
    assert visitor.send(f"/credentials/{view.id}/remove").status_code == 303
    assert running.server.credentials.list("data.example.org") == []


def test_a_form_that_was_filled_in_wrongly_comes_back_with_all_but_the_secret(visitor: Visitor) -> None:
    form = {
        "kind": "basic",
        "host": "data.example.org",
        "user": "",
        "password": "hunter2-secret",
        "expires": "soon",
    }
    answer = visitor.send("/credentials", form)
    assert answer.status_code == 422
    assert "'soon' is no day" in words(answer)
    assert 'value="data.example.org"' in answer.text
    assert "hunter2" not in answer.text
    again = visitor.send("/credentials", form | {"expires": ""})
    assert "needs user" in words(again)


@pytest.mark.parametrize("kind", Kind)
def test_the_form_asks_for_what_a_kind_needs_and_hides_what_is_secret(visitor: Visitor, kind: Kind) -> None:
    from stager.model.credentials import PARTS, SECRET_PARTS

    page = visitor.get(f"/credentials?kind={kind.value}").text
    for name in PARTS[kind].names:
        field = re.search(rf'<(?:input|textarea) id="part-{name}"[^>]*>', page)
        assert field is not None
        assert ("password" in field[0] or "textarea" in field[0]) or name not in SECRET_PARTS
        assert (" required" in field[0]) is (name in {PARTS[kind].secret, *PARTS[kind].needed})


def test_a_user_gives_credentials_for_himself_alone(running: World) -> None:
    secret = running.user("eve", Role.USER)
    scope = Scope("site.example.org", "/", "")
    running.server.credentials.add(NewCredential(scope, Kind.BASIC, {"user": "u", "password": "p"}))
    with Visitor(running.url) as visitor:
        visitor.log_in(secret)
        assert "site.example.org" not in visitor.get("/credentials").text
        form = {"kind": "bearer", "host": "eve.example.org", "token": "t0ken-of-eve"}
        assert visitor.send("/credentials", form | {"owner": "ada"}).status_code == 403
        assert visitor.send("/credentials", form).status_code == 303
    (view,) = running.server.credentials.list("eve.example.org")
    assert view.owner == "eve"


def test_the_origins_have_a_page(visitor: Visitor) -> None:
    assert "No origin has work." in words(visitor.get("/origins"))
