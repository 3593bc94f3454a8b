"""Answers that are told as they come about: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Generator
from contextlib import closing
from dataclasses import asdict
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from stager.errors import StagerError

MEDIA_TYPE = "application/jsonl"


class LinesAnswer(StreamingResponse):
    """Runs a long operation in threads of the server and tells how it goes.

    Each line is ``{"progress": ...}``; the last one ``{"result": ...}`` or ``{"error": ...}``. A client that
    leaves closes `work`, which ends cleanly.

    Args:
        work: yields dataclasses that say how far it is, at least every few seconds; returns one with the result.
        status_code: of the answer, which begins before anything is known of its end.
    """

    media_type = MEDIA_TYPE

    def __init__(self, work: Generator[Any, None, Any], status_code: int = 200) -> None:
        self._work = work
        super().__init__(self._lines(), status_code)

    async def _lines(self) -> AsyncIterator[str]:
        while (line := await run_in_threadpool(self._next)) is not None:
            yield json.dumps(line, default=str) + "\n"
            if "progress" not in line:
                return

    def _next(self) -> dict[str, Any]:
        try:
            return {"progress": asdict(next(self._work))}
        except StopIteration as end:
            return {"result": asdict(end.value)}
        except StagerError as error:
            return {"error": error.to_dict()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        with closing(self._work):
            await super().__call__(scope, receive, send)
