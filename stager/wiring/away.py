"""How a node that does not see the server's cache reaches the server."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from stager.cache.store import FileCache
from stager.client import Client
from stager.errors import DigestMismatchError, IncompleteError, ResultGoneError, StagerError
from stager.mapper.dispatch.away import is_final
from stager.model.events import DispatchOrder, JobEnded
from stager.model.uploads import PRINTED, RESULTS, Upload

log = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 20
PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
"""Between two attempts to bring something back to a server that is away."""


class Server:
    """See `ServerSide`; for several threads at once.

    Args:
        url: of the server.
        token: to show it.
        cache: the node's own, in which its jobs run.
    """

    def __init__(self, url: str, token: str, cache: FileCache) -> None:
        self._url = url
        self._token = token
        self._cache = cache

    def claim(self, job: str, epoch: int, node: str) -> str:
        """See `ServerSide.claim`."""
        with self._client() as client:
            return client.runs.claim(job, epoch, node)

    def holder(self, job: str, epoch: int) -> str | None:
        """See `ServerSide.holder`."""
        with self._client() as client:
            return client.runs.holder(job, epoch)

    def deliver(self, order: DispatchOrder, ended: JobEnded, given_up: Callable[[], bool]) -> bool:
        """See `ServerSide.deliver`."""
        with self._client() as client:
            return all(
                self._bring(client, upload, path, given_up) for upload, path in self._files(order, ended)
            )

    # -- parts -----------------------------------------------------------------------------------

    def _client(self) -> Client:
        return Client(self._url, self._token)

    def _files(self, order: DispatchOrder, ended: JobEnded) -> Iterator[tuple[Upload, Path]]:
        for result in ended.results:
            path = self._cache.object_path(result.sha256, restricted=order.restricted)
            name = RESULTS + result.name
            yield Upload(order.job, order.epoch, name, result.sha256, result.size, order.restricted), path
        directory = self._cache.job_dir(order.job)
        for name in PRINTED:
            path = directory / name
            if path.exists():
                yield Upload(order.job, order.epoch, name, *_digest(path)), path

    def _bring(self, client: Client, upload: Upload, path: Path, given_up: Callable[[], bool]) -> bool:
        pause, said = PAUSE_SECONDS, ""
        while not given_up():
            try:
                if self._send(client, upload, path):
                    return True
                error: StagerError = IncompleteError(f"{path} is shorter than {upload.size} bytes")
            except StagerError as met:
                if is_final(met):
                    raise
                error = met
            except FileNotFoundError:
                self._cache.check()
                if upload.is_printed:
                    return True  # the job itself removed it
                raise _lost(upload, "it is gone from the node") from None
            if isinstance(error, IncompleteError | DigestMismatchError):
                digest, size = _digest(path)
                if not upload.is_printed and digest != upload.sha256:
                    raise _lost(upload, "its bytes changed on the node")
                upload = replace(upload, sha256=digest, size=size)  # what the job left running prints still
            level = logging.DEBUG if error.transient or str(error) == said else logging.WARNING
            said = str(error)
            log.log(level, "%s of job %s is not brought back yet: %s", upload.name, upload.job, error)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        return False

    def _send(self, client: Client, upload: Upload, path: Path) -> bool:
        """Whether all of it is there now."""
        there = client.runs.look(upload)
        if there.complete:
            return True
        with path.open("rb") as file:
            file.seek(there.offset)
            blocks = _blocks(file, upload.size - there.offset)
            return client.runs.append(upload, there.offset, blocks).complete


def _lost(upload: Upload, cause: str) -> ResultGoneError:
    return ResultGoneError(
        f"{upload.name} of job {upload.job} can't be brought back",
        cause=cause,
        remedy="check the disk of the node, and submit the job anew",
    )


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """As many bytes, unless it ends before."""
    while block := file.read(min(size, BLOCK_BYTES)):
        size -= len(block)
        yield block


def _digest(path: Path) -> tuple[str, int]:
    """Of what it has now, and how much that is."""
    digest, size = sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size
