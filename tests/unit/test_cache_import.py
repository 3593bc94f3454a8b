from __future__ import annotations

import errno
import os
from collections.abc import Callable
from hashlib import md5, sha256
from pathlib import Path
from typing import Any, Never

import pytest

from stager.cache.adopt import Adopted, Adopter, Outcome
from stager.cache.importing import Import, Name, by_digest, by_path, by_url, find_manifest
from stager.cache.store import FileCache
from stager.clock import ManualClock
from stager.errors import CacheFullError, InputError
from stager.model.entries import Entry, Validators

LARGE = bytes(range(256)) * 8192  # more than a block
FILES = {
    "run-1.dat": b"one",
    "empty": b"",
    "sub/large.bin": LARGE,
    "sub/a b+c%d?.txt": b"odd name",
    "sub/deeper/ü.txt": b"umlaut",
    ".hidden": b"hidden",
}
URL = "https://data.example.org/2026/"
URLS = {
    "run-1.dat": f"{URL}run-1.dat",
    "empty": f"{URL}empty",
    "sub/large.bin": f"{URL}sub/large.bin",
    "sub/a b+c%d?.txt": f"{URL}sub/a%20b+c%25d%3F.txt",
    "sub/deeper/ü.txt": f"{URL}sub/deeper/%C3%BC.txt",
    ".hidden": f"{URL}.hidden",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    for name, data in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1e9, 1e9))
    return root


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache", remember=0)


def adopt(cache: FileCache, source: Path, name: Name | None = None, **options: Any) -> dict[str, Adopted]:
    where, manifest = find_manifest(str(source), options.pop("manifest", None))
    work = Import(cache, where, name or by_url(URL), manifest=manifest, threads=2, **options)
    done = {adopted.name: adopted for adopted in work}
    assert sum(work.counts.values()) == len(done)
    return done


def outcomes(done: dict[str, Adopted]) -> dict[str, Outcome]:
    return {name: adopted.outcome for name, adopted in done.items()}


def leftovers(cache: FileCache) -> list[Path]:
    return [path for path in (cache.root / "partial").rglob("*") if path.is_file()]


@pytest.fixture(params=["copied", "linked"])
def link(request: pytest.FixtureRequest) -> bool:
    linked: bool = request.param == "linked"
    return linked


def test_files_get_the_urls_that_they_were_downloaded_from(
    cache: FileCache, source: Path, link: bool
) -> None:
    done = adopt(cache, source, link=link, owner="site")
    assert set(outcomes(done).values()) == {Outcome.IMPORTED}
    assert {name: cache.path(url).read_bytes() for name, url in URLS.items()} == FILES
    assert len(cache) == len(FILES)
    entry = cache.lookup(URLS["sub/large.bin"])
    assert entry is not None
    assert (entry.object, entry.url, entry.owner) == (sha256(LARGE).hexdigest(), entry.key, "site")
    assert leftovers(cache) == []
    for name, url in URLS.items():
        path = cache.path(url)
        assert path.stat().st_mode & 0o777 == 0o444
        assert path.samefile(source / name) == link


def test_a_prefix_may_end_in_a_slash_or_not(cache: FileCache, source: Path) -> None:
    adopt(cache, source, by_url(URL.rstrip("/").upper()))
    assert cache.contains(URLS["run-1.dat"])


