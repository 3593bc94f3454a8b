"""Answers that are files: a block at a time, and from any byte on."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping
from typing import BinaryIO

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

BLOCK_BYTES = 256 * 1024
"""Read and sent at once, whatever the size of the file."""
_FROM_ON = re.compile(r"bytes=(\d{1,19})-")


def bytes_answer(
    file: BinaryIO, sha256: str, size: int, *, if_none_match: str = "", range_: str = ""
) -> Response:
    """The bytes of a file that never changes, or those from a first one on.

    Args:
        file: open for reading; closed at the end.
        sha256: of all of it.
        size: of all of it.
        if_none_match: header of the request.
        range_: header of the request; any but ``bytes=N-`` is answered with all of it, as HTTP allows.
    """
    digest = base64.b64encode(bytes.fromhex(sha256)).decode()
    headers = {
        "ETag": f'"{sha256}"',
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes",
        "Content-Disposition": "attachment",  # a page that a job wrote is not shown as one of ours
    }
    if headers["ETag"] in if_none_match:
        file.close()
        return Response(status_code=304, headers=headers)
    wanted = _FROM_ON.fullmatch(range_.strip())
    if wanted is None:
        return FileAnswer(file, size, "application/octet-stream", headers)
    first = int(wanted[1])
    if first >= size:
        file.close()
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    file.seek(first)
    headers["Content-Range"] = f"bytes {first}-{size - 1}/{size}"
    return FileAnswer(file, size - first, "application/octet-stream", headers, status_code=206)


class FileAnswer(StreamingResponse):
    """The next `size` bytes of an open file, a block at a time; the file is closed at the end.

    Args:
        file: open for reading, at the first byte to send.
        size: bytes to send; the file has at least as many.
        media_type: of the answer.
        headers: more of them.
        status_code: of the answer.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        media_type: str,
        headers: Mapping[str, str] | None = None,
        status_code: int = 200,
    ) -> None:
        self._file = file
        self._size = size
        super().__init__(self._blocks(), status_code, headers, media_type)
        self.headers["Content-Length"] = str(size)

    async def _blocks(self) -> AsyncIterator[bytes]:
        left = self._size
        while left and (block := await run_in_threadpool(self._file.read, min(BLOCK_BYTES, left))):
            left -= len(block)
            yield block

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        with self._file:
            await super().__call__(scope, receive, send)
