"""The server's ear: reads the stream of signals, blocking, and forgets what is recorded."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from stager.errors import ServerBusyError, SignalsError
from stager.model.backoff import outage_wait
from stager.model.events import JobSignal
from stager.model.fetches import Progress, Signal
from stager.model.records import Position
from stager.signals import keys
from stager.signals.codec import signals_from_json
from stager.signals.connection import ANSWER_SECONDS, RedisAddress

log = logging.getLogger(__name__)

BLOCK_SECONDS = 5.0
"""Longest wait of one blocking read; must be shorter than the longest wait for an answer."""
assert BLOCK_SECONDS < ANSWER_SECONDS
ENTRIES_AT_ONCE = 200
BEGINNING = "0-0"
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 5.0
TRIM_SECONDS = 1.0
"""Shortest time between two cuts of the stream."""

_CLAIM = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
"""

_LEAVE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"

Deliver = Callable[[Sequence[Signal | JobSignal], Position], None]


class StreamReader:
    """Reads from one thread; see `stager.mapper.ports.SignalSource`.

    Args:
        address: where Redis is.
        server: who reads; nobody else may while it does.
        on_progress: told how far transfers are, and which ones are being worked on.
        on_emptied: called when Redis has come back without what it knew.
        on_jobs: told which jobs (with their epochs) somebody answers for.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        server: str,
        on_progress: Callable[[Sequence[Progress], Sequence[tuple[str, int]]], None],
        on_emptied: Callable[[], None],
        on_jobs: Callable[[Sequence[tuple[str, int]]], None] = lambda _: None,
    ) -> None:
        self._address = address
        self._redis = address.connect()
        self._server = server
        self._claim = self._redis.register_script(_CLAIM)
        self._leave = self._redis.register_script(_LEAVE)
        self._on_progress = on_progress
        self._on_emptied = on_emptied
        self._on_jobs = on_jobs
        self._wake = ""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._recorded: Position | None = None
        self._trimmed_at = 0.0
        self.is_away = False
        """Redis could not be used at the last try."""

    def claim(self, *, by_force: bool = False) -> None:
        """Say that this server uses this Redis.

        Args:
            by_force: whoever else says so does no more: the database has made this one the leader.

        Raises:
            ServerBusyError: another one does.
            SignalsError: Redis can't be used.
        """
        with self._address.speaking():
            if by_force:
                self._redis.set(keys.SERVER, self._server, ex=keys.SERVER_SECONDS)
            holder: Any = self._claim(keys=[keys.SERVER], args=[self._server, keys.SERVER_SECONDS])
        if holder is not None:
            raise ServerBusyError(
                f"another server uses Redis at {self._address.shown}",
                cause=holder.decode("utf-8", "replace"),
                remedy="give this one another database of it (redis_url), or end the other one",
            )

    def start(self, position: Position | None, deliver: Deliver) -> None:
        """Read what comes after `position` (None: everything there is). Called again, it begins anew from there."""
        self._end()
        self._stop = threading.Event()
        self._wake = keys.WAKE + uuid.uuid4().hex
        self._thread = threading.Thread(
            target=self._run, args=(position, deliver, self._stop), name="signals", daemon=True
        )
        self._thread.start()

    def recorded(self, position: Position) -> None:
        """What was delivered up to `position` is durable and need not be kept."""
        with self._lock:
            self._recorded = position

    def close(self) -> None:
        """End, and let another server in."""
        self._end()
        with suppress(SignalsError), self._address.speaking():  # else it is free when it has expired
            self._leave(keys=[keys.SERVER], args=[self._server])
        self._redis.close()

    def _end(self) -> None:
        if self._thread is None:
            return
        self._stop.set()
        with suppress(SignalsError), self._address.speaking():  # if Redis is away nothing blocks on it
            pipe = self._redis.pipeline(transaction=False)
            pipe.xadd(self._wake, {"end": ""}, maxlen=1)
            pipe.expire(self._wake, keys.WAKE_SECONDS)
            pipe.execute()
        self._thread.join()
        self._thread = None

    # -- the thread -----------------------------------------------------------------------------

    def _run(self, position: Position | None, deliver: Deliver, stop: threading.Event) -> None:
        failures = 0
        at = position or Position("", BEGINNING)
        progress_at = ""
        while not stop.is_set():
            try:
                self.claim()
                progress_at = progress_at or self._newest_progress()
                before, at = at, self._same_stream(at)
                if before.stream not in {"", at.stream}:
                    progress_at = BEGINNING
                found = self._read(at.entry, progress_at)
                now = self._same_stream(at)
                if now != at:  # it was emptied while we read: what we have is of either
                    at, progress_at = now, BEGINNING
                    continue
                self._trim(at.stream)
            except Exception as error:
                failures += 1
                self.is_away = True
                if failures == 1:
                    known = isinstance(error, SignalsError | ServerBusyError)
                    log.error("%s; trying again until it can", error, exc_info=None if known else error)  # noqa: TRY400
                stop.wait(outage_wait(failures, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS))
                continue
            self.is_away = False
            if failures:
                log.warning("Redis at %s is back", self._address.shown)
                failures = 0
            for name, entries in found:
                if name == keys.SIGNALS and entries:
                    at = Position(at.stream, entries[-1][0].decode())
                    deliver([s for _, fields in entries for s in _signals(fields.get(b"s"))], at)
                elif name == keys.PROGRESS and entries:
                    progress_at = entries[-1][0].decode()
                    for _, fields in entries:
                        self._report(fields)

    def _same_stream(self, at: Position) -> Position:
        """`at`, or the beginning of the new stream if that one is gone."""
        with self._address.speaking():
            found: Any = self._redis.get(keys.STREAM)
            if found is None:
                self._redis.set(keys.STREAM, uuid.uuid4().hex, nx=True)
                found = self._redis.get(keys.STREAM)
        name = found.decode() if found else ""
        if name == at.stream:
            return at
        if at.stream:
            log.warning("Redis at %s has come back empty", self._address.shown)
            self._on_emptied()
        return Position(name, BEGINNING)

    def _newest_progress(self) -> str:
        """The last entry that there is: what was told before this server listened is of no interest."""
        with self._address.speaking():
            found: Any = self._redis.xrevrange(keys.PROGRESS, count=1)
        return found[0][0].decode() if found else BEGINNING

    def _read(self, entry: str, progress: str) -> list[tuple[str, list[Any]]]:
        with self._address.speaking():
            found: Any = self._redis.xread(
                {keys.SIGNALS: entry, keys.PROGRESS: progress, self._wake: BEGINNING},
                count=ENTRIES_AT_ONCE,
                block=int(BLOCK_SECONDS * 1000),
            )
        return [(name.decode(), entries) for name, entries in found or ()]

    def _report(self, fields: dict[bytes, bytes]) -> None:
        try:
            reports = [s for s in _signals(fields.get(b"p")) if isinstance(s, Progress)]
            held, jobs = (
                [(str(one), int(number)) for one, number in json.loads(fields.get(name, b"[]"))]
                for name in (b"h", b"j")
            )
        except (ValueError, TypeError):
            log.warning("an entry of %s makes no sense", keys.PROGRESS)
            return
        self._on_progress(reports, held)
        if jobs:
            self._on_jobs(jobs)

    def _trim(self, stream: str) -> None:
        now = time.monotonic()
        with self._lock:
            position = self._recorded
            if position is None or now - self._trimmed_at < TRIM_SECONDS:
                return
            self._recorded = None
        if position.stream != stream:
            return
        self._trimmed_at = now
        number, _, sequence = position.entry.partition("-")
        after = f"{number}-{int(sequence) + 1}"  # MINID keeps the entry that it names
        with self._address.speaking():
            self._redis.xtrim(keys.SIGNALS, minid=after, approximate=False)


def _signals(text: bytes | None) -> list[Signal | JobSignal]:
    if text is None:
        return []
    try:
        return signals_from_json(text)
    except ValueError as error:
        log.warning("an entry of %s makes no sense: %s", keys.SIGNALS, error)
        return []
