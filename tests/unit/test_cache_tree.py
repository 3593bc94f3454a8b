from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from stager.cache import tree as tree_module
from stager.cache.store import FileCache
from stager.errors import (
    CacheError,
    CachePermissionError,
    InputError,
    LayoutVersionError,
    NotACacheError,
)
from tests.support.needs import needs


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def snapshot(directory: Path) -> dict[str, tuple[int, bytes | None]]:
    return {
        str(p.relative_to(directory)): (p.lstat().st_mode, p.read_bytes() if p.is_file() else None)
        for p in [directory, *directory.rglob("*")]
    }


def test_a_new_cache_says_what_it_is(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "a" / "b" / "cache")
    says = json.loads((cache.root / "layout.json").read_text())
    assert len(says.pop("id")) == 16
    assert says == {"version": 1, "shards": "2+2", "digest": "sha256"}
    assert (
        (cache.root / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55")
    )
    assert names(cache.root) == ["CACHEDIR.TAG", "layout.json"]


def test_an_existing_cache_keeps_its_shards(tmp_path: Path) -> None:
    FileCache(tmp_path / "c", shards="4").put("k", b"data")
    again = FileCache(tmp_path / "c", shards="2+2")
    assert again.path("k").read_bytes() == b"data"
    assert again.path("k").parent.parent == again.root / "objects"


def test_an_empty_directory_becomes_a_cache(tmp_path: Path) -> None:
    assert list(FileCache(tmp_path)) == []


def test_a_relative_path_is_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = FileCache("c")
    monkeypatch.chdir("/")
    cache.put("k", b"x")
    assert cache.root == tmp_path / "c"
    assert cache.path("k").read_bytes() == b"x"


def test_a_directory_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    before = snapshot(tmp_path)
    with pytest.raises(NotACacheError, match="not empty"):
        FileCache(tmp_path)
    assert snapshot(tmp_path) == before


def test_a_file_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotACacheError, match="not a directory"):
            FileCache(path)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"version": 3, "shards": "2+2", "digest": "sha256"}', LayoutVersionError),
        ('{"version": 99}', LayoutVersionError),
        ("torn", CacheError),
        ("[1]", CacheError),
        ("", CacheError),
    ],
)
def test_a_cache_that_can_not_be_understood_is_left_alone(
    tmp_path: Path, text: str, kind: type[CacheError]
) -> None:
    (tmp_path / "layout.json").write_text(text)
    before = snapshot(tmp_path)
    with pytest.raises(kind, match=str(tmp_path)):
        FileCache(tmp_path)
    assert snapshot(tmp_path) == before


def test_impossible_shards_create_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        FileCache(tmp_path / "c", shards="99")
    assert not (tmp_path / "c").exists()


def run_unprivileged(code: str, *args: object) -> str:
    needs(os.geteuid() == 0, "root, to become somebody whom modes stop")
    code = f"import os, sys; sys.path.insert(0, os.getcwd()); from stager.cache.store import FileCache; os.setuid(65534)\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


ERROR_OF = "from stager.errors import *\ntry: FileCache(sys.argv[1])\nexcept StagerError as e: print(type(e).__name__)"


def test_an_unreadable_directory_is_said_to_be_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert run_unprivileged(ERROR_OF, tmp_path) == CachePermissionError.__name__
    assert run_unprivileged(ERROR_OF, tmp_path / "new") == CachePermissionError.__name__
    assert names(tmp_path) == []


def test_a_cache_can_be_read_by_those_who_can_not_write() -> None:
    with TemporaryDirectory() as outside:  # pytest's own directories are closed to others
        Path(outside).chmod(0o755)
        FileCache(f"{outside}/c").put("k", b"public")
        code = (
            "c = FileCache(sys.argv[1])\n"
            "print(c.open('k').read().decode(), c.lookup('k').size, c.get('no')); c.close()"
        )
        assert run_unprivileged(code, f"{outside}/c") == "public 6 None"


