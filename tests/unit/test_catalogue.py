"""The catalogue: rows, totals, walks, and the quick way to read it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.errors import StateError
from stager.model.catalogue import CachedFile, Kind, Selection, Share, Sort, host_of, row_of, unnamed_key
from stager.model.keys import key_digest
from stager.state.catalogue import Catalogue
from stager.state.snapshot import catalogue_path, snapshot

NOW = 1_000_000.0


def address(root: Path) -> str:
    return f"sqlite:///{root / 'catalogue.db'}"


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    made = Catalogue(address(tmp_path), tmp_path / "cache")
    yield made
    made.close()


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def file(
    key: str, content: str = "", *, size: int = 1, at: float = 1.0, owner: str = "", **more: object
) -> CachedFile:
    return CachedFile(
        key_digest(key),
        key,
        sha(content or key),
        size,
        at,
        at,
        owner=owner,
        host=host_of(key),
        **more,  # type: ignore[arg-type]
    )


def keys(found: list[CachedFile]) -> list[str]:
    return [one.key for one in found]


def test_files_are_listed_in_each_order(catalogue: Catalogue) -> None:
    catalogue.put([file("b", size=3, at=2.0), file("a", size=1, at=3.0), file("c", size=2, at=1.0)])
    catalogue.accessed({key_digest("a"): 9.0})
    orders = {sort: "".join(keys(catalogue.ls(Selection(), sort))) for sort in Sort}
    assert orders == {
        Sort.SIZE: "bca",
        Sort.ACCESS: "cba",
        Sort.AGE: "cba",
        Sort.HITS: "abc",
        Sort.URL: "abc",
    }


def test_a_list_may_be_read_in_parts(catalogue: Catalogue) -> None:
    catalogue.put([file(f"k{n}", size=7) for n in range(5)])
    parts = [catalogue.ls(Selection(), limit=2, offset=start) for start in (0, 2, 4)]
    assert sorted(key for part in parts for key in keys(part)) == [f"k{n}" for n in range(5)]


@pytest.mark.parametrize("sort", [Sort.SIZE, Sort.ACCESS, Sort.AGE])
def test_all_files_of_a_selection_come_once_though_many_are_alike(catalogue: Catalogue, sort: Sort) -> None:
    catalogue.put([file(f"k{n}", size=n % 3, at=float(n % 2)) for n in range(20)])
    found = [one.key for some in catalogue.matching(Selection(), sort, at_once=3) for one in some]
    assert found == keys(catalogue.ls(Selection(), sort, limit=None))
    assert len(set(found)) == 20


def test_an_object_with_two_keys_is_counted_once_for_whom_it_was_first(catalogue: Catalogue) -> None:
    catalogue.put([file("a", "same", size=5, owner="ada"), file("b", "same", size=5, owner="bob")])
    assert catalogue.size() == (1, 5)
    assert catalogue.owners() == [Share("ada", 1, 5)]
    catalogue.drop([key_digest("a")])
    assert catalogue.owners() == [Share("bob", 1, 5)]
    catalogue.drop([key_digest("b")])
    assert catalogue.size() == (0, 0)


def test_totals_are_by_host_owner_age_size_and_kind(catalogue: Catalogue) -> None:
    catalogue.put([
        file("https://a.org/1", size=100, at=NOW, owner="ada"),
        file("https://b.org/1", size=1 << 21, at=NOW - 10 * 86_400, owner="ada"),
        file("result:job/x", size=7, at=NOW - 2 * 86_400),
    ])  # fmt: skip
    totals = catalogue.totals(NOW)
    assert (totals.files, totals.bytes) == (3, (1 << 21) + 107)
    assert totals.hosts == (Share("b.org", 1, 1 << 21), Share("a.org", 1, 100), Share("", 1, 7))
    assert totals.owners[0] == Share("ada", 2, (1 << 21) + 100)
    assert {share.name: share.files for share in totals.ages if share.files} == {
        "< 1 hour": 1, "< 1 week": 1, "< 30 days": 1,
    }  # fmt: skip
    assert {share.name: share.files for share in totals.sizes if share.files} == {
        "< 64 KiB": 2,
        "< 16 MiB": 1,
    }
    assert {share.name: share.files for share in totals.kinds} == {"input": 2, "result": 1}
    assert catalogue.totals(NOW, Selection(host="a.org")).bytes == 100


def test_a_later_access_counts_as_a_hit_and_an_earlier_one_does_not(catalogue: Catalogue) -> None:
    catalogue.put([file("a", at=5.0)])
    for at in (9.0, 7.0):
        catalogue.accessed({key_digest("a"): at})
    (found,) = catalogue.ls(Selection())
    assert (found.hits, found.last_access) == (1, 9.0)


def test_what_was_counted_stays_when_a_file_is_put_again(catalogue: Catalogue) -> None:
    catalogue.put([file("a", at=5.0)])
    catalogue.accessed({key_digest("a"): 9.0})
    catalogue.verified([sha("a")], 8.0)
    catalogue.put([file("a", at=6.0, owner="ada")])
    (found,) = catalogue.ls(Selection())
    assert (found.hits, found.last_access, found.owner) == (1, 9.0, "ada")
    assert catalogue.verified_at(found.digest) == 8.0


def test_an_object_that_its_key_has_lost_is_unnamed_and_a_version_of_the_key(catalogue: Catalogue) -> None:
    catalogue.put([file("https://a.org/x", "old", size=3, owner="ada", at=1.0)])
    catalogue.verified([sha("old")], 8.0)
    catalogue.put([file("https://a.org/x", "new", size=4, owner="bob", at=2.0)])
    (version,) = catalogue.versions(key_digest("https://a.org/x"))
    assert (version.key, version.object, version.size) == (unnamed_key(sha("old")), sha("old"), 3)
    assert (version.kind, version.owner, version.host) == (Kind.UNNAMED, "ada", "a.org")
    assert catalogue.size() == (2, 7)
    assert catalogue.verified_at(key_digest("https://a.org/x")) is None


def test_an_unnamed_object_that_gets_a_name_is_listed_under_it_alone(catalogue: Catalogue) -> None:
    catalogue.put([file("a", "old"), file("a", "new")])
    catalogue.put([file("b", "old")])
    assert sorted(keys(catalogue.ls(Selection()))) == ["a", "b"]


def test_an_object_that_another_key_still_has_is_not_unnamed(catalogue: Catalogue) -> None:
    catalogue.put([file("a", "old"), file("b", "old")])
    catalogue.put([file("a", "new")])
    assert sorted(keys(catalogue.ls(Selection()))) == ["a", "b"]
    assert catalogue.size()[0] == 2


def test_a_walk_brings_what_is_there_and_ends_what_is_gone(catalogue: Catalogue) -> None:
    catalogue.put([file("stays"), file("goes")])
    catalogue.accessed({key_digest("stays"): 9.0})
    walk = catalogue.begin_walk()
    catalogue.walked([row_of(file("stays")), row_of(file("new"))], walk)
    catalogue.put([file("put meanwhile")])
    assert [one.key for _, one in catalogue.unmet(walk)] == ["goes"]
    assert catalogue.end_walk(walk, NOW) == 1
    assert sorted(keys(catalogue.ls(Selection()))) == ["new", "put meanwhile", "stays"]
    assert catalogue.ls(Selection(), Sort.HITS)[0].hits == 1
    assert catalogue.size() == (3, 3)
    assert catalogue.walked_at == NOW


def test_of_two_walks_at_once_the_earlier_one_ends_nothing_that_the_later_one_met(
    catalogue: Catalogue,
) -> None:
    first, second = catalogue.begin_walk(), catalogue.begin_walk()
    catalogue.walked([row_of(file("a"))], second)
    catalogue.walked([row_of(file("a"))], first)
    catalogue.walked([row_of(file("b"))], first)
    assert catalogue.end_walk(second, NOW) == 1
    assert catalogue.end_walk(first, NOW) == 0
    assert keys(catalogue.ls(Selection())) == ["a"]


def test_what_was_dropped_while_everything_was_read_does_not_come_back(catalogue: Catalogue) -> None:
    catalogue.put([file("a"), file("b")])
    walk = catalogue.begin_walk()
    with catalogue.rebuilding() as rebuilt:
        rebuilt.entries([row_of(file("a")), row_of(file("b"))])
        catalogue.drop([key_digest("a"), key_digest("b")])
        catalogue.put([file("b", "again")])
        catalogue.merge(rebuilt, walk)
    catalogue.end_walk(walk, NOW)
    assert keys(catalogue.ls(Selection())) == ["b"]


def test_many_rows_go_in_at_once_and_can_be_found(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stager.state.catalogue_rebuild.FEW", 10)
    walk = catalogue.begin_walk()
    with catalogue.rebuilding() as rebuilt:
        rebuilt.entries([row_of(file(f"k{n}", f"c{n % 40}", size=n)) for n in range(50)])
        catalogue.merge(rebuilt, walk)
    catalogue.end_walk(walk, NOW)
    assert catalogue.unknown([sha(f"c{n}") for n in range(42)]) == [sha("c40"), sha("c41")]
    assert catalogue.objects_between("", "f" * 64) == {sha(f"c{n}") for n in range(40)}
    assert catalogue.size()[0] == 40
    assert keys(catalogue.ls(Selection(), limit=1)) == ["k49"]
    assert len(catalogue.of_object(sha("c3"))) == 2


def test_of_a_file_that_was_met_twice_the_later_row_holds(catalogue: Catalogue) -> None:
    walk = catalogue.begin_walk()
    with catalogue.rebuilding() as rebuilt:
        rebuilt.entries([row_of(file("b", "old", size=9)), row_of(file("a"))])
        rebuilt.entries([row_of(file("b", "new", size=3))])
        catalogue.merge(rebuilt, walk)
    catalogue.end_walk(walk, NOW)
    assert [(one.key, one.object, one.size) for one in catalogue.ls(Selection(), Sort.URL)][1] == (
        "b",
        sha("new"),
        3,
    )


def test_no_room_for_what_was_read_leaves_the_catalogue_as_it_was(catalogue: Catalogue) -> None:
    catalogue.put([file("a")])
    rows = [row_of(file(f"k{n}")) for n in range(2000)]
    with catalogue.rebuilding() as rebuilt:
        rebuilt._waiting._connection.exec_driver_sql("PRAGMA waiting.max_page_count=20")  # type: ignore[attr-defined]
        with pytest.raises(StateError, match="can't be kept") as caught:
            rebuilt.entries(rows)
    assert "full" in str(caught.value.cause)
    assert keys(catalogue.ls(Selection())) == ["a"]
    catalogue.put([file("b")])
    assert keys(catalogue.ls(Selection(), Sort.URL)) == ["a", "b"]


def test_text_that_no_database_takes_is_replaced(catalogue: Catalogue) -> None:
    catalogue.put([file("nul \0 and \ud800", "x")])
    assert keys(catalogue.ls(Selection())) == ["nul \ufffd and ?"]


def test_a_catalogue_of_another_cache_is_emptied(tmp_path: Path, catalogue: Catalogue) -> None:
    catalogue.put([file("a")])
    catalogue.close()
    other = Catalogue(address(tmp_path), tmp_path / "other")
    assert other.ls(Selection()) == []
    other.close()


def test_one_that_can_not_be_used_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "catalogue.db").write_bytes(b"no database at all, and long enough to be looked at" * 30)
    with pytest.raises(StateError, match="may be deleted"):
        Catalogue(f"sqlite:///{tmp_path / 'catalogue.db'}", tmp_path)


def test_rows_may_be_put_by_several_threads_and_the_totals_are_right(catalogue: Catalogue) -> None:
    def put(name: str) -> None:
        for n in range(20):
            catalogue.put([file(f"{name}{n}", f"c{n}", size=n)])

    threads = [threading.Thread(target=put, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert catalogue.size() == (20, sum(range(20)))


SELECTIONS: list[dict[str, str | float]] = [
    {}, {"host": "a.org"}, {"owner": "ada"}, {"kind": "result"}, {"unused_since": 5.0}, {"stored_before": 3.0},
    {"key": "https://a.org/3"}, {"host": "a.org", "unused_since": 8.0},
]  # fmt: skip


@pytest.mark.parametrize("chosen", SELECTIONS, ids=str)
@pytest.mark.parametrize("sort", list(Sort))
def test_the_quick_way_gives_what_the_catalogue_gives(
    tmp_path: Path, sort: Sort, chosen: dict[str, str | float]
) -> None:
    catalogue = Catalogue(f"sqlite:///{tmp_path / 'catalogue.db'}", tmp_path / "cache")
    hosts = ("https://a.org/", "https://b.org/", "result:job/")
    catalogue.put(
        [file(f"{hosts[n % 3]}{n}", size=n % 4, at=float(n % 7), owner="ada" * (n % 2)) for n in range(30)]
    )
    assert snapshot(str(tmp_path / "catalogue.db"), str(tmp_path / "cache"), sort.value, chosen, 5) is None
    catalogue.end_walk(0, NOW)
    wanted = {name: Kind(str(value)) if name == "kind" else value for name, value in chosen.items()}
    selection = Selection(**wanted)  # type: ignore[arg-type]
    quick = snapshot(str(tmp_path / "catalogue.db"), str(tmp_path / "cache"), sort.value, chosen, 5)
    assert quick is not None
    assert [row["digest"] for row in quick.rows] == [
        one.digest for one in catalogue.ls(selection, sort, limit=5)
    ]
    assert quick.total == catalogue.count(selection)
    assert quick.walked_at == NOW
    catalogue.close()


def test_each_cache_has_a_catalogue_of_its_own_in_the_state_directory(tmp_path: Path) -> None:
    state = str(tmp_path)
    assert catalogue_path(state, "/one") == f"{state}/catalogue.db"
    Catalogue(f"sqlite:///{catalogue_path(state, '/one')}", Path("/one")).close()
    assert catalogue_path(state, "/one") == f"{state}/catalogue.db"
    other = catalogue_path(state, "/two")
    assert other.startswith(f"{state}/catalogue-")
    assert snapshot(f"{state}/catalogue.db", "/two", "size", {}, 1) is None


def test_whether_anything_is_shared_is_known_without_reading_every_row(catalogue: Catalogue) -> None:
    """Asked for every eviction: a scan would cost as much as the cache is large."""
    from sqlalchemy import event

    asked: list[str] = []
    event.listen(catalogue._engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    catalogue.put([file("a", "same"), file("b", "same"), file("c")])
    assert set(catalogue.several([sha("same"), sha("c")])) == {sha("same")}
    (known,) = {text for text in asked if "LIMIT" in text and "alias" in text}
    with catalogue._engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {known}", (1, 0)).all()
    assert "catalogue_alias" in plan[0][-1], plan


def test_thousands_of_rows_are_dropped_and_the_totals_follow(catalogue: Catalogue) -> None:
    catalogue.put(file(f"k{number}", size=2, owner="ada" if number % 3 else "") for number in range(9000))
    catalogue.drop(key_digest(f"k{number}") for number in range(8998))
    assert {share.name: (share.files, share.bytes) for share in catalogue.owners()} == {"ada": (2, 4)}
    assert sorted(keys(catalogue.ls(Selection()))) == ["k8998", "k8999"]