def test_what_is_there_already_is_not_read_again(
    cache: FileCache, source: Path, link: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt(cache, source, link=link)
    monkeypatch.setattr(Adopter, "_adopt", lambda *_: pytest.fail("it was read"))
    assert set(outcomes(adopt(cache, source, link=link)).values()) == {Outcome.PRESENT}


def test_a_file_that_changed_since_is_imported_again(cache: FileCache, source: Path) -> None:
    adopt(cache, source)
    (source / "run-1.dat").write_bytes(b"two")
    os.utime(source / "run-1.dat", (1e9, 1e9))  # as rsync would set it
    done = adopt(cache, source)
    assert done["run-1.dat"].outcome is Outcome.IMPORTED
    assert cache.path(URLS["run-1.dat"]).read_bytes() == b"two"


@pytest.mark.parametrize("new", [sha256, md5])
def test_a_file_that_is_not_what_its_manifest_says_is_named_and_not_imported(
    cache: FileCache, source: Path, link: bool, new: Any
) -> None:
    lines = [f"{new(data).hexdigest()}  {name}" for name, data in FILES.items() if name != "empty"]
    lines.append(f"{new(b'x').hexdigest()} *gone/away.dat")
    (source / "sub" / "large.bin").write_bytes(LARGE[:-1] + b"x")
    (source / f"{new().name.upper()}SUMS").write_text("\n".join(lines) + "\n")
    done = adopt(cache, source, link=link)
    bad = {name: outcome for name, outcome in outcomes(done).items() if outcome is not Outcome.IMPORTED}
    assert bad == {"sub/large.bin": Outcome.MISMATCH, "gone/away.dat": Outcome.MISSING}
    assert new(LARGE).hexdigest() in done["sub/large.bin"].reason
    assert not cache.contains(URLS["sub/large.bin"])
    assert cache.contains(URLS["empty"]), "the manifest says nothing of it"
    assert not cache.has_object(sha256(LARGE[:-1] + b"x").hexdigest())
    assert (source / "sub" / "large.bin").stat().st_mode & 0o200, "it was left alone"
    assert leftovers(cache) == []


def test_a_bag_is_verified_whole(cache: FileCache, source: Path, tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    bag.mkdir()
    source.rename(bag / "data")
    (bag / "bagit.txt").write_text("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
    named = {name: data for name, data in FILES.items() if name != ".hidden"}
    for new in (sha256, md5):
        lines = [f"{new(data).hexdigest()} data/{name.replace('%', '%25')}" for name, data in named.items()]
        (bag / f"manifest-{new().name}.txt").write_text("\n".join(lines))
    done = adopt(cache, bag)
    assert {name for name, one in done.items() if one.outcome is Outcome.IMPORTED} == set(named)
    assert done[".hidden"].outcome is Outcome.UNLISTED
    assert {name: cache.path(URLS[name]).read_bytes() for name in named} == named
    assert not cache.contains(URLS[".hidden"])
    assert not cache.contains(f"{URL}bagit.txt")


def test_what_can_not_be_imported_is_named_and_the_rest_goes_on(cache: FileCache, source: Path) -> None:
    (source / "link").symlink_to("run-1.dat")
    (source / "linked-directory").symlink_to("sub")
    os.mkfifo(source / "pipe")
    Path(os.fsdecode(os.fsencode(source) + b"/\xff.dat")).touch()
    done = adopt(cache, source)
    unfit = {name: one.reason for name, one in done.items() if one.outcome is Outcome.UNFIT}
    assert unfit == {
        "link": "a symbolic link",
        "linked-directory": "a symbolic link",
        "pipe": "not a regular file",
        "\\xff.dat": "its name is not UTF-8",
    }
    assert len(cache) == len(FILES)


def test_a_file_that_can_not_be_read_is_named(
    cache: FileCache, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refused(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("run-1.dat"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refused)
    done = adopt(cache, source)
    assert done["run-1.dat"] == Adopted("run-1.dat", Outcome.FAILED, reason="Permission denied")
    assert len(cache) == len(FILES) - 1


def test_a_file_that_grows_while_it_is_read_is_not_imported(
    cache: FileCache, source: Path, link: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, path = os.pread, source / "sub" / "large.bin"

    def growing(*arguments: Any) -> bytes:
        with path.open("ab") as file:
            file.write(b"more")
        return read(*arguments)

    monkeypatch.setattr(os, "pread", growing)
    monkeypatch.setattr(os, "copy_file_range", _refused)
    done = adopt(cache, source, link=link)
    assert done["sub/large.bin"].reason == "it changed while it was read"
    assert not cache.contains(URLS["sub/large.bin"])
    assert leftovers(cache) == []


def _refused(*_: object, **__: object) -> Never:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def test_a_full_disk_ends_the_import_and_leaves_nothing(
    cache: FileCache, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Never:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(CacheFullError, match="No space"):
        adopt(cache, source)
    assert leftovers(cache) == []
    monkeypatch.undo()
    adopt(cache, source)
    assert len(cache) == len(FILES)


def test_where_a_file_can_not_be_linked_it_says_why(
    cache: FileCache, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(*_: object, **__: object) -> Never:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", elsewhere)
    done = adopt(cache, source, link=True)
    assert {one.reason for one in done.values()} == {
        "it can't be linked: it is on another file system; import without links"
    }
    assert all((source / name).stat().st_mode & 0o200 for name in FILES), "they are left as they were"
    assert len(cache) == 0


def test_one_that_is_linked_alone_is_not_marked_as_shared(cache: FileCache, source: Path, link: bool) -> None:
    adopt(cache, source, link=link)
    assert list((cache.root / "objects").rglob("*.shared")) == []
    (source / "copy").write_bytes(FILES["run-1.dat"])
    adopt(cache, source, link=link)
    assert len(list((cache.root / "objects").rglob("*.shared"))) == 1


def test_what_came_from_the_origin_stays(cache: FileCache, source: Path) -> None:
    other = cache.put("x", b"from the origin")
    fetched = Entry(URLS["run-1.dat"], other.object, other.size, 1.0, validators=Validators(etag='"1"'))
    same = cache.put("y", FILES["empty"])
    cache.record(fetched)
    cache.record(Entry(URLS["empty"], same.object, 0, 1.0, validators=Validators(etag='"2"')))
    done = adopt(cache, source)
    assert done["run-1.dat"].outcome is Outcome.KEPT
    assert cache.lookup(URLS["run-1.dat"]) == fetched
    kept = cache.lookup(URLS["empty"])
    assert done["empty"].outcome is Outcome.IMPORTED
    assert kept is not None
    assert kept.validators.etag == '"2"', "what the origin said of it is not forgotten"


def test_paths_become_keys(cache: FileCache, source: Path) -> None:
    adopt(cache, source, by_path)
    assert {key: cache.path(key).read_bytes() for key in cache} == FILES


def test_files_named_by_their_digest_have_it_as_their_key(
    cache: FileCache, tmp_path: Path, link: bool
) -> None:
    root = tmp_path / "hashes"
    root.mkdir()
    good = {sha256(data).hexdigest(): data for data in FILES.values()}
    for name, data in good.items():
        (root / name).write_bytes(data)
    wrong = "0" * 64
    (root / wrong).write_bytes(b"not zero")
    (root / "README").write_bytes(b"what this is")
    for outcome in (Outcome.IMPORTED, Outcome.PRESENT):
        done = adopt(cache, root, by_digest, link=link)
        assert {done[name].outcome for name in good} == {outcome}
        assert done[wrong].outcome is Outcome.MISMATCH
        assert done["README"].outcome is Outcome.UNFIT
    assert {name: cache.object_path(name).read_bytes() for name in good} == good
    assert not cache.has_object(wrong)
    assert {key: cache.path(key).read_bytes() for key in cache} == {
        f"sha256:{name}": data for name, data in good.items()
    }


def test_the_entry_is_older_than_what_changes_while_it_is_made(cache: FileCache, source: Path) -> None:
    clock = ManualClock(2e9)
    adopt(cache, source, clock=clock)
    entry = cache.lookup(URLS["empty"])
    assert entry is not None
    assert entry.stored_at == 2e9


def test_a_prefix_that_is_none_is_refused(cache: FileCache, source: Path) -> None:
    for prefix in ("no url", "https://h/?q=1", "https://h/#f", "gopher://h/"):
        with pytest.raises(InputError):
            by_url(prefix)
    with pytest.raises(InputError, match="inside of the cache"):
        Import(cache, cache.root / "objects", by_path)
    with pytest.raises(InputError, match="can't read"):
        Import(cache, source / "nowhere", by_path)


def test_a_cache_in_the_directory_is_passed_over(source: Path) -> None:
    cache = FileCache(source / "cache")
    assert set(adopt(cache, source)) == set(FILES)


def test_an_import_that_nobody_listens_to_any_more_stops(cache: FileCache, source: Path) -> None:
    for number in range(500):
        (source / f"more-{number}").write_bytes(b"%d" % number)
    files = iter(Import(cache, source, by_path, threads=1))
    next(files)
    files.close()  # type: ignore[attr-defined]  # it is a generator
    assert 0 < len(cache) < 500
    assert leftovers(cache) == []


# -- whose file it is, who may read it, and what is swapped meanwhile ----------------------------------


def swap_when_read(monkeypatch: pytest.MonkeyPatch, path: Path, swap: Callable[[], object]) -> None:
    """Once the file at `path` has been read, something else is put there."""
    read, inode = os.pread, path.stat().st_ino

    def reading(fd: int, size: int, offset: int) -> bytes:
        data = read(fd, size, offset)
        if os.fstat(fd).st_ino == inode and path.exists() and path.lstat().st_ino == inode:
            path.rename(path.with_name("aside"))
            swap()
        return data

    monkeypatch.setattr(os, "pread", reading)


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A directory with one file."""
    path = tmp_path / "alone" / "a.dat"
    path.parent.mkdir()
    path.write_bytes(b"what was read")
    return path


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_put_at_the_path_of_a_file_that_was_read_does_not_become_the_object(
    cache: FileCache, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "other").write_bytes(b"something new")
    swap_when_read(
        monkeypatch,
        alone,
        lambda: (
            alone.symlink_to(tmp_path / "other") if kind == "link" else alone.write_bytes(b"something new")
        ),
    )
    adopt(cache, alone.parent, by_path, link=True)
    path = cache.path("a.dat")
    assert not path.is_symlink()
    assert path.read_bytes() == b"what was read"


def test_a_file_of_another_user_is_not_linked(
    cache: FileCache, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    done = adopt(cache, alone.parent, by_path, link=True)["a.dat"]
    assert done.outcome is Outcome.UNFIT
    assert done.reason == f"it belongs to uid {uid}, who could still change it: import without --link"
    assert len(cache) == 0
    assert adopt(cache, alone.parent, by_path)["a.dat"].outcome is Outcome.IMPORTED


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_file_that_not_everybody_may_read_is_imported_only_if_that_is_said(
    cache: FileCache, alone: Path, link: bool, mode: int
) -> None:
    alone.chmod(mode)
    done = adopt(cache, alone.parent, by_path, link=link)["a.dat"]
    assert done.outcome is Outcome.UNFIT
    assert f"its mode {mode:04o} does not let everybody read it" in done.reason
    assert "import with --readable" in done.reason
    assert alone.stat().st_mode & 0o777 == mode
    assert list((cache.root / "objects").rglob("*")) == []
    done = adopt(cache, alone.parent, by_path, link=link, readable=True)["a.dat"]
    assert done.outcome is Outcome.IMPORTED
    assert cache.path("a.dat").stat().st_mode & 0o777 == 0o444


def test_a_file_whose_bytes_are_there_already_is_left_as_it_is(cache: FileCache, alone: Path) -> None:
    cache.put("same", alone.read_bytes())
    alone.chmod(0o755)
    assert adopt(cache, alone.parent, by_path, link=True)["a.dat"].outcome is Outcome.IMPORTED
    assert alone.stat().st_mode & 0o777 == 0o755
    assert alone.stat().st_nlink == 1


def test_a_file_that_is_changed_while_it_is_linked_is_no_object(
    cache: FileCache, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked = os.link

    def changing(*arguments: Any, **options: Any) -> None:
        linked(*arguments, **options)
        alone.write_bytes(b"written after")

    monkeypatch.setattr(os, "link", changing)
    mode = alone.stat().st_mode
    done = adopt(cache, alone.parent, by_path, link=True)["a.dat"]
    assert done.reason == "it changed while it was read"
    assert alone.stat().st_mode == mode
    assert not cache.has_object(done.sha256)
