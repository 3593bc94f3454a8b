"""One cache on a real NFS share, used by two hosts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import pytest

from tests.support import guest_cache
from tests.support.hosts import PYTHON
from tests.support.pair import Pair
from tests.support.until import until

pytestmark = pytest.mark.timeout(300)  # guests are slow where others work too

KEY = "https://h/run.nxs"
OTHER = "https://h/other.nxs"
TEXT = "counts"
SHA256 = sha256(TEXT.encode()).hexdigest()
QUESTIONS: dict[str, tuple[tuple[object, ...], Any, Any]] = {
    "get": ((KEY,), None, TEXT),
    "read": ((KEY,), None, TEXT),
    "lookup": ((KEY,), None, SHA256),
    "contains": ((KEY,), False, True),
    "has_object": ((SHA256, len(TEXT)), False, True),
    "pin": (("job", SHA256, len(TEXT)), None, TEXT),
}
"""Function: what it is asked, its answer as long as there is nothing, its answer afterwards."""


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("state", ["new", "used"])
def test_what_one_host_publishes_the_other_finds_at_once_although_it_looked_too_early(
    pair: Pair, question: str, state: str
) -> None:
    arguments, nothing, found = QUESTIONS[question]
    if state == "used":
        pair.ask(pair.first, "put", OTHER, "other")
        assert pair.ask(pair.second, "get", OTHER) == "other"
    assert pair.ask(pair.second, question, *arguments) == nothing
    pair.ask(pair.first, "put", KEY, TEXT)
    assert pair.ask(pair.second, question, *arguments) == found


def test_both_hosts_publish_the_same_files_at_once_and_each_is_there_once(pair: Pair) -> None:
    texts = {f"k{number}": f"text {number}" for number in range(60)}
    keys = list(texts)
    for guest in (pair.first, pair.second):  # both looked for everything too early
        assert set(pair.ask(guest, "get_all", keys).values()) == {None}
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(pair.ask, guest, "put_all", texts) for guest in (pair.first, pair.second)]:
            done.result()
    assert [pair.ask(guest, "get_all", keys) for guest in (pair.first, pair.second)] == [texts, texts]
    assert sorted(path.read_text() for path in pair.objects()) == sorted(texts.values())
    assert pair.partials() == []


def test_an_object_that_a_job_has_as_input_is_the_same_file_after_the_other_host_publishes_it_again(
    pair: Pair,
) -> None:
    assert pair.ask(pair.second, "has_object", SHA256, len(TEXT)) is False
    pair.ask(pair.first, "put", KEY, TEXT)
    assert pair.ask(pair.first, "pin", "job", SHA256, len(TEXT)) == TEXT
    pair.ask(pair.second, "put", OTHER, TEXT)
    (found,) = pair.objects()
    assert found.samefile(pair.truth / "jobs" / "job" / "inputs" / "input")
    assert pair.ask(pair.second, "pin", "job", SHA256, len(TEXT)) == TEXT


def test_a_reader_never_meets_an_error_or_a_torn_file_while_the_other_host_replaces_it(pair: Pair) -> None:
    pair.ask(pair.first, "put", "k", guest_cache.version(0))
    writer = pair.first.start([*PYTHON, "-m", guest_cache.__name__, pair.root, "same", "100000"])
    torn: list[str] = []

    def written() -> int:
        return writer.wait(0).stdout.count("\n")

    def is_enough() -> bool:
        torn.extend(pair.ask(pair.second, "read_often", "k", 200))
        return written() > before + 50

    try:
        until(lambda: written() > 10, "the writer writes")
        before = written()
        until(is_enough, "it writes on while the other host reads")
        assert torn == []
    finally:
        writer.kill()


def test_what_was_acknowledged_is_intact_after_the_nfs_server_was_killed_and_started_again(
    pair: Pair,
) -> None:
    writer = pair.first.start([*PYTHON, "-m", guest_cache.__name__, pair.root, "new", "200"])

    def written() -> list[str]:
        return writer.wait(0).stdout.splitlines()

    for kill in range(2):
        until(lambda: len(written()) > 60 * (kill + 1), "the writer writes")  # noqa: B023  # called at once
        pair.hosts.server.kill()
        pair.hosts.server.start()
    done = writer.wait(100)
    assert done.status == 0, done.stderr
    assert len(written()) == 200
    texts = {key: guest_cache.version(int(number)) for key, number in (line.split() for line in written())}
    assert pair.ask(pair.second, "get_all", list(texts)) == texts
    assert len(pair.objects()) == 200
    assert pair.partials() == []
