"""Conversations that several groups have: waiting through restarts, going on with what broke off, lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from json import loads
from typing import Any, TypeVar
from urllib.parse import unquote
from uuid import uuid4

from stager.client.answers import broke_off
from stager.client.talk import Emit, Open, Pause, Read, Request, Step, Talk, Telling
from stager.errors import (
    ConflictError,
    ServerUnreachableError,
    StagerError,
    StateError,
    TooManyRequestsError,
    UnderWayError,
    error_from_dict,
)

POLL_SECONDS = 30.0
"""One long poll."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0

MOST_RESTS = 10
"""A request that comes too soon after others is made again at most so often."""
LONGEST_REST_SECONDS = 5.0

T = TypeVar("T")
E = TypeVar("E")


def rest_seconds(step: Step, error: StagerError, times: int) -> float | None:
    """How long to rest before doing a step again that was refused for coming too soon; None: it is not to be done again.

    Args:
        step: what was to be done.
        error: what came of it.
        times: how often it was done again already.
    """
    request = step.request if isinstance(step, Open) else step
    may_be_repeated = isinstance(request, Request) and request.data is None and times < MOST_RESTS
    if not may_be_repeated or not isinstance(error, TooManyRequestsError) or "user" not in error.details:
        return None  # with wrong tokens it would be no use
    return min(float(error.details.get("retry_after_seconds", 1.0)), LONGEST_REST_SECONDS)


def patiently(
    ask: Callable[[float], Talk[T]],
    is_over: Callable[[T], bool],
    seconds: float | None,
    outage_seconds: float,
) -> Talk[T]:
    """Ask again and again, through restarts of the server, until what comes is over or time is up.

    Args:
        ask: what is asked; given for how many seconds the server may wait with its answer.
        is_over: whether that is the end.
        seconds: to wait at most; None: as long as it takes.
        outage_seconds: to put up with a server that does not answer.

    Raises:
        ServerUnreachableError: it stayed away too long.
    """
    until = None if seconds is None else time.monotonic() + seconds
    gone_since: float | None = None
    pause = FIRST_PAUSE_SECONDS
    while True:
        left = None if until is None else max(0.0, until - time.monotonic())
        try:
            found = yield from ask(POLL_SECONDS if left is None else min(left, POLL_SECONDS))
        except (ServerUnreachableError, StateError):
            now = time.monotonic()
            gone_since = now if gone_since is None else gone_since
            if now - gone_since > outage_seconds or (until is not None and now >= until):
                raise
            yield Pause(pause if left is None else min(pause, left))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            continue
        if is_over(found) or (until is not None and time.monotonic() >= until):
            return found
        gone_since, pause = None, FIRST_PAUSE_SECONDS


def once(request: Request, outage_seconds: float) -> Talk[Any]:
    """Ask for something to be made: once, though it is asked again when the answer was lost.

    Raises:
        ServerUnreachableError: nobody was there, and nothing was made; or the answer was lost, and the server stayed
            away: whether it was made is not known (`details`: ``sent`` is true).
    """
    request = replace(request, headers={**request.headers, "Idempotency-Key": f'"{uuid4().hex}"'})
    lost: ServerUnreachableError | None = None
    pause, until = FIRST_PAUSE_SECONDS, time.monotonic() + outage_seconds
    while True:
        try:
            return (yield request)
        except UnderWayError:
            if time.monotonic() > until:
                raise
        except ServerUnreachableError as error:
            lost = error if error.details.get("sent") else lost
            if lost is None or time.monotonic() > until:
                raise lost or error from None
        yield Pause(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def whole(path: str, **params: Any) -> Telling[bytes, None]:
    """Emit the bytes that come, a block at a time."""
    yield Open(Request("GET", path, params))
    while block := (yield Read()):
        yield Emit(block)


def changed(word: str) -> ConflictError:
    """The key has another file than the one that was begun."""
    return ConflictError(f"{word} changed while it was read", remedy="begin anew")


def resumed(path: str) -> Telling[bytes, None]:
    """The same of what has an ``ETag``, gone on with when it breaks off; a second time without a byte is an error.

    Raises:
        ConflictError: it changed meanwhile.
    """
    received, failed_at, tag = 0, -1, ""
    while True:
        try:
            headers = {"Range": f"bytes={received}-", "If-Range": tag} if received else {}
            answer = yield Open(Request("GET", path, headers=headers))
            if received and "content-range" not in answer:
                raise changed(unquote(path.rpartition("/")[2]))
            tag = answer.get("etag", "")
            while block := (yield Read()):
                received += len(block)
                yield Emit(block)
        except ServerUnreachableError:
            if failed_at == received:
                raise
            failed_at = received
        else:
            return


def told(
    url: str, request: Request, progress: Callable[[dict[str, Any]], E], result: Callable[[dict[str, Any]], T]
) -> Telling[E, T]:
    """A long operation: emit how far it is, and return what it came to."""
    yield Open(request)
    kept = b""
    while block := (yield Read()):
        *lines, kept = (kept + block).split(b"\n")
        for text in lines:
            try:
                line = loads(text)
            except ValueError as error:
                raise broke_off(url, str(error)) from None
            if "error" in line:
                raise error_from_dict(line["error"])
            if "result" in line:
                return result(line["result"])
            yield Emit(progress(line["progress"]))
    raise broke_off(url, "it ended without a result")
