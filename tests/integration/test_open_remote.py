"""Files of a server read from Python where they are needed: through its death, when they change, when they go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from stager import AsyncClient, open_remote
from stager.cache.store import FileCache
from stager.client.remote_file import RemoteFile
from stager.errors import ConflictError, InputError, NotFoundError, ServerUnreachableError
from tests.support.ports import free_port
from tests.support.processes import ServerProcess

DATA = random.Random(9).randbytes((5 << 20) + 7)
DIGEST = sha256(DATA).hexdigest()


def server_at(root: Path, port: int) -> ServerProcess:
    return ServerProcess(root, "--port", str(port))


def token(root: Path) -> str:
    return (root / "state" / "token").read_text().strip()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("server")
    with server_at(root, free_port()) as running:
        FileCache(root / "cache").put("result:job/big", DATA)
        yield running


@pytest.mark.parametrize("word", [DIGEST, f"sha256:{DIGEST}", "result:job/big"])
def test_a_file_is_read_where_it_is_needed(server: ServerProcess, word: str) -> None:
    with open_remote(word, server.url, token(server.root)) as file:
        assert isinstance(file.raw, RemoteFile)
        assert (file.raw.sha256, file.raw.size) == (DIGEST, len(DATA))
        assert file.seek(-7, 2) == 5 << 20
        assert file.read() == DATA[-7:]
        file.seek(0)
        assert sha256(file.read()).hexdigest() == DIGEST


def test_what_is_not_there_is_said_at_once(server: ServerProcess) -> None:
    with pytest.raises(NotFoundError, match="nothing here"):
        open_remote("nothing here", server.url, token(server.root))
    with pytest.raises(InputError), server.client() as client:
        client.objects.block(DIGEST, DIGEST, len(DATA), len(DATA) + 1)


def test_an_empty_file_is_a_file(server: ServerProcess) -> None:
    FileCache(server.root / "cache").put("empty", b"")
    with open_remote("empty", server.url, token(server.root)) as file:
        assert file.read() == b""


def test_a_server_that_is_killed_is_waited_for_and_one_that_stays_away_is_an_error(tmp_path: Path) -> None:
    port = free_port()
    with server_at(tmp_path, port) as server:
        FileCache(tmp_path / "cache").put("k", DATA)
        file = open_remote("k", server.url, token(tmp_path), outage_seconds=60)
        other = open_remote("k", server.url, token(tmp_path), outage_seconds=0)
        assert file.read(100) == other.read(100) == DATA[:100]
        server.kill()
    other.seek(3 << 20)
    with other, pytest.raises(ServerUnreachableError):
        other.read(1)
    with server_at(tmp_path, port), file:
        assert file.read() == DATA[100:]


def test_a_key_that_gets_another_file_is_an_error_and_no_bytes_are_mixed(server: ServerProcess) -> None:
    cache = FileCache(server.root / "cache")
    cache.put("k", DATA)
    with open_remote("k", server.url, token(server.root)) as file:
        begun = file.read(10)
        cache.put("k", DATA[::-1])
        assert begun == DATA[:10]
        file.seek(4 << 20)
        with pytest.raises(ConflictError, match="changed while it was read"):
            file.read(1)


def test_an_event_loop_reads_blocks_too(server: ServerProcess) -> None:
    async def main() -> bytes:
        async with AsyncClient(server.url, token(server.root)) as client:
            found = await client.objects.look("result:job/big")
            assert (found.sha256, found.size) == (DIGEST, len(DATA))
            assert await client.objects.block(found.key, DIGEST, 5, 2_000_000) == DATA[5:2_000_000]
            return b"".join([block async for block in client.objects.read(DIGEST)])

    assert asyncio.run(main()) == DATA
