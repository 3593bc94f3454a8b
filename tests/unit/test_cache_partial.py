from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from stager.cache import claim as claim_module
from stager.cache import owner
from stager.cache.partial import Partial
from stager.cache.store import FileCache
from stager.errors import CacheError, CacheIOError

DEAD = 2**22 + 1
"""No process has this number: it is above the kernel's limit."""


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "c")


@pytest.fixture
def partials() -> Iterator[list[Partial]]:
    """Partials to discard at the end, so that no descriptor is left open."""
    made: list[Partial] = []
    yield made
    for partial in made:
        partial.discard()


def left(cache: FileCache) -> list[Path]:
    return sorted(p for p in (cache.root / "partial").rglob("*") if p.is_file())


def leave(
    cache: FileCache, data: bytes, who: str = "", *, sidecar: bool = True, suffix: str = "part"
) -> Path:
    """What an owner left behind; a dead one of this host unless `who` says otherwise."""
    who = who or f"{owner.here()}-{DEAD}-1-0"
    digest = sha256(b"k").hexdigest()
    directory = cache.root / "partial" / digest[:2]
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{digest}.1.{who}.{suffix}"
    path.write_bytes(data)
    if sidecar:
        path.with_suffix(".json").write_text('{"etag": "x"}')
    return path


def content(partial: Partial) -> bytes:
    return os.pread(partial.fd, 1000, 0)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


ELSEWHERE = "otherhost-00000000-1-1-0"


def test_a_fresh_partial_is_empty_private_and_locked(cache: FileCache, partials: list[Partial]) -> None:
    partials.append(partial := cache.claim_partial("k", 7))
    assert partial.size == 0
    assert partial.sidecar() is None
    assert partial.path.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"[0-9a-f]{64}\.7\.[\w-]+\.part", partial.path.name)
    with partial.path.open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_was_kept_is_taken_over_with_its_sidecar(cache: FileCache, partials: list[Partial]) -> None:
    first = cache.claim_partial("k", 1)
    first.write_sidecar({"etag": '"1"'})
    first.write_sidecar({"etag": '"2"'})
    os.write(first.fd, b"half")
    inode = first.path.stat().st_ino
    first.keep()
    first.keep()
    partials.append(second := cache.claim_partial("k", 2))
    assert (second.size, second.sidecar(), content(second)) == (4, {"etag": '"2"'}, b"half")
    assert second.path.stat().st_ino == inode, "bytes of our own are not copied"
    assert [p.suffix for p in left(cache)] == [".json", ".part"]


def test_another_key_takes_nothing(cache: FileCache, partials: list[Partial]) -> None:
    leave(cache, b"half")
    partials.append(partial := cache.claim_partial("another"))
    assert partial.size == 0


def test_an_empty_partial_is_not_kept(cache: FileCache) -> None:
    partial = cache.claim_partial("k")
    partial.write_sidecar({})
    partial.keep()
    assert left(cache) == []


def test_a_discarded_partial_leaves_nothing(cache: FileCache) -> None:
    partial = cache.claim_partial("k")
    partial.write_sidecar({})
    os.write(partial.fd, b"half")
    fd = partial.fd
    partial.discard()
    partial.discard()
    partial.keep()
    assert left(cache) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_partial_can_be_cut(cache: FileCache, partials: list[Partial]) -> None:
    partials.append(partial := cache.claim_partial("k"))
    os.write(partial.fd, b"12345")
    partial.truncate(2)
    assert content(partial) == b"12"
    partial.discard()
    with pytest.raises(CacheError, match="can't truncate"):
        partial.truncate(1)


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "\0"])
def test_an_unreadable_sidecar_is_none(cache: FileCache, partials: list[Partial], text: str) -> None:
    leave(cache, b"half").with_suffix(".json").write_text(text)
    partials.append(partial := cache.claim_partial("k"))
    assert partial.sidecar() is None


def test_a_sidecar_that_can_not_be_written_leaves_the_old_one(
    cache: FileCache, partials: list[Partial], monkeypatch: pytest.MonkeyPatch
) -> None:
    partials.append(partial := cache.claim_partial("k"))
    partial.write_sidecar({"a": 1})

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(CacheIOError, match="can't write"):
            partial.write_sidecar({"a": 2})
    assert partial.sidecar() == {"a": 1}
    assert [p.suffix for p in left(cache)] == [".json", ".part"]


# -- whose leftovers --------------------------------------------------------------------------------


def test_a_dead_owners_file_is_taken_over_in_place(cache: FileCache, partials: list[Partial]) -> None:
    path = leave(cache, b"half")
    inode = path.stat().st_ino
    partials.append(partial := cache.claim_partial("k"))
    assert (partial.size, partial.sidecar(), partial.path.stat().st_ino) == (4, {"etag": "x"}, inode)
    assert not path.exists()


@pytest.mark.parametrize("alive", [f"{os.getppid()}-{owner._start(os.getppid())}", "1-" + owner._start(1)])
def test_a_living_owner_keeps_its_file_even_without_its_lock(
    cache: FileCache, partials: list[Partial], alive: str
) -> None:
    path = leave(cache, b"half", f"{owner.here()}-{alive}-0")
    partials.append(partial := cache.claim_partial("k"))
    assert partial.size == 0
    assert path.read_bytes() == b"half"


