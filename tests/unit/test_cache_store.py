from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest

from stager.cache import nameless
from stager.cache.entries import EntryFiles
from stager.cache.store import RECHECK_SECONDS, FileCache
from stager.cache.writer import BLOCK_BYTES
from stager.clock import ManualClock
from stager.errors import CacheFullError, InputError, NotFoundError
from stager.model.entries import Entry, Validators
from stager.model.keys import key_digest


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["nameless", "named"])
def cache(
    tmp_path: Path, clock: ManualClock, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> FileCache:
    """With files that have no name until they are complete, and, as on NFS, without."""
    if request.param == "named":
        monkeypatch.setattr(nameless, "_FLAGS", 0)
    return FileCache(tmp_path / "c", clock=clock)


def other(cache: FileCache) -> FileCache:
    """What another process would have."""
    return FileCache(cache.root, clock=cache._clock)


def unfinished(cache: FileCache) -> list[Path]:
    return [p for p in (cache.root / "partial").rglob("*") if p.is_file()]


def link_of(cache: FileCache, key: str) -> Path:
    return Path(cache.tree.link(digest(key.encode())))


def entry_of(cache: FileCache, key: str) -> Path:
    return Path(cache.tree.entry(digest(key.encode())))


# -- files by key ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["", "k", "https://host/a?b=c", "../../etc/passwd", "\0", "ü" * 9999, "\ud800"]
)
def test_any_text_is_a_key(cache: FileCache, key: str) -> None:
    cache.put(key, b"data")
    assert key in cache
    assert other(cache).path(key).read_bytes() == b"data"
    assert list(cache) == [key]


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 7])
def test_every_kind_of_source_gives_the_same_object(cache: FileCache, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "source").write_bytes(data)
    entries = [
        cache.put("bytes", data),
        cache.put("bytearray", bytearray(data)),
        cache.put("view", memoryview(data)),
        cache.put("text path", str(tmp_path / "source")),
        cache.put("path", tmp_path / "source"),
        cache.put("file", io.BytesIO(data)),
    ]
    assert {(e.object, e.size) for e in entries} == {(digest(data), size)}
    assert {cache.path(e.key) for e in entries} == {cache.object_path(digest(data))}
    assert cache.path("file").read_bytes() == data
    assert unfinished(cache) == []


def test_an_entry_says_when_and_what(cache: FileCache, clock: ManualClock) -> None:
    assert cache.put("k", b"12345") == Entry("k", digest(b"12345"), 5, clock.time())
    assert cache.lookup("k") == Entry("k", digest(b"12345"), 5, clock.time())


def test_a_missing_key_is_none_or_an_error(cache: FileCache) -> None:
    assert cache.get("no") is None
    assert cache.lookup("no") is None
    assert not cache.contains("no")
    assert 7 not in cache
    assert cache.last_access("no") is None
    assert cache.remove("no") is False
    for ask in (cache.path, cache.open):
        with pytest.raises(NotFoundError, match="'no' is not in the cache"):
            cast("Callable[[str], object]", ask)("no")


def test_a_source_that_can_not_be_read_is_the_callers_fault(cache: FileCache, tmp_path: Path) -> None:
    for source in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match="can't read"):
            cache.put("k", source)
    assert list(cache) == []
    assert unfinished(cache) == []


def test_a_source_that_breaks_leaves_what_was_there(cache: FileCache) -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise ConnectionError("broken")
            return super().read(size)

    cache.put("k", b"old")
    with pytest.raises(ConnectionError):
        cache.put("k", Breaking(bytes(2 * BLOCK_BYTES)))
    assert cache.path("k").read_bytes() == b"old"
    assert unfinished(cache) == []


def test_a_replaced_key_has_the_new_bytes_and_the_old_object_stays(cache: FileCache) -> None:
    cache.put("k", b"old")
    old = cache.path("k")
    cache.put("k", b"new")
    assert cache.path("k").read_bytes() == b"new"
    assert old.read_bytes() == b"old"
    assert len(cache) == 1


