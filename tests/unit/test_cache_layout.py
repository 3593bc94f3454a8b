from __future__ import annotations

import json
from hashlib import sha256

import pytest

from stager.cache.layout import LAYOUT_VERSION, Layout, Layouts, directory_mode, is_digest
from stager.errors import CacheError, InputError, LayoutVersionError

DIGEST = sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    ("shards", "directory"),
    [("2+2", "2d/71"), ("4+4", "2d71/1642"), ("1", "2"), ("3", "2d7"), ("1+2+3+4", "2/d7/116/42b7")],
)
def test_a_path_is_cut_as_the_widths_say(shards: str, directory: str) -> None:
    layout = Layout(shards)
    assert layout.object(DIGEST) == f"objects/{directory}/{DIGEST}"
    assert layout.object(DIGEST, restricted=True) == f"restricted/{directory}/{DIGEST}"
    assert layout.entry(DIGEST) == f"entries/{directory}/{DIGEST}.json"
    assert layout.link(DIGEST) == f"entries/{directory}/{DIGEST}"
    assert layout.levels == directory.count("/") + 1


def test_a_flat_layout_has_no_directories() -> None:
    layout = Layout("flat")
    assert layout.object(DIGEST) == f"objects/{DIGEST}"
    assert layout.entry(DIGEST) == f"entries/{DIGEST}.json"
    assert layout.levels == 0


@pytest.mark.parametrize("shards", ["2+2", "4+4", "1", "1+1+1+1", "flat"])
def test_the_way_up_from_an_entry_ends_at_the_root(shards: str) -> None:
    layout = Layout(shards)
    assert layout.up.count("../") == layout.link(DIGEST).count("/")


@pytest.mark.parametrize("shards", ["", "0", "9", "2+", "+2", "2+2+2+2+2", "2,2", "2 + 2", "-1", "a"])
def test_impossible_widths_are_refused(shards: str) -> None:
    with pytest.raises(InputError, match="shard widths"):
        Layout(shards)


def test_a_layout_reads_what_it_writes() -> None:
    for layouts in (
        Layouts(Layout("4+4")),
        Layouts(Layout("flat")),
        Layouts(Layout("4"), (Layout("2+2"), Layout("flat"))),
        Layouts(Layout("4"), (Layout("2+2"),), settled_at=12.5),
    ):
        assert Layouts.from_json(layouts.to_json()) == layouts


def test_an_older_program_is_told_when_there_is_more_than_it_would_find() -> None:
    def version(layouts: Layouts) -> int:
        return int(json.loads(layouts.to_json())["version"])

    assert version(Layouts(Layout("4+4"))) == 1
    assert version(Layouts(Layout("flat"))) == 2
    assert version(Layouts(Layout("4+4"), (Layout("2+2"),))) == 2


def test_a_change_of_the_layout_keeps_all_places_where_files_may_be() -> None:
    there = Layouts(Layout("2+2")).towards(Layout("4+4"))
    assert there == Layouts(Layout("4+4"), (Layout("2+2"),))
    further = there.towards(Layout("flat"))
    assert further == Layouts(Layout("flat"), (Layout("4+4"), Layout("2+2")))
    assert there.towards(Layout("2+2")) == Layouts(Layout("2+2"), (Layout("4+4"),))


def test_a_layout_from_the_future_is_refused() -> None:
    text = json.dumps({"version": LAYOUT_VERSION + 1, "shards": "whatever", "digest": "sha256"})
    with pytest.raises(LayoutVersionError, match="upgrade"):
        Layouts.from_json(text.encode())


def test_a_layout_with_another_digest_is_refused() -> None:
    text = json.dumps({"version": LAYOUT_VERSION, "shards": "2+2", "digest": "blake3"})
    with pytest.raises(LayoutVersionError, match="blake3"):
        Layouts.from_json(text.encode())


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"{}", b"\xff", b'{"version":1,"shards":7,"digest":"sha256"}',
             b'{"version":"x","shards":"2+2","digest":"sha256"}', b'{"version":1,"shards":"0","digest":"sha256"}']
)  # fmt: skip
def test_a_damaged_layout_is_said_to_be_damaged(text: bytes) -> None:
    with pytest.raises(CacheError, match="damaged"):
        Layouts.from_json(text)


@pytest.mark.parametrize(
    "name", [DIGEST[:-1], DIGEST + "0", DIGEST.upper(), "", "z" * 64, "é" * 64, DIGEST[:62] + "  "]
)
def test_only_a_digest_is_a_digest(name: str) -> None:
    assert is_digest(DIGEST)
    assert not is_digest(name)


@pytest.mark.parametrize(
    "directory",
    ["objects", "objects/ab/cd", "entries/ab", "jobs", "jobs/7/inputs", "partial/ab", "trash", "restricted"],
)
def test_no_directory_is_writable_for_others(directory: str) -> None:
    assert directory_mode(directory) & 0o022 == 0


@pytest.mark.parametrize(
    "directory", ["partial", "partial/ab", "restricted/ab/cd", "trash/x", "jobs/7/inputs"]
)
def test_what_is_private_can_not_be_crossed_by_others(directory: str) -> None:
    assert directory_mode(directory) & 0o077 == 0
