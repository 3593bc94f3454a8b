"""Answers that are files: whole or in parts, under conditions, sent by the kernel where that can be."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO
from urllib.parse import quote

from fastapi import Depends, Header, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from stager.errors import CacheIOError, ConflictError, InputError
from stager.server.conditions import Asked, RangesRefusedError, Span
from stager.server.problems import problem
from stager.server.sendfile import EXTENSION

BLOCK_BYTES = 256 * 1024
"""Read and sent at once, whatever the size of the file; the kernel sends what is larger, where it can."""
MEDIA_TYPE = "application/octet-stream"
_TO_NGINX = "X-Accel-Redirect"
_FOR_OTHERS = 0o004


async def _asked(
    request: Request,
    range_: Annotated[
        str, Header(alias="Range", description="`bytes=0-99`, `bytes=100-`, `bytes=-100`, or several.")
    ] = "",
    if_match: Annotated[str, Header(description="Answer only with this `ETag`.")] = "",
    if_none_match: Annotated[str, Header(description="Answer only with another `ETag`.")] = "",
    if_range: Annotated[str, Header(description="`Range` counts only with this `ETag`.")] = "",
    x_sendfile_type: Annotated[str, Header(include_in_schema=False)] = "",
) -> Asked:
    return Asked(request.method, range_, if_match, if_none_match, if_range, x_sendfile_type)


AskedHeaders = Annotated[Asked, Depends(_asked)]
"""What a route that answers with `bytes_answer` takes."""


class Accelerator:
    """A proxy in front that sends files itself.

    Args:
        location: of its own, below which it has the tree; empty: there is no such proxy.
        root: of the tree.
    """

    def __init__(self, location: str = "", root: Path | None = None) -> None:
        self._location = location.rstrip("/")
        self._root = root

    def takes(self, file: BinaryIO, asked: Asked) -> str | None:
        """Where the proxy finds the file; None: we send it.

        A proxy says with each request that it takes files over; who asks without one in between gets the bytes.
        It can't read what is restricted, and does not know our tags in ``If-Match``.
        """
        if not self._location or self._root is None or asked.sendfile_type.lower() != _TO_NGINX.lower():
            return None
        if asked.method != "GET" or asked.if_match or not os.fstat(file.fileno()).st_mode & _FOR_OTHERS:
            return None
        path = Path(file.name)
        if not path.is_relative_to(self._root):
            return None
        return quote(f"{self._location}/{path.relative_to(self._root)}")


NO_ACCELERATOR = Accelerator()
"""The server sends all files itself."""


def bytes_answer(
    asked: Asked, file: BinaryIO, sha256: str, size: int, *, name: str = "", accelerator: Accelerator
) -> Response:
    """The bytes of a file that never changes, or the parts that are asked for.

    Args:
        asked: the headers of the request.
        file: open for reading; closed at the end. Being open it stays readable when it is evicted meanwhile.
        sha256: of all of it.
        size: of all of it.
        name: under which it may be saved.
        accelerator: who may send it.
    """
    digest = base64.b64encode(bytes.fromhex(sha256)).decode()
    headers = {
        "ETag": f'"{sha256}"',
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(name),
    }
    with ExitStack() as until_sent:
        until_sent.callback(file.close)
        if asked.fails(sha256):
            error = ConflictError(f"it is another file: {sha256}", cause="`If-Match` has others")
            return _with(problem(error, 412), headers)
        if asked.has(sha256):
            return Response(status_code=304, headers=headers)
        try:
            spans = asked.spans(sha256, size)
        except RangesRefusedError as refused:
            answer = problem(InputError(f"Range {asked.range[:100]!r}", cause=str(refused)), 416)
            return _with(answer, {"Content-Range": f"bytes */{size}"})
        taken = accelerator.takes(file, asked)
        if taken is not None:
            return Response(headers=headers | {_TO_NGINX: taken}, media_type=MEDIA_TYPE)
        until_sent.pop_all()
        if spans is None:
            return FileAnswer(file, [Span(0, size)], MEDIA_TYPE, headers)
        if len(spans) == 1:
            headers["Content-Range"] = _content_range(spans[0], size)
            return FileAnswer(file, spans, MEDIA_TYPE, headers, 206)
        boundary = secrets.token_hex(16)
        return FileAnswer(
            file, _parts(spans, size, boundary), f"multipart/byteranges; boundary={boundary}", headers, 206
        )


def disposition(name: str) -> str:
    """``Content-Disposition``: a page that a job wrote is not shown as one of ours; `name` may be anything."""
    if not name:
        return "attachment"
    shown = PurePosixPath(name).name
    quoted = quote(shown, safe="", errors="replace")
    if quoted == shown:
        return f'attachment; filename="{shown}"'
    return f"attachment; filename*=UTF-8''{quoted}"


class FileAnswer(StreamingResponse):
    """Parts of an open file, and what comes between them; the file is closed at the end.

    Args:
        file: open for reading.
        parts: of the file, or bytes as they are; the file has all of them.
        media_type: of the answer.
        headers: more of them.
        status_code: of the answer.
    """

    def __init__(
        self,
        file: BinaryIO,
        parts: Sequence[Span | bytes],
        media_type: str,
        headers: Mapping[str, str] | None = None,
        status_code: int = 200,
    ) -> None:
        self._file = file
        self._parts = parts
        super().__init__(self._blocks(), status_code, headers, media_type)
        total = sum(part.size if isinstance(part, Span) else len(part) for part in parts)
        self.headers["Content-Length"] = str(total)

    async def _blocks(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
                continue
            at = part.start
            while at < part.stop:
                block = await run_in_threadpool(
                    os.pread, self._file.fileno(), min(BLOCK_BYTES, part.stop - at), at
                )
                if not block:
                    raise CacheIOError(f"{self._file.name} ends at byte {at}", cause="it was longer before")
                at += len(block)
                yield block

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        with self._file:
            if scope["method"] == "HEAD":
                await Response(None, self.status_code, self.headers)(scope, receive, send)
            elif EXTENSION in scope.get("extensions", {}) and any(map(_is_large, self._parts)):
                await self._by_kernel(send)
            else:
                await super().__call__(scope, receive, send)

    async def _by_kernel(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for part in self._parts:
            if isinstance(part, Span):
                await send({"type": EXTENSION, "file": self._file, "offset": part.start, "count": part.size})
            else:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})


def _parts(spans: Sequence[Span], size: int, boundary: str) -> list[Span | bytes]:
    parts: list[Span | bytes] = []
    for number, span in enumerate(spans):
        head = (
            f"{'' if not number else chr(13) + chr(10)}--{boundary}\r\nContent-Type: {MEDIA_TYPE}\r\n"
            f"Content-Range: {_content_range(span, size)}\r\n\r\n"
        )
        parts += [head.encode(), span]
    return [*parts, f"\r\n--{boundary}--\r\n".encode()]


def _content_range(span: Span, size: int) -> str:
    return f"bytes {span.start}-{span.stop - 1}/{size}"


def _is_large(part: Span | bytes) -> bool:
    return isinstance(part, Span) and part.size > BLOCK_BYTES


def _with(answer: Response, headers: Mapping[str, str]) -> Response:
    answer.headers.update(headers)
    return answer