def test_an_object_can_not_be_written_to(cache: FileCache) -> None:
    cache.put("k", b"data")
    assert cache.path("k").stat().st_mode & 0o777 == 0o444


def test_another_mode_is_refused(cache: FileCache) -> None:
    with pytest.raises(InputError, match="'ab'"):
        cache.open("k", "ab")  # type: ignore[arg-type]


# -- writing ------------------------------------------------------------------------------------------


def test_what_is_written_appears_at_close_and_not_before(cache: FileCache) -> None:
    file = cache.open("k", "wb")
    assert file.writable()
    for _ in range(5):
        assert file.write(bytes(BLOCK_BYTES // 2 + 1)) == BLOCK_BYTES // 2 + 1
    assert file.tell() == 5 * (BLOCK_BYTES // 2 + 1)
    file.flush()
    assert cache.get("k") is None
    file.close()
    file.close()
    assert cache.path("k").stat().st_size == 5 * (BLOCK_BYTES // 2 + 1)
    assert cache.lookup("k") == Entry(
        "k", digest(bytes(5 * (BLOCK_BYTES // 2 + 1))), 5 * (BLOCK_BYTES // 2 + 1), cache._clock.time()
    )
    assert unfinished(cache) == []
    with pytest.raises(ValueError, match="closed"):
        file.write(b"x")


def test_an_exception_while_writing_publishes_nothing(cache: FileCache) -> None:
    def fail() -> None:
        with cache.open("k", "wb") as file:
            file.write(bytes(BLOCK_BYTES))
            file.write(b"half")
            raise RuntimeError("the writer gave up")

    with pytest.raises(RuntimeError, match="gave up"):
        fail()
    assert cache.get("k") is None
    assert list((cache.root).glob("objects/*/*/*")) == []
    assert unfinished(cache) == []


def test_a_dropped_writer_publishes_nothing_and_says_so(cache: FileCache) -> None:
    dropped = [cache.open("k", "wb")]
    dropped[0].write(b"half")
    with pytest.warns(ResourceWarning, match="not closed: nothing is published"):
        dropped.clear()
    assert cache.get("k") is None
    assert unfinished(cache) == []


def test_a_writer_takes_what_text_wrappers_and_views_give_it(cache: FileCache) -> None:
    with io.TextIOWrapper(cache.open("k", "wb"), encoding="utf-8") as text:
        text.write("grüße\n")
    with cache.open("v", "wb") as file:
        file.write(memoryview(bytes(8)).cast("I"))
    assert cache.path("k").read_text("utf-8") == "grüße\n"
    assert cache.path("v").read_bytes() == bytes(8)


# -- reading ------------------------------------------------------------------------------------------


def test_an_open_file_stays_readable_when_its_key_goes(cache: FileCache) -> None:
    cache.put("k", b"data")
    with cache.open("k") as file:
        cache.remove("k")
        assert file.read() == b"data"


def test_a_removal_by_another_process_is_noticed_within_a_second(
    cache: FileCache, clock: ManualClock
) -> None:
    cache.put("k", b"data")
    assert cache.get("k")
    other(cache).remove("k")
    clock.advance(RECHECK_SECONDS)
    assert cache.get("k") is None
    assert RECHECK_SECONDS <= 1.0


def test_a_change_by_another_process_is_noticed_within_a_second(cache: FileCache, clock: ManualClock) -> None:
    cache.put("k", b"old")
    assert cache.path("k").read_bytes() == b"old"
    other(cache).put("k", b"new")
    clock.advance(RECHECK_SECONDS)
    assert cache.path("k").read_bytes() == b"new"


def test_opening_what_another_process_just_removed_looks_again(cache: FileCache) -> None:
    cache.put("k", b"data")
    assert cache.get("k")
    other(cache).remove("k")
    with pytest.raises(NotFoundError):
        cache.open("k")
    cache.put("k", b"data")
    assert cache.get("k")
    other(cache).remove("k")
    other(cache).put("k", b"again")
    with cache.open("k") as file:
        assert file.read() == b"again"


def test_a_hit_in_memory_asks_the_file_system_nothing(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("k", b"data")
    path = cache.get("k")
    monkeypatch.setattr(os, "readlink", None)
    monkeypatch.setattr(os, "access", None)
    monkeypatch.setattr(os, "open", None)
    assert cache.get("k") is path


def test_no_more_keys_are_remembered_than_asked_for(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c", remember=10)
    for number in range(50):
        cache.put(str(number), b"x")
        assert cache.get(str(number))
        assert len(cache._seen) <= 10
    assert len(cache._seen) >= 5
    forgetful = FileCache(tmp_path / "c", remember=0)
    assert all(forgetful.get(str(number)) for number in range(50))
    assert len(forgetful._seen) == 0


def test_threads_share_a_cache(cache: FileCache) -> None:
    cache = FileCache(cache.root, remember=16)
    failures: list[object] = []

    def work(number: int) -> None:
        for i in range(150):
            key = str((i * (number + 1)) % 40)
            cache.put(key, key.encode())
            found = cache.get(key)
            if found is None or found.read_bytes() != key.encode():
                failures.append(key)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(cache) == 40
    assert unfinished(cache) == []


# -- the entry and its link ----------------------------------------------------------------------------


def test_the_json_is_the_truth_and_a_lookup_puts_the_link_right(cache: FileCache) -> None:
    old = cache.put("k", b"old")
    cache.path("k")
    target = link_of(cache, "k").readlink()
    new = cache.put("k", b"new")
    link_of(cache, "k").symlink_to(target)  # as a reader on another host can leave it
    assert other(cache).path("k").read_bytes() == b"old"  # complete, verified, and a moment old
    assert other(cache).lookup("k") == new != old
    assert other(cache).path("k").read_bytes() == b"new"


def test_a_writer_that_dies_after_the_entry_leaves_no_link_to_the_old_object(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*names: str) -> None:
        rename(*names)
        raise KeyboardInterrupt

    cache.put("k", b"old")
    cache.path("k")
    rename = os.rename
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            cache.put("k", b"new")
    assert other(cache).path("k").read_bytes() == b"new"


@pytest.mark.parametrize("look_up", [FileCache.get, FileCache.lookup])
def test_the_link_is_made_by_the_first_who_asks(
    cache: FileCache, look_up: Callable[[FileCache, str], object]
) -> None:
    cache.put("k", b"data")
    assert not link_of(cache, "k").is_symlink()
    look_up(other(cache), "k")
    assert link_of(cache, "k").resolve().read_bytes() == b"data"


def interrupt(patch: pytest.MonkeyPatch, name: str, act: Callable[[], object]) -> None:
    """Let somebody else `act` just before the next call of that `os` function (not within `act`)."""
    real = getattr(os, name)

    def call(*args: object, **kwargs: object) -> object:
        patch.setattr(os, name, real)
        act()
        return real(*args, **kwargs)

    patch.setattr(os, name, call)


def test_a_reader_whose_entry_is_replaced_meanwhile_leaves_no_link_to_the_old_object(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("k", b"old")
    interrupt(monkeypatch, "symlink", lambda: other(cache).put("k", b"new"))
    assert other(cache).path("k").read_bytes() == b"old"
    assert other(cache).path("k").read_bytes() == b"new"


def test_a_reader_whose_entry_is_removed_meanwhile_leaves_no_link(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("k", b"data")
    cache.put("another key", b"data")
    interrupt(monkeypatch, "symlink", lambda: other(cache).remove("k"))
    other(cache).get("k")
    assert "k" not in other(cache)


def test_a_link_that_a_reader_makes_while_the_entry_is_replaced_goes(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("k", b"old")
    entry = Entry("k", digest(b"new"), 3, 1.0)
    cache.publish_bytes("k", b"new", entry.object)
    interrupt(monkeypatch, "rename", lambda: other(cache).path("k"))
    cache.record(entry)
    assert other(cache).path("k").read_bytes() == b"new"


def test_a_link_that_a_reader_makes_while_the_entry_is_removed_goes(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put("k", b"data")
    cache.put("another key", b"data")
    interrupt(monkeypatch, "unlink", lambda: other(cache).path("k"))
    assert cache.remove("k")
    assert "k" not in other(cache)


def test_a_link_whose_entry_somebody_deleted_does_not_outlive_the_next_entry(cache: FileCache) -> None:
    cache.put("k", b"old")
    cache.path("k")
    entry_of(cache, "k").unlink()
    cache.put("k", b"new")
    assert other(cache).path("k").read_bytes() == b"new"


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../../layout.json", "nowhere", "../../../objects/../layout.json"]
)
def test_a_link_to_elsewhere_is_not_followed(cache: FileCache, target: str) -> None:
    cache.put("k", b"data")
    link_of(cache, "k").symlink_to(target)
    found = other(cache).get("k")
    assert found is not None
    assert found.read_bytes() == b"data"


def test_a_torn_entry_without_a_link_is_no_entry(cache: FileCache) -> None:
    cache.put("k", b"data")
    for text in (b"", b"{", b'{"version":1}', b'{"version":99,"key":"k"}', os.urandom(100)):
        entry_of(cache, "k").write_bytes(text)
        fresh = other(cache)
        assert fresh.lookup("k") is None
        assert fresh.get("k") is None
        assert list(fresh) == []
    cache.put("k", b"again")
    assert cache.path("k").read_bytes() == b"again"


def test_an_entry_of_another_key_is_not_believed(cache: FileCache) -> None:
    cache.put("a", b"data")
    cache.put("b", b"other")
    entry_of(cache, "b").write_bytes(entry_of(cache, "a").read_bytes())
    assert other(cache).lookup("b") is None


def test_a_lost_or_truncated_object_is_no_hit(cache: FileCache) -> None:
    cache.put("k", b"data")
    cache.path("k").chmod(0o644)
    cache.path("k").write_bytes(b"dat")
    assert other(cache).lookup("k") is None
    cache.path("k").unlink()
    assert other(cache).lookup("k") is None
    assert other(cache).get("k") is None
    assert list(cache) == []
    assert len(cache) == 0


def test_publishing_replaces_an_object_of_the_wrong_size(cache: FileCache) -> None:
    cache.put("k", b"data")
    cache.path("k").chmod(0o644)
    cache.path("k").write_bytes(b"dat")
    cache.put("k", b"data")
    assert cache.path("k").read_bytes() == b"data"
    assert cache.path("k").stat().st_mode & 0o777 == 0o444


def test_everything_the_origin_said_survives_in_the_entry(cache: FileCache) -> None:
    stored = cache.put("x", b"data")
    entry = Entry(
        "https://host/a",
        stored.object,
        4,
        1.5,
        2.5,
        "https://host/a",
        Validators('"e"', "Mon", "Tue"),
        "text/plain",
        "gzip",
        True,
    )
    cache.record(entry)
    assert other(cache).lookup("https://host/a") == entry


def test_a_restricted_entry_is_not_served_from_the_public_objects(cache: FileCache) -> None:
    stored = cache.put("x", b"data")
    EntryFiles(cache.tree).write(Entry("r", stored.object, 4, 1.0, restricted=True), key_digest("r"))
    assert cache.get("r") is None
    assert cache.lookup("r") is None


# -- listing and removing ------------------------------------------------------------------------------


def test_foreign_files_are_passed_over(cache: FileCache) -> None:
    cache.put("k", b"data")
    leaf = entry_of(cache, "k").parent
    (leaf / "README").write_text("x")
    (leaf / (entry_of(cache, "k").name + ".host-1-2-3-4")).write_text("{")
    (leaf / "not-a-digest.json").write_text("{}")
    (leaf / ("0" * 64 + ".json")).write_text("{}")
    (cache.root / "entries" / "lost+found").mkdir()
    (cache.root / "entries" / "aa").write_text("a file where a shard could be")
    assert list(cache) == ["k"]
    assert len(cache) == 1


def test_a_listing_can_be_left_half_way(cache: FileCache) -> None:
    for number in range(5):
        cache.put(str(number), b"x")
    assert next(iter(cache)) in "01234"


def test_removing_a_key_gives_its_space_back(cache: FileCache) -> None:
    entry = cache.put("k", b"data")
    assert cache.remove("k")
    assert not cache.has_object(entry.object)
    assert not cache.remove("k")
    assert cache.get("k") is None


def test_removing_a_key_leaves_the_bytes_of_another_key(cache: FileCache) -> None:
    cache.put("a", b"same")
    cache.put("b", b"same")
    assert cache.remove("a")
    assert cache.get("a") is None
    assert cache.path("b").read_bytes() == b"same"
    assert cache.remove("b")


def test_putting_the_same_again_does_not_make_the_object_shared(cache: FileCache) -> None:
    entry = cache.put("k", b"data")
    cache.put("k", b"data")
    other(cache).put("k", b"data")
    cache.remove("k")
    assert not cache.has_object(entry.object)


def test_a_key_recorded_by_another_process_is_not_robbed(cache: FileCache) -> None:
    entry = cache.put("a", b"same")
    other(cache).record(Entry("b", entry.object, entry.size, 1.0))
    cache.remove("a")
    assert cache.path("b").read_bytes() == b"same"


def test_an_object_recorded_again_after_it_was_lost_is_still_shared_with_later_keys(cache: FileCache) -> None:
    entry = cache.put("a", b"same")
    cache.object_path(entry.object).unlink()
    cache.put("a", b"same")
    cache.put("b", b"same")
    cache.remove("b")
    assert cache.path("a").read_bytes() == b"same"


def test_removing_a_key_leaves_the_inputs_of_jobs(cache: FileCache) -> None:
    entry = cache.put("k", b"data")
    path = cache.pin("job", "input.dat", entry.object, entry.size)
    cache.remove("k")
    assert path.read_bytes() == b"data"
    assert cache.has_object(entry.object, 4)


# -- the rest ------------------------------------------------------------------------------------------


def test_an_object_is_known_by_its_digest_and_size(cache: FileCache) -> None:
    entry = cache.put("k", b"data")
    assert cache.has_object(entry.object)
    assert cache.has_object(entry.object, 4)
    assert not cache.has_object(entry.object, 5)
    assert not cache.has_object(digest(b"no"))
    assert cache.object_path(entry.object.upper()) == cache.path("k")
    with pytest.raises(InputError):
        cache.object_path("../../etc/passwd")


def test_where_links_are_refused_everything_works_by_renaming(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "symlink", refuse)
    cache = FileCache(cache.root.parent / "without links")
    cache.put("k", b"data")
    with cache.open("w", "wb") as file:
        file.write(b"more")
    partial = cache.claim_partial("p")
    os.write(partial.fd, b"bytes")
    cache.publish(partial, digest(b"bytes"), 5)
    cache.record(Entry("p", digest(b"bytes"), 5, 1.0))
    for key, data in {"k": b"data", "w": b"more", "p": b"bytes"}.items():
        assert other(cache).path(key).read_bytes() == data
    assert unfinished(cache) == []
    cache.put("k", b"data")
    assert sorted(cache) == ["k", "p", "w"]
    assert cache.remove("k")


@pytest.mark.parametrize("call", ["open", "link"])
def test_where_files_need_a_name_that_is_found_out_once(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    asked = []
    real = getattr(os, call)

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        flags = args[0]
        if kwargs or (isinstance(flags, int) and flags & os.O_TMPFILE == os.O_TMPFILE):
            asked.append(name)
            raise OSError(95, "Operation not supported")
        return real(name, *args)

    monkeypatch.setattr(os, call, refuse)
    for key in ("a", "b", "c"):
        cache.put(key, key.encode())
    assert [other(cache).path(key).read_bytes() for key in "abc"] == [b"a", b"b", b"c"]
    assert len(asked) <= 1
    assert unfinished(cache) == []


def test_without_proc_files_get_a_name(cache: FileCache, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(source: str, target: str, **kwargs: object) -> None:
        if kwargs:
            raise FileNotFoundError(2, "No such file or directory")
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    cache.put("k", b"data")
    assert cache.path("k").read_bytes() == b"data"
    assert unfinished(cache) == []


def test_a_small_body_leaves_no_trace_in_the_place_of_unfinished_files(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c")
    cache.put("k", b"data")
    assert not (cache.root / "partial").exists()


def test_an_error_names_the_path_the_cause_and_the_way_out(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(
        CacheFullError, match=r"can't store .*/objects/.*: No space left on device; make room"
    ) as caught:
        cache.put("k", b"data")
    assert caught.value.details["path"].startswith(str(cache.root))


# -- what survives a power cut ----------------------------------------------------------------------------


@pytest.fixture
def durable(monkeypatch: pytest.MonkeyPatch) -> tuple[set[int], set[str]]:
    """Inodes whose bytes are synced, and paths whose names are, filled as they become so."""
    inodes, paths = set[int](), set[str]()
    fsync = os.fsync

    def noting(fd: int) -> None:
        fsync(fd)
        inodes.add(os.fstat(fd).st_ino)
        path = Path(f"/proc/self/fd/{fd}").resolve()
        if path.is_dir():
            paths.update(str(one) for one in path.iterdir())

    monkeypatch.setattr(os, "fsync", noting)
    return inodes, paths


@pytest.mark.parametrize("before", [None, b"before"])
def test_a_result_is_durable_once_it_is_put(
    cache: FileCache, durable: tuple[set[int], set[str]], before: bytes | None
) -> None:
    if before is not None:
        cache.put("result:job/a", before)
    inodes, paths = durable
    paths.clear()
    cache.put("result:job/a", b"data", keep_until=1e10)
    entry, content = cache.tree.entry(key_digest("result:job/a")), cache.path("result:job/a")
    assert {entry, str(content)} <= paths
    assert {Path(entry).stat().st_ino, content.stat().st_ino} <= inodes


def test_the_entry_of_an_input_costs_no_sync(cache: FileCache, durable: tuple[set[int], set[str]]) -> None:
    cache.put("k", b"data")
    inodes, paths = durable
    entry = cache.tree.entry(key_digest("k"))
    assert entry not in paths
    assert Path(entry).stat().st_ino not in inodes


@pytest.mark.parametrize("done", [True, False], ids=["it was renamed", "it was cleared away"])
def test_an_entry_whose_draft_is_gone_is_written_again(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    cache.put("k", b"old")
    real, left = os.rename, [1]

    def rename(old: str, new: str) -> None:
        if ".json." in old and left:
            left.clear()
            real(old, new) if done else Path(old).unlink()
            raise FileNotFoundError(2, "No such file or directory", old)
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    cache.put("k", b"new")
    assert not left
    assert cache.path("k").read_bytes() == b"new"
    assert list((cache.root / "entries").rglob("*.json.*")) == []


@pytest.mark.parametrize("name", [".tmp", ".json."], ids=["bytes", "entry"])
def test_a_private_file_that_nfs_says_exists_as_it_repeats_our_call_is_made_under_another_name(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    cache.put("k", b"old")
    cache.tree.nameless = False
    real, left = os.open, [1]

    def repeated(path: str, flags: int, *rest: Any, **more: Any) -> int:
        if left and name in str(path) and flags & os.O_EXCL:
            left.clear()
            os.close(real(path, flags, *rest, **more))
            raise FileExistsError(17, "File exists", path)
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", repeated)
    cache.put("k", b"new")
    assert not left
    assert cache.path("k").read_bytes() == b"new"
