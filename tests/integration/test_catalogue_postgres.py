"""The catalogue in a real PostgreSQL, beside the state: all that holds of it on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from stager.cache.store import FileCache
from stager.state.catalogue import Catalogue
from stager.state.store import Store
from tests.support.commandline import Here
from tests.support.postgres import cluster, empty
from tests.unit.test_catalogue import (
    file,
    test_a_later_access_counts_as_a_hit_and_an_earlier_one_does_not,
    test_a_list_may_be_read_in_parts,
    test_a_walk_brings_what_is_there_and_ends_what_is_gone,
    test_all_files_of_a_selection_come_once_though_many_are_alike,
    test_an_object_that_another_key_still_has_is_not_unnamed,
    test_an_object_that_its_key_has_lost_is_unnamed_and_a_version_of_the_key,
    test_an_object_with_two_keys_is_counted_once_for_whom_it_was_first,
    test_an_unnamed_object_that_gets_a_name_is_listed_under_it_alone,
    test_files_are_listed_in_each_order,
    test_many_rows_go_in_at_once_and_can_be_found,
    test_of_two_walks_at_once_the_earlier_one_ends_nothing_that_the_later_one_met,
    test_text_that_no_database_takes_is_replaced,
    test_totals_are_by_host_owner_age_size_and_kind,
    test_what_was_counted_stays_when_a_file_is_put_again,
    test_what_was_dropped_while_everything_was_read_does_not_come_back,
)

__all__ = [  # collected here again, with this module's `catalogue`
    "test_a_later_access_counts_as_a_hit_and_an_earlier_one_does_not",
    "test_a_list_may_be_read_in_parts",
    "test_a_walk_brings_what_is_there_and_ends_what_is_gone",
    "test_all_files_of_a_selection_come_once_though_many_are_alike",
    "test_an_object_that_another_key_still_has_is_not_unnamed",
    "test_an_object_that_its_key_has_lost_is_unnamed_and_a_version_of_the_key",
    "test_an_object_with_two_keys_is_counted_once_for_whom_it_was_first",
    "test_an_unnamed_object_that_gets_a_name_is_listed_under_it_alone",
    "test_files_are_listed_in_each_order",
    "test_many_rows_go_in_at_once_and_can_be_found",
    "test_of_two_walks_at_once_the_earlier_one_ends_nothing_that_the_later_one_met",
    "test_text_that_no_database_takes_is_replaced",
    "test_totals_are_by_host_owner_age_size_and_kind",
    "test_what_was_counted_stays_when_a_file_is_put_again",
    "test_what_was_dropped_while_everything_was_read_does_not_come_back",
]

_numbers = count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with cluster() as url:
        yield url


@pytest.fixture
def url(server: str) -> str:
    return empty(server, f"catalogue{next(_numbers)}")


@pytest.fixture
def catalogue(url: str, tmp_path: Path) -> Iterator[Catalogue]:
    made = Catalogue(url, tmp_path / "cache")
    yield made
    made.close()


@pytest.mark.parametrize("first", ["catalogue", "state"])
def test_state_and_catalogue_share_a_database_whichever_comes_first(url: str, first: str) -> None:
    order = ("catalogue", "state") if first == "catalogue" else ("state", "catalogue")
    for kind in order:
        (Store(url) if kind == "state" else Catalogue(url, Path("/cache"))).close()
    again = Catalogue(url, Path("/cache"))
    again.put([file("a")])
    assert again.size() == (1, 1)
    again.close()
    Store(url).close()


@pytest.mark.parametrize("options", [(), ("--kind", "result"), ("--kind=input", "--sort=size", "--limit=0")])
def test_the_command_lists_what_is_in_it(
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
) -> None:
    monkeypatch.setenv("STAGER_DATABASE_URL", url)
    monkeypatch.setenv("STAGER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("STAGER_STATE_DIR", str(tmp_path / "state"))
    cache = FileCache(tmp_path / "cache")
    cache.put("result:job1/fit", b"1")
    cache.put("https://b.org/y", b"22")
    stager = Here(capsys)
    assert stager("cache", "rebuild").code == 0
    listed, walked = (
        stager("cache", "ls", "--json", *options),
        stager("cache", "ls", "--json", "--walk", *options),
    )
    assert (listed.code, listed.err) == (0, "")
    assert listed.out == walked.out
