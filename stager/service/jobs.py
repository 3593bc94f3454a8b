"""The job server's commands: submit, look, wait, cancel, meet, results, logs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Unpack

from stager.cache.at_hand import at_hand
from stager.cache.store import FileCache
from stager.clock import Clock
from stager.errors import (
    CacheError,
    CacheGoneError,
    ConflictError,
    InputError,
    NotFoundError,
    StagerError,
    TooManyInputsError,
)
from stager.mapper.instructions import NewJob
from stager.mapper.loop import Mapper
from stager.model.answered import Answered
from stager.model.entries import Entry
from stager.model.fetches import FetchRequest, FetchState
from stager.model.jobs import JobFilters, JobInput, JobSpec, JobState
from stager.model.preconditions import check_precondition_name
from stager.model.records import FetchRecord
from stager.model.urls import parse_url
from stager.model.views import InputView, JobDetail, JobView, PreconditionView, ResultView
from stager.service.job_views import view_of
from stager.service.repeats import UnansweredError
from stager.service.results import Results
from stager.service.watch import Watch
from stager.state.store import Store, StoredJob

log = logging.getLogger(__name__)

MAX_JOBS_PER_CALL = 1000
"""More are submitted in several calls, so that one caller does not hold up all others."""
ANSWER_SECONDS = 60.0
"""Longest wait for the mapper; it answers within milliseconds unless the disk stands still."""
STREAMS = ("stdout", "stderr")


class JobService:
    """What the server, the command line and Python programs do with jobs.

    All methods may be called from any thread. A job is named by its id, by an ending of the id that
    only one job has, or by its name if only one job has it; where an `owner` is given, among his jobs.
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
        result_days: float = 0.0,
        max_inputs: int = 10_000,
    ) -> None:
        self._cache = cache
        self._store = store
        self._mapper = mapper
        self._watch = watch
        self._max_inputs = max_inputs
        self._clock = clock
        self._ids = ids
        self._results = Results(cache, clock, result_days)
        self._counted: tuple[int, dict[str | None, dict[JobState, int]]] = (-1, {})
        self.trouble: Callable[[], StagerError | None] = lambda: None
        """Why nothing can be fetched now, for nobody's fault; None: it can."""

    # -- changing things ------------------------------------------------------------------------

    def submit(
        self, specs: Sequence[JobSpec], answer: Callable[[list[str]], Answered] | None = None
    ) -> list[str]:
        """Take in jobs, all or none; their ids. What is returned survives any crash.

        With `answer`, what it makes of the ids is kept with them.

        Raises:
            InputError: too many at once, or one of them has too many inputs.
            StateError: the database refused; no job was taken in.
            UnansweredError: that is not known yet.
        """
        if len(specs) > MAX_JOBS_PER_CALL:
            raise InputError(
                f"{len(specs)} jobs in one call",
                cause=f"at most {MAX_JOBS_PER_CALL}",
                remedy="submit them in parts",
            )
        for spec in specs:
            if len(spec.inputs) > self._max_inputs:
                raise TooManyInputsError(
                    f"a job with {len(spec.inputs):,} inputs" + (f" ({spec.name})" if spec.name else ""),
                    cause=f"at most {self._max_inputs:,}",
                    remedy="make several jobs of it; whoever runs this site sets the limit (max_job_inputs)",
                    limit=self._max_inputs,
                )
        known: dict[tuple[str, str | None], Entry | None] = {}
        new = [
            NewJob(
                next(self._ids),
                tuple(
                    self._with_entry(item.request(spec.priority, spec.owner, spec.request_id), known)
                    for item in spec.inputs
                ),
                spec.after,
                spec.priority,
                spec.owner,
            )
            for spec in specs
        ]
        answered = None if answer is None else answer([job.id for job in new])
        asked = self._mapper.submit(list(zip(new, specs, strict=True)), answered)
        try:
            return asked.result(ANSWER_SECONDS)
        except TimeoutError:
            raise UnansweredError(asked) from None

    def _with_entry(
        self, request: FetchRequest, known: dict[tuple[str, str | None], Entry | None]
    ) -> tuple[FetchRequest, Entry | None]:
        wanted = request.key, request.sha256
        if wanted not in known:
            try:
                known[wanted] = at_hand(self._cache, request)
            except CacheError as error:  # the fetch will meet it again and say so
                level = logging.DEBUG if isinstance(error, CacheGoneError) else logging.WARNING
                log.log(level, "looking for %s: %s", parse_url(request.url).redacted, error)
                known[wanted] = None
        return request, known[wanted]

    def cancel(self, word: str, owner: str | None = None) -> bool:
        """Cancel a job; False when it was cancelled already.

        Raises:
            NotFoundError: no such job.
            ConflictError: it is over.
        """
        job = self.find(word, owner)
        try:
            return self._mapper.cancel(job).result(ANSWER_SECONDS)
        except NotFoundError:  # over long ago: the mapper has forgotten it
            state = self._job(job).record.state
            if state is JobState.CANCELLED:
                return False
            raise ConflictError(
                f"job {job} is {state}", cause="only a job that is not over can be cancelled"
            ) from None

    def meet(self, name: str) -> bool:
        """Say that a precondition is met, now and for jobs to come; False when it was already.

        Raises:
            InputError: not a name.
        """
        return self._mapper.meet(check_precondition_name(name)).result(ANSWER_SECONDS)

    def unmeet(self, name: str) -> bool:
        """Say that a precondition holds no more, for jobs that are not handed over yet; False when it did not.

        Raises:
            InputError: not a name.
        """
        return self._mapper.unmeet(check_precondition_name(name)).result(ANSWER_SECONDS)

    def retry(
        self,
        word: str,
        owner: str | None = None,
        answer: Callable[[list[str]], Answered] | None = None,
        *,
        request_id: str = "",
    ) -> str:
        """Submit a job that failed or was cancelled anew, with the same description; the id of the new one.

        Raises:
            NotFoundError: no such job.
            ConflictError: it is not over, or done.
        """
        stored = self._find(word, owner)
        state = stored.record.state
        if state not in {JobState.FAILED, JobState.CANCELLED}:
            raise ConflictError(
                f"job {stored.record.id} is {state}",
                cause="only a job that failed or was cancelled can be retried",
                remedy="submit it again" if state is JobState.DONE else "cancel it first",
            )
        (job,) = self.submit([replace(stored.spec, request_id=request_id)], answer)
        return job

    # -- looking --------------------------------------------------------------------------------

    def find(self, word: str, owner: str | None = None) -> str:
        """The id of the job that `word` names.

        Raises:
            NotFoundError: none.
            ConflictError: several.
        """
        return self._find(word, owner).record.id

    def _find(self, word: str, owner: str | None) -> StoredJob:
        stored = self._store.job(word)
        if stored is not None and owner in {None, stored.spec.owner}:
            return stored
        found = self._store.find_jobs(word, owner=owner) if word else []
        if not found:
            raise NotFoundError(f"no job {word!r}", remedy="see `stager jobs`")
        if len(found) > 1:
            raise ConflictError(
                f"{word!r} names several jobs", cause=", ".join(found), remedy="give more of the id"
            )
        return self._job(found[0])

    def jobs(
        self, *, limit: int = 100, before: str | None = None, **chosen: Unpack[JobFilters]
    ) -> list[JobView]:
        """Jobs, newest first."""
        found = self._store.jobs(limit=limit, before=before, **chosen)
        waiting = [job for job in found if job.record.state is JobState.WAITING]
        fetches = self._store.fetches(f for job in waiting for f in job.record.fetches)
        names = self._store.names_of(name for job in waiting for name in job.spec.after)
        return [view_of(job, fetches, names) for job in found]

    def job(self, word: str, owner: str | None = None) -> JobDetail:
        """One job with all that belongs to it.

        Raises:
            NotFoundError: no such job.
        """
        stored = self._find(word, owner)
        record, spec = stored.record, stored.spec
        fetches = self._store.fetches(record.fetches)
        names = self._store.names_of(spec.after)
        view = view_of(stored, fetches, names)
        return JobDetail(
            **{field: getattr(view, field) for field in JobView.__dataclass_fields__},
            environment=dict(spec.environment),
            inputs=[
                self._input(item, fetches[f]) for item, f in zip(spec.inputs, record.fetches, strict=True)
            ],
            after=[
                PreconditionView(name, names[name].met_at if name in names else None) for name in spec.after
            ],
            results=[ResultView(r.name, r.sha256, r.size) for r in record.results],
            directory=str(self._cache.root / "jobs" / record.id),
        )

    def counts(self, owner: str | None = None) -> dict[str, int]:
        """Number of jobs (of that owner) in each state."""
        number = self._store.chronicle.newest()  # as long as nothing happens, no count changes
        if self._counted[0] != number:
            self._counted = number, {}
        if (found := self._counted[1].get(owner)) is None:
            found = self._counted[1][owner] = self._store.count_jobs(owner)
        return {state.value: found.get(state, 0) for state in JobState}

    def preconditions(self) -> list[PreconditionView]:
        """All preconditions by name."""
        return [PreconditionView(name.name, name.met_at) for name in self._store.names()]

    def wants(self, job: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What the job with this id needs: fetches of its inputs, and preconditions by name.

        Raises:
            NotFoundError: no such job.
        """
        record = self._job(job).record
        return record.fetches, record.after

    def state(self, job: str) -> JobState:
        """The state of the job with this id.

        Raises:
            NotFoundError: no such job.
        """
        return self._job(job).record.state

    def is_settled(self, job: str) -> bool:
        """Whether the job with this id is over and no process of it is left.

        Raises:
            NotFoundError: no such job.
        """
        record = self._job(job).record
        return record.state.is_final and not record.handed

    def wait(self, word: str, seconds: float | None = None) -> JobView:
        """Wait until the job is over, for at most `seconds`; the job, over or not."""
        job = self.find(word)
        over = threading.Event()

        def look() -> None:
            over.set()

        remove = self._watch.add(job, look)
        until = None if seconds is None else self._clock.monotonic() + seconds
        try:
            while not self.state(job).is_final:
                left = None if until is None else until - self._clock.monotonic()
                if left is not None and left <= 0:
                    break
                over.wait(left)
                over.clear()
        finally:
            remove()
        return self.job(job)

    def watch(self, job: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback`, in another thread, after each change of the job; returns what ends that."""
        return self._watch.add(job, callback)

    # -- what a job leaves ----------------------------------------------------------------------

    def results(self, word: str, owner: str | None = None) -> list[ResultView]:
        """The files that the job left, each with what became of it."""
        detail = self.job(word, owner)
        return self._results.look(detail.id, detail.results)

    def open_result(self, word: str, name: str, owner: str | None = None) -> tuple[ResultView, BinaryIO]:
        """A result and its bytes, open for reading.

        Raises:
            NotFoundError: no such job, or it left no such file.
            ResultGoneError: it left one, which is there no more.
        """
        detail = self.job(word, owner)
        (result,) = _named(detail, [name])
        return result, self._results.open(detail.id, result)

    def remove_results(
        self, word: str, names: Sequence[str] | None = None, owner: str | None = None
    ) -> list[ResultView]:
        """Remove what the job left (all of it, or these), whatever was promised; those that were there.

        Raises:
            NotFoundError: no such job, or it left no such file.
            ConflictError: one is pinned; nothing was removed.
        """
        detail = self.job(word, owner)
        return self._results.remove(detail.id, detail.results if names is None else _named(detail, names))

    def log_file(self, word: str, stream: str, owner: str | None = None) -> Path:
        """The file with what the job printed; it may not exist yet.

        Raises:
            InputError: `stream` is neither ``stdout`` nor ``stderr``.
        """
        if stream not in STREAMS:
            raise InputError(f"no stream {stream!r}", remedy=f"one of {', '.join(STREAMS)}")
        return self._cache.root / "jobs" / self.find(word, owner) / stream

    # -- parts ----------------------------------------------------------------------------------

    def _job(self, job: str) -> StoredJob:
        found = self._store.job(job)
        if found is None:
            raise NotFoundError(f"no job {job!r}", remedy="see `stager jobs`")
        return found

    def _input(self, item: JobInput, fetch: FetchRecord) -> InputView:
        progress = self._mapper.progress(fetch.id) if fetch.state is FetchState.RUNNING else None
        is_ready = fetch.state is FetchState.READY
        error = (self.trouble() if fetch.state is FetchState.QUEUED else None) or fetch.error
        return InputView(
            name=item.name,
            url=parse_url(item.url).redacted,
            fetch=fetch.id,
            state=fetch.state,
            sha256=fetch.sha256 or item.sha256,
            size=fetch.size if is_ready else None,
            received=fetch.size if is_ready else progress.received if progress else 0,
            total=fetch.size if is_ready else progress.total if progress else None,
            transferred=fetch.received,
            resumed_from=progress.resumed_from if progress else fetch.resumed_from,
            cached=fetch.cached,
            tries=fetch.generation,
            next_try_at=fetch.not_before if fetch.state is FetchState.QUEUED and fetch.not_before else None,
            error=None if error is None else error.to_dict(),
            ended_at=fetch.ended_at,
        )


def _named(job: JobDetail, names: Sequence[str]) -> list[ResultView]:
    found = {result.name: result for result in job.results}
    for name in names:
        if name not in found:
            remedy = f"it left {', '.join(found) or 'nothing'}"
            raise NotFoundError(f"job {job.id} has no result {name!r}", remedy=remedy)
    return [found[name] for name in dict.fromkeys(names)]
