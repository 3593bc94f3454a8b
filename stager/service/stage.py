"""Stage requests: many files at once, to be there and to stay for a while."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from stager.cache.at_hand import at_hand
from stager.cache.store import FileCache
from stager.clock import Clock
from stager.errors import CacheError, ConflictError, InputError, NotFoundError
from stager.mapper.loop import Mapper
from stager.model.answered import Answered
from stager.model.entries import Entry
from stager.model.fetches import FetchRequest, FetchState
from stager.model.jobs import check_owner, check_priority
from stager.model.records import FetchRecord
from stager.model.stages import (
    ArchiveInfo,
    Locality,
    Stage,
    StageDetail,
    StagedFile,
    StagedState,
    StagedView,
    StageItem,
    StageView,
)
from stager.model.urls import parse_url
from stager.service.watch import Watch
from stager.state.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_FILES = 20_000
"""Files in one request."""
LONGEST_KEEP_SECONDS = 3_153_600_000.0
"""A hundred years; what is to stay longer stays until it is released."""
ANSWER_SECONDS = 60.0
"""Longest wait for the mapper."""
_TOGETHER = 1000
"""Files cancelled or released in one go, so that nobody else waits for long."""


class StageService:
    """Stage requests of one server. Where an `owner` is given, his alone are there.

    Args:
        cache: what is there already.
        store: where requests are kept.
        mapper: fetches what is not there.
        watch: tells when something changed.
        clock: the time.
        ids: makes ids of requests.
    """

    def __init__(
        self,
        cache: FileCache,
        store: Store,
        mapper: Mapper,
        watch: Watch,
        *,
        clock: Clock,
        ids: Iterator[str],
    ) -> None:
        self._cache = cache
        self._store = store
        self._mapper = mapper
        self._watch = watch
        self._clock = clock
        self._ids = ids

    def stage(
        self,
        items: Sequence[StageItem],
        *,
        keep_seconds: float | None = None,
        priority: int = 0,
        owner: str = "",
        request_id: str = "",
        answer: Callable[[str], Answered] | None = None,
    ) -> str:
        """Take in a request, whole or not at all; its id. What is returned survives any crash.

        Files that are there already are ready at once; a fetch of the same URL that a job waits for is shared.

        Args:
            items: what to stage; what is given twice counts once.
            keep_seconds: how long each file stays from the moment when it is there; None: until it is released.
            priority: -1000 to 1000; higher goes first.
            owner: whom it counts for.
            request_id: of the call to the server.
            answer: what it makes of the id is kept with the request.

        Raises:
            InputError: a URL, number or name that makes no sense, no files, or too many.
            StateError: the database refused; nothing was taken in.
        """
        if keep_seconds is not None and not 0 < keep_seconds <= LONGEST_KEEP_SECONDS:
            raise InputError(
                f"files can't be kept for {keep_seconds:g} seconds",
                cause=f"more than 0 and at most {LONGEST_KEEP_SECONDS:.0f} are possible",
                remedy="give no time to keep them until they are released",
            )
        if not 0 < len(items) <= MAX_FILES:
            raise InputError(
                f"{len(items)} files in one stage request",
                cause=f"at least one and at most {MAX_FILES} are possible",
                remedy="stage them in parts" if items else "name the files",
            )
        stage = Stage(
            next(self._ids),
            check_owner(owner),
            check_priority(priority),
            keep_seconds,
            self._clock.time(),
            request_id,
        )
        requests = dict.fromkeys(item.request for item in items)
        files = [
            StagedFile(
                stage,
                number,
                request.url,
                request.expected,
                entry=self._entry(request),
                mirrors=request.mirrors,
                expected_size=request.size,
            )
            for number, request in enumerate(requests)
        ]
        self._store.stages.add(stage, files, None if answer is None else answer(stage.id))
        self._mapper.repair(lambda machine, _: machine.stages.add(files)).result(ANSWER_SECONDS)
        return stage.id

    def _entry(self, request: FetchRequest) -> Entry | None:
        try:
            return at_hand(self._cache, request)
        except CacheError as error:  # the fetch will meet it again and say so
            log.warning("looking for %s: %s", parse_url(request.url).redacted, error)
            return None

    def archive_info(
        self, paths: Sequence[str], may_see: Callable[[Entry], bool] = lambda _: True
    ) -> list[ArchiveInfo]:
        """Where files are (URLs, or other keys of the cache): at once, without asking their origins.

        What whoever asks may not see is not there.

        Raises:
            InputError: too many.
        """
        if len(paths) > MAX_FILES:
            raise InputError(f"{len(paths)} files", cause=f"{MAX_FILES} are allowed", remedy="ask in parts")
        return [self._locality(path, may_see) for path in paths]

    def _locality(self, path: str, may_see: Callable[[Entry], bool]) -> ArchiveInfo:
        try:
            path.encode()
        except UnicodeEncodeError:  # no answer could repeat it
            return ArchiveInfo(ascii(path)[1:-1], error="it is not valid UTF-8")
        try:
            key = parse_url(path).text if "://" in path else path
            entry = self._cache.lookup(key)
        except (InputError, CacheError) as error:
            return ArchiveInfo(path, error=str(error))
        if entry is not None and may_see(entry):
            return ArchiveInfo(path, Locality.DISK if entry.url is None else Locality.DISK_AND_TAPE)
        if key == path and "://" not in path:
            return ArchiveInfo(path, error="the cache does not have it, and it is no URL")
        return ArchiveInfo(path, Locality.TAPE)

    def cancel(self, word: str, urls: Sequence[str] | None = None, owner: str | None = None) -> int:
        """Give up the files (all, or those of these URLs) that are not there yet; how many that were.

        Raises:
            NotFoundError: no such request, or no such file in it.
        """
        chosen = self._chosen(word, urls, owner)
        waiting = [file.id for file in chosen if file.state is StagedState.QUEUED]
        count = 0
        for some in _parts(waiting):
            done: list[str] = self._mapper.repair(
                lambda machine, now, some=some: machine.stages.cancel(some, now)  # type: ignore[misc]
            ).result(ANSWER_SECONDS)
            count += len(done)
        return count

    def release(self, word: str, urls: Sequence[str] | None = None, owner: str | None = None) -> int:
        """Let the files (all, or those of these URLs) go that are there; how many that were.

        They stay in the cache until room is needed, and as long as somebody else holds them.

        Raises:
            NotFoundError: no such request, or no such file in it.
        """
        chosen = self._chosen(word, urls, owner)
        there = [file for file in chosen if file.state is StagedState.READY]
        count = 0
        for some in _parts(there):
            done: list[str] = self._mapper.repair(
                lambda machine, now, some=some: machine.stages.release(some, now)  # type: ignore[misc]
            ).result(ANSWER_SECONDS)
            count += len(done)
        return count

    def unstage(self, word: str, urls: Sequence[str] | None = None) -> int:
        """`cancel` what is not there yet and `release` what is; how many files that were."""
        return self.cancel(word, urls) + self.release(word, urls)

    def delete(self, word: str, owner: str | None = None) -> int:
        """`unstage` all of it, and forget the request; how many files that changed.

        Raises:
            NotFoundError: no such request.
        """
        stage = self.find(word, owner)
        changed = self.unstage(stage)
        self._store.stages.delete(stage)
        self._store.stages.sweep()
        return changed

    # -- looking --------------------------------------------------------------------------------

    def find(self, word: str, owner: str | None = None) -> str:
        """The id of the request that `word` (an id, or the end of one) names.

        Raises:
            NotFoundError: none.
            ConflictError: several.
        """
        stage = self._store.stages.stage(word)
        if stage is not None and owner in {None, stage.owner}:
            return word
        found = self._store.stages.find(word, owner=owner) if word else []
        if not found:
            raise NotFoundError(f"no stage request {word!r}", remedy="see `stager staged`")
        if len(found) > 1:
            raise ConflictError(
                f"{word!r} names several stage requests", cause=", ".join(found), remedy="give more of the id"
            )
        return found[0]

    def stages(
        self, *, limit: int = 100, before: str | None = None, owner: str | None = None
    ) -> list[StageView]:
        """Requests, newest first."""
        found = self._store.stages.stages(limit=limit, before=before, owner=owner)
        counts = self._store.stages.counts([stage.id for stage in found])
        return [_view(stage, *counts[stage.id]) for stage in found]

    def staged(self, word: str, owner: str | None = None) -> StageDetail:
        """One request with its files and how far each is.

        Raises:
            NotFoundError: no such request.
        """
        stage = self._stage(self.find(word, owner))
        files = self._store.stages.files(stage.id)
        open_ids = [file.fetch for file in files if file.state is StagedState.QUEUED and file.fetch]
        fetches = self._store.fetches(open_ids)
        shown = [self._file(file, fetches.get(file.fetch or "")) for file in files]
        states: dict[str, int] = {}
        for one in shown:
            states[one.state.value] = states.get(one.state.value, 0) + 1
        size = sum(file.size for file in files if file.state is StagedState.READY)
        view = _view(stage, states, size)
        return StageDetail(
            **{name: getattr(view, name) for name in StageView.__dataclass_fields__}, all_files=shown
        )

    def is_over(self, stage: str) -> bool:
        """Whether nothing of the request with this id is to be waited for.

        Raises:
            NotFoundError: no such request.
        """
        found = self._stage(stage)
        return _view(found, *self._store.stages.counts([stage])[stage]).is_over

    def wait(self, word: str, seconds: float | None = None) -> StageDetail:
        """Wait until all files are ready or given up, for at most `seconds`; the request, over or not."""
        stage = self.find(word)
        changed = threading.Event()
        remove = self._watch.add(stage, changed.set)
        until = None if seconds is None else self._clock.monotonic() + seconds
        try:
            while not self.is_over(stage):
                left = None if until is None else until - self._clock.monotonic()
                if left is not None and left <= 0:
                    break
                changed.wait(left)
                changed.clear()
        finally:
            remove()
        return self.staged(stage)

    def watch(self, stage: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback`, in another thread, after each change of the request; returns what ends that."""
        return self._watch.add(stage, callback)

    # -- inside ----------------------------------------------------------------------------------

    def _stage(self, stage_id: str) -> Stage:
        found = self._store.stages.stage(stage_id)
        if found is None:
            raise NotFoundError(f"no stage request {stage_id!r}", remedy="see `stager staged`")
        return found

    def _chosen(self, word: str, urls: Sequence[str] | None, owner: str | None) -> list[StagedFile]:
        stage = self.find(word, owner)
        files = self._store.stages.files(stage)
        if urls is None:
            return files
        wanted = dict.fromkeys(parse_url(url).text for url in urls)
        known = {file.url for file in files}
        for url in wanted:
            if url not in known:
                raise NotFoundError(
                    f"stage request {stage} has no file {parse_url(url).redacted}",
                    remedy=f"`stager staged {stage}` lists them",
                )
        return [file for file in files if file.url in wanted]

    def _file(self, file: StagedFile, fetch: FetchRecord | None) -> StagedView:
        state, received, total = file.state, 0, None
        if file.state in {StagedState.READY, StagedState.RELEASED}:
            received, total = file.size, file.size
        elif fetch is not None and fetch.state is FetchState.RUNNING and file.state is StagedState.QUEUED:
            state = StagedState.RUNNING
            progress = self._mapper.progress(fetch.id)
            received, total = (progress.received, progress.total) if progress else (0, None)
        error = file.error or (fetch.error if fetch is not None else None)
        return StagedView(
            parse_url(file.url).redacted,
            state,
            received,
            total,
            file.sha256 or file.request.sha256,
            file.pinned_until if file.state is StagedState.READY else None,
            file.ended_at,
            None if error is None else error.to_dict(),
        )


def _view(stage: Stage, states: dict[str, int], size: int) -> StageView:
    return StageView(
        stage.id,
        stage.owner,
        stage.priority,
        stage.keep_seconds,
        stage.created_at,
        sum(states.values()),
        dict(states),
        size,
    )


def _parts(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[start : start + _TOGETHER] for start in range(0, len(items), _TOGETHER))
