"""A small JSON document of a site, read as any other URL is: where that may be reached, within limits of size and time."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any, cast

from stager.clock import Clock
from stager.errors import ProtocolError
from stager.model.urls import parse_web_url
from stager.transfer.asks import Fill, Open, Steps
from stager.transfer.blocking import run
from stager.transfer.decisions import Request
from stager.transfer.login import read_answer
from stager.transfer.transport import Transport

_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}


def read_document(url: str, transport: Transport, clock: Clock) -> dict[str, Any]:
    """The JSON object at that URL. Redirects are not followed.

    Raises:
        FetchError: it can't be read, or is something else.
    """
    return cast("dict[str, Any]", run(cast("Steps", _steps(url)), transport, clock))


def _steps(text: str) -> Generator[Open | Fill, Any, dict[str, Any]]:
    url = parse_web_url(text)
    status, _, body = yield from read_answer(Request(url, dict(_HEADERS)), lambda _: None)
    try:
        said = json.loads(body) if status == 200 else None  # noqa: PLR2004 - HTTP's own numbers
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise ProtocolError(
            f"{url.redacted} is no JSON document",
            cause=f"status {status}",
            remedy="check the setting that names it",
            url=url.redacted,
        )
    return said