def test_a_process_that_only_has_the_number_of_the_owner_is_not_the_owner(
    cache: FileCache, partials: list[Partial]
) -> None:
    leave(cache, b"half", f"{owner.here()}-{os.getppid()}-1-0")
    partials.append(partial := cache.claim_partial("k"))
    assert partial.size == 4


def test_two_of_one_process_never_share_a_file(cache: FileCache, partials: list[Partial]) -> None:
    partials.append(first := cache.claim_partial("k"))
    os.write(first.fd, b"half")
    partials.append(second := cache.claim_partial("k"))
    assert second.size == 0
    assert second.path != first.path
    assert content(first) == b"half"


def test_a_locked_file_of_another_host_is_left_alone(cache: FileCache, partials: list[Partial]) -> None:
    path = leave(cache, b"half", ELSEWHERE)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        partials.append(partial := cache.claim_partial("k"))
    assert partial.size == 0
    assert path.read_bytes() == b"half"


def test_bytes_of_another_host_are_copied_so_that_it_can_not_write_to_ours(
    cache: FileCache, partials: list[Partial]
) -> None:
    path = leave(cache, b"half", ELSEWHERE)
    with path.open("r+b", buffering=0) as living:
        partials.append(partial := cache.claim_partial("k"))
        assert (partial.size, partial.sidecar(), content(partial)) == (4, {"etag": "x"}, b"half")
        living.write(b"EVIL")
        assert content(partial) == b"half"
    assert not path.exists()
    assert not path.with_suffix(".json").exists()