def test_nothing_is_writable_for_others_under_any_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        cache = FileCache(tmp_path / "new" / "parents" / "c")
        entry = cache.put("k", b"x")
        cache.put("also", b"x")
        cache.pin("job", "name", entry.object, entry.size)
        partial = cache.claim_partial("u")
        os.write(partial.fd, b"x")
        partial.write_sidecar({})
        partial.keep()
        with cache.open("w", "wb") as file:
            file.write(b"y")
    finally:
        os.umask(old)
    found = [p for p in (tmp_path / "new").rglob("*") if not p.is_symlink()]
    assert len(found) > 20
    assert [p for p in [tmp_path / "new", *found] if p.stat().st_mode & 0o022] == []
    assert {
        stat.S_IMODE(p.stat().st_mode)
        for p in (cache.root / "objects").rglob("*")
        if p.suffix == "" and p.is_file()
    } == {0o444}
    assert {stat.S_IMODE(p.stat().st_mode) for p in (cache.root / "partial").rglob("*") if p.is_file()} == {
        0o600
    }


def test_a_directory_that_anybody_can_write_to_is_closed_when_it_becomes_a_cache(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert FileCache(tmp_path / "open").root.stat().st_mode & 0o002 == 0


def test_an_object_is_readable_for_all_under_a_strict_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        cache = FileCache(tmp_path / "c")
        cache.put("k", b"x")
        with cache.open("w", "wb") as file:
            file.write(b"y")
    finally:
        os.umask(old)
    assert {stat.S_IMODE(cache.path(k).stat().st_mode) for k in "kw"} == {0o444}


def test_of_two_that_create_a_cache_at_once_both_get_the_same(tmp_path: Path) -> None:
    gate = threading.Barrier(4)
    found: list[str] = []

    def create(shards: str) -> None:
        gate.wait()
        cache = FileCache(tmp_path / "c", shards=shards)
        cache.put(shards, shards.encode())
        found.append(repr(cache))

    for _ in range(10):
        threads = [threading.Thread(target=create, args=(s,)) for s in ("1", "2", "3", "4")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert len(set(found)) == 1
        assert sorted(FileCache(tmp_path / "c")) == ["1", "2", "3", "4"]
        found.clear()
        (tmp_path / "c").rename(tmp_path / f"old{_}")


def test_a_creation_that_was_killed_half_way_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    root = tmp_path / "c"
    with monkeypatch.context() as patch:
        patch.setattr(tree_module, "place", killed)
        with pytest.raises(KeyboardInterrupt):
            FileCache(root)
    (root / "CACHEDIR.TAG").write_bytes(b"")
    (root / ".layout.json.host-place-1-1-0").write_bytes(b"{")
    assert list(FileCache(root)) == []


def test_a_removed_directory_is_made_again(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c")
    cache.put("k", b"x")
    cache.claim_partial("k").discard()
    cache.remove("k")
    for name in ("objects", "entries", "partial"):
        for path in sorted((cache.root / name).rglob("*"), reverse=True):
            path.rmdir()
        (cache.root / name).rmdir()
    assert cache.get("k") is None
    assert len(cache) == 0
    cache.put("k", b"x")
    assert cache.path("k").read_bytes() == b"x"


def test_a_name_is_made_however_often_its_directory_goes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another host does it that removes empty directories; an NFS client may even say that they are there."""
    tree = FileCache(tmp_path / "cache").tree
    path = tree.object("ab" * 32)
    made = os.mkdir
    left = 6

    def make(name: str, mode: int = 0o777) -> None:
        nonlocal left
        if name == path.rpartition("/")[0] and left:
            left -= 1
            if left % 2:
                raise FileExistsError(name)
            made(name, mode)
            Path(name).rmdir()
        else:
            made(name, mode)

    monkeypatch.setattr(os, "mkdir", make)
    tree.creating(path, Path(path).touch)
    assert Path(path).exists()
    assert left == 0


def test_bytes_whose_temporary_somebody_removed_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FileCache(tmp_path / "cache")
    cache.tree.nameless = False
    linked = os.link
    gone: list[str] = []

    def link(private: str, final: str, **how: Any) -> None:
        if not gone:
            gone.append(private)
            Path(private).unlink()
        linked(private, final, **how)

    monkeypatch.setattr(os, "link", link)
    entry = cache.put("key", b"data")
    assert gone
    assert cache.path("key").read_bytes() == b"data"
    assert entry.size == 4
