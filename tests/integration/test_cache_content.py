"""Files put into the cache and read from it: verified, a block at a time, whole or not at all."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import requests

from stager.cache.store import FileCache
from stager.errors import DigestMismatchError, InputError, NotFoundError
from tests.support.commandline import Here, run
from tests.support.processes import ServerProcess, environment

DATA = bytes(range(256)) * 40_000  # ten blocks, and more than a body may have elsewhere
DIGEST = sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def cache(server: ServerProcess) -> FileCache:
    return FileCache(server.root / "cache")


@pytest.fixture(params=["with a server", "without a server"])
def stager(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Here:
    root = request.getfixturevalue("server").root if request.param == "with a server" else tmp_path
    for name, value in environment(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return Here(capsys)


def token(server: ServerProcess) -> dict[str, str]:
    return {"Authorization": f"Bearer {(server.root / 'state' / 'token').read_text().strip()}"}


def leftovers(cache: FileCache) -> list[Path]:
    return [path for path in (cache.root / "partial").rglob("*") if path.is_file()]


def test_a_file_is_put_and_read_back_from_the_command_line(stager: Here) -> None:
    Path("model.bin").write_bytes(DATA)
    stored = stager("cache", "put", "models/7", "model.bin", "--sha256", DIGEST, "--owner", "ada")
    assert (stored.code, stored.lines) == (0, [DIGEST])
    entry = FileCache(os.environ["STAGER_CACHE_DIR"]).lookup("models/7")
    assert entry is not None
    assert (entry.object, entry.size, entry.owner) == (DIGEST, len(DATA), "ada")
    assert stager("cache", "get", "models/7").lines == ["7"]
    assert Path("7").read_bytes() == DATA
    assert stager("cache", "get", "models/7").code == 6, "a file that is there is not replaced"
    found = json.loads(stager("cache", "get", "models/7", "-o", "again", "--json").out)
    assert (found["path"], found["sha256"], found["size"]) == ("again", DIGEST, len(DATA))
    assert "models/7" in stager("cache", "ls").out


def test_what_is_not_what_was_announced_is_not_stored(stager: Here) -> None:
    Path("x").write_bytes(b"other")
    ended = stager("cache", "put", "wrong", "x", "--sha256", "0" * 64)
    assert ended.code == 1
    assert "was announced" in ended.error
    assert stager("cache", "get", "wrong").code == 3
    assert leftovers(FileCache(os.environ["STAGER_CACHE_DIR"])) == []


def test_keys_that_mean_something_else_are_refused(stager: Here) -> None:
    Path("x").write_bytes(b"x")
    for key in ("result:job/a", "object:" + "0" * 64, "a\nb", ""):
        assert stager("cache", "put", key, "x").code in {2, 3, 4}, key
    assert "can't be read" in stager("cache", "put", "k", "nowhere").error


def test_stdin_and_stdout_are_files_too(tmp_path: Path) -> None:
    import subprocess
    import sys

    variables = os.environ | environment(tmp_path)
    command = [sys.executable, "-m", "stager", "cache"]
    put = subprocess.run(
        [*command, "put", "k", "-"], input=DATA, env=variables, capture_output=True, check=True
    )
    assert put.stdout.decode().strip() == DIGEST
    got = subprocess.run([*command, "get", "k", "-o", "-"], env=variables, capture_output=True, check=True)
    assert got.stdout == DATA
    assert run("cache", "get", "k").code != 0, "of another cache"


def test_the_python_client_puts_and_gets(server: ServerProcess, cache: FileCache) -> None:
    with server.client() as client:
        blocks = (DATA[start : start + 65_536] for start in range(0, len(DATA), 65_536))
        stored = client.cache.put("https://h.test/big?token=secret", blocks, owner="ada")
        assert (stored.sha256, stored.size, stored.key) == (DIGEST, len(DATA), "https://h.test/big?token=***")
        with client.cache.get("https://h.test/big?token=secret") as (found, read):
            assert (found.sha256, b"".join(read)) == (DIGEST, DATA)
        with pytest.raises(DigestMismatchError):
            client.cache.put("k", [b"x"], sha256="0" * 64)
        with pytest.raises(InputError):
            client.cache.put("result:a/b", [b"x"])
        with pytest.raises(NotFoundError), client.cache.get("no such key") as (_, read):
            list(read)
        assert client.cache.show("https://h.test/big?token=secret").file.owner == "ada"
    assert not cache.contains("k")


def test_http_takes_the_digest_in_a_header_and_gives_it_back(server: ServerProcess) -> None:
    url = f"{server.url}/v1/cache/files/http%2Fdigest"
    right = base64.b64encode(sha256(b"body").digest()).decode()
    wrong = base64.b64encode(bytes(32)).decode()

    def put(digest: str) -> requests.Response:
        headers = token(server) | {"Repr-Digest": digest}
        return requests.put(url, data=b"body", headers=headers, timeout=60)

    assert put(f"sha-256=:{right}:").status_code == 201
    refused = put(f"sha-256=:{wrong}:")
    assert (refused.status_code, refused.json()["code"]) == (422, "digest-mismatch")
    assert put("sha-256=:!!!:").status_code in {201, 422}
    read = requests.get(f"{server.url}/v1/cache/content/http%2Fdigest", headers=token(server), timeout=60)
    assert (read.content, read.headers["Repr-Digest"]) == (b"body", f"sha-256=:{right}:")
    part = requests.get(
        f"{server.url}/v1/cache/content/http%2Fdigest",
        headers=token(server) | {"Range": "bytes=2-"},
        timeout=60,
    )
    assert (part.status_code, part.content) == (206, b"dy")
    assert requests.put(url, data=b"x", timeout=60).status_code == 401


def test_a_body_that_breaks_off_leaves_nothing(server: ServerProcess, cache: FileCache) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"PUT /v1/cache/files/broken HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5000000\r\n"
        head += f"Authorization: {token(server)['Authorization']}\r\n\r\n"
        connection.sendall(head.encode() + bytes(2_000_000))
    with server.client() as client:
        for _ in range(200):
            client.site.status()
            if not leftovers(cache):
                break
        assert leftovers(cache) == []
        with pytest.raises(NotFoundError):
            client.cache.show("broken")


def test_a_large_body_takes_no_memory_of_the_server(server: ServerProcess) -> None:
    size = 96 << 20
    with server.client() as client:
        client.cache.put("first", [b"x"])
        before = _peak(server.pid)
        stored = client.cache.put("large", (bytes(1 << 20) for _ in range(size >> 20)))
        assert stored.size == size
        with client.cache.get("large") as (_, blocks):
            assert sum(map(len, blocks)) == size
    assert _peak(server.pid) - before < 32 << 20


def _peak(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