def test_copying_works_where_the_kernel_does_not_help(
    cache: FileCache, partials: list[Partial], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    data = os.urandom(100)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    monkeypatch.setattr(claim_module, "_COPY_BYTES", 7)
    leave(cache, data, ELSEWHERE)
    partials.append(partial := cache.claim_partial("k"))
    assert (partial.size, content(partial)) == (100, data)


def test_bytes_whose_meaning_changes_while_they_are_copied_are_not_used(
    cache: FileCache, partials: list[Partial], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = leave(cache, b"half", ELSEWHERE)
    real = claim_module._copy

    def meanwhile(source: int, target: int) -> int:
        path.with_suffix(".json").write_text('{"etag": "new"}')
        return real(source, target)

    monkeypatch.setattr(claim_module, "_copy", meanwhile)
    partials.append(partial := cache.claim_partial("k"))
    assert (partial.size, partial.sidecar()) == (0, None)
    assert path.read_bytes() == b"half"


def test_an_empty_file_of_another_host_may_have_been_made_just_now(
    cache: FileCache, partials: list[Partial]
) -> None:
    path = leave(cache, b"", ELSEWHERE)
    partials.append(cache.claim_partial("k"))
    assert path.exists()


def test_the_best_leftover_is_taken_and_the_other_dead_ones_go(
    cache: FileCache, partials: list[Partial]
) -> None:
    leave(cache, b"much, but how to go on?", f"{owner.here()}-{DEAD}-1-1", sidecar=False)
    leave(cache, b"little", f"{owner.here()}-{DEAD}-1-2")
    leave(cache, b"the longest", f"{owner.here()}-{DEAD}-1-3")
    leave(cache, b"", f"{owner.here()}-{DEAD}-1-4")
    leave(cache, b"from a put", f"{owner.here()}-{DEAD}-1-5", suffix="tmp", sidecar=False)
    partials.append(partial := cache.claim_partial("k"))
    assert content(partial) == b"the longest"
    assert [p.suffix for p in left(cache)] == [".json", ".part"]


def test_foreign_files_are_left_alone(cache: FileCache, partials: list[Partial]) -> None:
    path = leave(cache, b"x", suffix="txt", sidecar=False)
    partials.append(partial := cache.claim_partial("k"))
    assert partial.size == 0
    assert path.exists()


def test_a_leftover_that_is_published_already_is_never_written_to(
    cache: FileCache, partials: list[Partial]
) -> None:
    entry = cache.put("object", b"whole")
    path = leave(cache, b"")
    path.unlink()
    os.link(cache.object_path(entry.object), path)
    partials.append(partial := cache.claim_partial("k"))
    assert content(partial) == b"whole"
    os.pwrite(partial.fd, b"EVIL", 0)
    partial.truncate(2)
    assert cache.path("object").read_bytes() == b"whole"
    assert cache.path("object").stat().st_nlink == 1
    assert not path.exists()


def test_of_many_that_claim_one_leftover_exactly_one_gets_it(cache: FileCache) -> None:
    for _ in range(30):
        leave(cache, b"half")
        gate = threading.Barrier(4)
        claimed: list[Partial] = []

        def claim(gate: threading.Barrier = gate, claimed: list[Partial] = claimed) -> None:
            gate.wait()
            claimed.append(cache.claim_partial("k"))

        threads = [threading.Thread(target=claim) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(p.size for p in claimed) == [0, 0, 0, 4]
        assert len({p.path.stat().st_ino for p in claimed}) == 4
        for partial in claimed:
            partial.discard()
        assert left(cache) == []


def test_of_many_that_claim_without_locks_exactly_one_gets_it(
    cache: FileCache, partials: list[Partial], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    leave(cache, b"half")
    foreign = leave(cache, b"half", ELSEWHERE)
    real, second = os.rename, []
    before = open_files()

    def raced(source: str, target: str) -> None:
        monkeypatch.setattr(os, "rename", real)
        second.append(cache.claim_partial("k"))
        real(source, target)

    monkeypatch.setattr(os, "rename", raced)
    partials.append(first := cache.claim_partial("k"))
    partials.extend(second)
    assert sorted([first.size, second[0].size]) == [0, 4]
    assert first.path != second[0].path
    assert open_files() == before + 2, "the loser has closed what it lost"
    assert foreign.exists(), "without locks nothing is known of another host"


# -- publishing ---------------------------------------------------------------------------------------


def test_publishing_gives_the_bytes_their_name_and_cleans_up(cache: FileCache) -> None:
    partial = cache.claim_partial("k")
    partial.write_sidecar({})
    os.write(partial.fd, b"data")
    path = cache.publish(partial, sha256(b"data").hexdigest(), 4)
    assert path.read_bytes() == b"data"
    assert path.stat().st_mode & 0o777 == 0o444
    assert path.stat().st_nlink == 1
    assert left(cache) == []
    partial.discard()
    partial.keep()


def test_publishing_what_is_there_changes_nothing(cache: FileCache) -> None:
    cache.put("other", b"data")
    inode = cache.path("other").stat().st_ino
    partial = cache.claim_partial("k")
    os.write(partial.fd, b"data")
    assert cache.publish(partial, sha256(b"data").hexdigest(), 4).stat().st_ino == inode
    assert left(cache) == []


def test_a_short_file_is_not_published(cache: FileCache) -> None:
    partial = cache.claim_partial("k")
    os.write(partial.fd, b"dat")
    with pytest.raises(CacheIOError, match="it has 3 bytes, 4 were written"):
        cache.publish(partial, sha256(b"data").hexdigest(), 4)
    assert not cache.has_object(sha256(b"data").hexdigest())
    assert left(cache) == []


def test_a_temporary_that_somebody_removed_fails_without_harm(cache: FileCache) -> None:
    partial = cache.claim_partial("k")
    os.write(partial.fd, b"data")
    partial.path.unlink()
    with pytest.raises(CacheIOError, match="removed by somebody else"):
        cache.publish(partial, sha256(b"data").hexdigest(), 4)
    assert not cache.has_object(sha256(b"data").hexdigest())


# -- owners -------------------------------------------------------------------------------------------


def test_every_owner_is_another_and_fits_in_a_file_name() -> None:
    owners = [owner.new_owner() for _ in range(100)]
    for one in owners:
        assert re.fullmatch(r"[A-Za-z0-9_]+-[0-9a-f]{8}-[0-9]+-[0-9]*-[0-9a-f]+", one)
        assert owner.is_here(one)
        assert owner.is_alive(one)
        owner.retire(one)
        assert not owner.is_alive(one)
    assert len(set(owners)) == 100


def test_a_process_that_ended_and_that_nobody_waited_for_is_not_alive() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        name = f"{owner.here()}-{process.pid}-{owner._start(process.pid)}-0"
        assert owner.is_alive(name)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not owner.is_alive(name)


def test_without_proc_a_running_process_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "_start", lambda _: "")
    assert owner.is_alive(f"{owner.here()}-{os.getppid()}--0")
    assert not owner.is_alive(f"{owner.here()}-{DEAD}--0")


@pytest.mark.parametrize("name", ["", "x", "a-b-c-d-e", "host-place-notanumber-1-0", f"h-p-{10**30}-1-0"])
def test_a_name_that_is_none_of_ours_is_no_crash(name: str) -> None:
    assert owner.is_alive(name) in {True, False}


def test_what_a_living_process_gave_up_is_gone_on_with_by_another_process_in_place(cache: FileCache) -> None:
    partial = cache.claim_partial("key", 1)
    os.write(partial.fd, b"half")
    partial.write_sidecar({"etag": '"1"'})
    inode = os.fstat(partial.fd).st_ino
    partial.keep()
    script = (
        "import os, sys; from stager.cache.store import FileCache\n"
        "partial = FileCache(sys.argv[1]).claim_partial('key', 2)\n"
        "print(partial.size, partial.sidecar(), os.fstat(partial.fd).st_ino)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(cache.root)], check=True, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[0] == f"4 {{'etag': '\"1\"'}} {inode}"


def test_what_was_given_up_while_another_try_was_at_work_goes_when_that_one_publishes(
    cache: FileCache,
) -> None:
    early = cache.claim_partial("key", 1)
    os.write(early.fd, b"half")
    late = cache.claim_partial("key", 2)
    assert late.size == 0
    early.keep()
    os.write(late.fd, b"whole")
    cache.publish(late, sha256(b"whole").hexdigest(), 5)
    assert [path for path in (cache.root / "partial").rglob("*") if path.is_file()] == []
