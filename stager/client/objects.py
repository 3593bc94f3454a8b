"""Calls about bytes: what a file is, its blocks, and a file object that brings them as they are read."""

from __future__ import annotations

import io
import re
import time
from functools import partial

from stager.client.patience import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, changed, resumed
from stager.client.remote_file import AHEAD_BYTES, HELD_BYTES, RemoteFile
from stager.client.talk import (
    Blocking,
    Group,
    M,
    Open,
    Pause,
    Read,
    Request,
    Talk,
    Telling,
    answered,
    listened,
    part,
)
from stager.errors import InputError, RemoteError, ServerUnreachableError, StateError
from stager.model.cache_views import Content
from stager.model.keys import parse_sha256

BUFFER_BYTES = 128 * 1024
"""Small reads are answered from so much."""
_SIZE = re.compile(r"bytes 0-0/([0-9]+)")
_TAG = re.compile(r'"([0-9a-f]{64})"')


class ObjectCalls(Group[M]):
    """``client.objects``: bytes, by a SHA-256 or by a key (of most files: the URL; of a result: ``result:JOB/NAME``)."""

    @answered
    def look(self, word: str) -> Talk[Content]:
        """What the file is: its digest and its size in bytes.

        Raises:
            NotFoundError: the server does not have it, or nothing that this token may read.
        """
        # Not HEAD, whose problems are told without words.
        headers = yield Open(Request("GET", _path(word), headers={"Range": "bytes=0-0"}))
        tag = _TAG.fullmatch(headers.get("etag", ""))
        size = _SIZE.fullmatch(headers.get("content-range", f"bytes 0-0/{headers.get('content-length', '')}"))
        if tag is None or size is None:
            raise RemoteError(
                f"the server does not say what {word} is", cause="no ETag with a SHA-256, or no size"
            )
        while (yield Read()):  # so that the connection is good for more
            pass
        return Content(word, tag[1], int(size[1]))

    @answered
    def block(self, word: str, sha256: str, start: int, stop: int) -> Talk[bytes]:
        """Bytes `start` to `stop` (without it) of a file that is this object, gone on with when they break off.

        Raises:
            ConflictError: the key has another file by now.
            ServerUnreachableError: the server stayed away too long.
        """
        got = bytearray()
        gone_since: float | None = None
        pause = FIRST_PAUSE_SECONDS
        while len(got) < stop - start:
            first = start + len(got)
            # If-Range, not If-Match: a proxy that sends files itself can answer it.
            headers = {"Range": f"bytes={first}-{stop - 1}", "If-Range": f'"{sha256}"'}
            before = len(got)
            try:
                answer = yield Open(Request("GET", _path(word), headers=headers))
                whole_range = answer.get("content-range", "").startswith(f"bytes {first}-{stop - 1}/")
                if answer.get("etag") != f'"{sha256}"' or not whole_range:
                    raise changed(word)
                while piece := (yield Read()):
                    got += piece
                if len(got) != stop - start:
                    raise RemoteError(
                        f"the server sent {len(got)} bytes of {word} in place of {stop - start}"
                    )
            except (ServerUnreachableError, StateError):
                now = time.monotonic()
                gone_since = now if gone_since is None or len(got) > before else gone_since
                if now - gone_since > self._driver.outage_seconds:
                    raise
                yield Pause(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        return bytes(got)

    @listened
    def read(self, word: str) -> Telling[bytes, None]:
        """All of it, a block at a time, gone on with when it breaks off; the caller checks the digest."""
        yield from resumed(_path(word))

    def open(
        self: ObjectCalls[Blocking],
        word: str,
        *,
        held_bytes: int = HELD_BYTES,
        ahead_bytes: int = AHEAD_BYTES,
    ) -> io.BufferedReader:
        """The file, open for reading: blocks are brought when they are read, and some of them held.

        Read in order it is brought in larger and larger pieces ahead; anywhere else a block at a time. Its ``raw`` is the
        `RemoteFile`, with digest and size. A server that is away is waited for. Errors are those of `look` and `block`.

        Args:
            word: which file.
            held_bytes: how much of it is held in memory.
            ahead_bytes: how much is brought at once at most.
        """
        found = self.look(word)
        raw = RemoteFile(
            partial(self.block, word, found.sha256),
            found.size,
            found.sha256,
            name=word,
            held_bytes=held_bytes,
            ahead_bytes=ahead_bytes,
        )
        return io.BufferedReader(raw, BUFFER_BYTES)


def _path(word: str) -> str:
    try:
        return f"objects/{parse_sha256(word)}"
    except InputError:
        return f"cache/content/{part(word)}"
