"""A disk that is really full, and a file larger than memory should hold."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from stager.cache.store import FileCache
from stager.errors import CacheFullError
from tests.support.needs import needs

MEGABYTE = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    needs(os.geteuid() == 0, "root, to mount a small file system")
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "none", path], capture_output=True, check=False
    )
    needs(done.returncode == 0, f"the right to mount: {done.stderr.decode()}")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_is_an_error_that_leaves_no_trace(small_disk: Path) -> None:
    cache = FileCache(small_disk / "c")
    cache.put("kept", bytes(MEGABYTE))
    too_much = os.urandom(5 * MEGABYTE)
    with pytest.raises(CacheFullError, match=r"No space left on device; make room"):
        cache.put("bytes", too_much)
    with pytest.raises(CacheFullError), cache.open("file", "wb") as file:
        file.write(too_much)
    assert list(cache) == ["kept"]
    assert [p for p in (cache.root / "partial").rglob("*") if p.is_file()] == []
    cache.put("fits", bytes(2 * MEGABYTE))
    assert cache.path("fits").stat().st_size == 2 * MEGABYTE


def write_until_full(fd: int, data: bytes) -> int:
    done = 0
    try:
        while done < len(data):
            done += os.pwrite(fd, data[done : done + 65536], done)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    assert done < len(data)
    return done


def test_a_fetch_that_filled_the_disk_goes_on_when_there_is_room(small_disk: Path) -> None:
    cache = FileCache(small_disk / "c")
    (small_disk / "ballast").write_bytes(bytes(2 * MEGABYTE))
    data = os.urandom(3 * MEGABYTE)
    partial = cache.claim_partial("k")
    partial.write_sidecar({"etag": "x"})
    done = write_until_full(partial.fd, data)
    partial.keep()
    assert done > MEGABYTE
    (small_disk / "ballast").unlink()
    partial = cache.claim_partial("k", 2)
    assert partial.size >= done
    os.pwrite(partial.fd, data[done:], done)
    digest = sha256(data).hexdigest()
    assert sha256(cache.publish(partial, digest, len(data)).read_bytes()).hexdigest() == digest


PEAK = """
import io, resource, sys
from stager.cache.store import FileCache

class Source(io.RawIOBase):
    left = 300
    def read(self, size=-1):
        assert size <= 1 << 20
        self.left -= 1
        return bytes(1 << 20) if self.left >= 0 else b""

cache = FileCache(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if sys.argv[2] == "stream":
    assert cache.put("k", Source()).size == 300 << 20
elif sys.argv[2] == "path":
    assert cache.put("k", sys.argv[3]).size == 300 << 20
else:
    with cache.open("k", "wb") as file:
        for _ in range(300 * 64):
            file.write(bytes(1 << 14))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("how", ["stream", "path", "write"])
def test_memory_stays_bounded_for_a_large_file(tmp_path: Path, how: str) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(300 * MEGABYTE)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path / "c", how, source],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 16, "megabytes above what the program needs anyway"
