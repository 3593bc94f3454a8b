"""A job server of its own for one job: its progress, its output, its results."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from stager.cli import output
from stager.cli.connect import logging_to_stderr
from stager.cli.exit_codes import Exit
from stager.cli.progress import Display, display
from stager.cli.results import write_verified
from stager.errors import CommandFailedError, StagerError, error_from_dict
from stager.farm.crew import Brought
from stager.mapper.dispatch.results import result_key
from stager.model.fetches import FetchState
from stager.model.jobs import JobSpec, JobState, check_result_path
from stager.service.batch import Moved
from stager.settings import load_settings
from stager.wiring.credentials import credentials_root
from stager.wiring.server import JobServer

if TYPE_CHECKING:
    from stager.cache.store import FileCache
    from stager.model.views import InputView, JobDetail
    from stager.service.jobs import JobService

TICK_SECONDS = 0.1
"""How often bars and output are brought up to date."""
BLOCK_BYTES = 256 * 1024


def run_here(
    spec: JobSpec,
    met: Sequence[str],
    target: Path,
    *,
    force: bool,
    given: Mapping[str, Any],
    as_json: bool,
) -> int:
    """Run the job to its end, under the settings and what was `given` instead of them.

    Returns:
        Its status; `Exit.NOT_RUN` if it never ran, `Exit.FAILED` if its end was wrong in spite of status 0.

    Raises:
        KeyboardInterrupt: it was cancelled, and nothing of it is left.
    """
    with tempfile.TemporaryDirectory(prefix="stager-run-") as state, logging_to_stderr("error", "text"):
        # The state is for this run alone; credentials are those that the user has given once and for all.
        credentials = str(credentials_root(load_settings(**given)))
        settings = load_settings(
            **{**given, "state_dir": state, "database_url": "", "credentials_dir": credentials}
        )
        server = JobServer(settings, waits_for_credentials=False)
        with ExitStack() as afterwards, server:
            for name in met:
                server.jobs.meet(name)
            (job,) = server.jobs.submit([spec])
            afterwards.callback(
                _discard, server.cache, job
            )  # once nothing runs any more that could write there
            found = _Running(server.jobs, job, spec).to_the_end(
                sys.stderr.buffer if as_json else sys.stdout.buffer
            )
            try:
                written = _take_results(server, found, target, force=force)
            except StagerError as error:  # the work is done and must not be lost
                error.remedy = (
                    f"`stager cache path {result_key(job, found.results[0].name)}` finds what is kept"
                )
                raise
    if as_json:
        facts = {name: value for name, value in asdict(found).items() if name != "directory"}  # it is gone
        output.json_line(facts | {"results": written})
    elif written:
        output.note(f"{len(written)} {'results' if len(written) > 1 else 'result'} in {target}/")
    if found.error:
        failure = error_from_dict(found.error)
        if isinstance(failure, CommandFailedError) and found.exit_code is not None:
            failure.remedy = ""  # it is to look at the output, which is above
        output.note(str(failure))
    return _status(found)


class _Running:
    """One job on its way."""

    def __init__(self, jobs: JobService, job: str, spec: JobSpec) -> None:
        self._jobs = jobs
        self._job = job
        self._spec = spec
        self._changed = threading.Event()

    def to_the_end(self, stdout: BinaryIO) -> JobDetail:
        """Show what happens until the job is over and nothing of it runs any more.

        Raises:
            KeyboardInterrupt: it was asked for; the job is cancelled.
        """
        remove = self._jobs.watch(self._job, self._changed.set)
        try:
            self._until_handed_over()
            self._until_settled(stdout)
        except KeyboardInterrupt:
            self._cancel()
            raise KeyboardInterrupt("the job was cancelled; its inputs stay in the cache") from None
        except BaseException:  # such as a reader of our output that went away
            self._cancel()
            raise
        finally:
            remove()
        return self._jobs.job(self._job)

    def _until_handed_over(self) -> None:
        with display([item.request() for item in self._spec.inputs]) as shown:
            news = _News(shown)
            while (found := self._jobs.job(self._job)).state is JobState.WAITING:
                news.tell(found.inputs)
                self._pause(TICK_SECONDS if shown.moves else None)
            news.tell(found.inputs)

    def _until_settled(self, stdout: BinaryIO) -> None:
        with (
            _Tail(self._jobs.log_file(self._job, "stdout"), stdout) as out,
            _Tail(self._jobs.log_file(self._job, "stderr"), sys.stderr.buffer) as err,
        ):
            while not self._jobs.is_settled(self._job):
                self._pause(TICK_SECONDS)
                out.copy()
                err.copy()

    def _cancel(self) -> None:
        """End the job and wait until its processes are gone."""
        if not self._jobs.state(self._job).is_final:
            self._jobs.cancel(self._job)
        while not self._jobs.is_settled(self._job):
            self._pause(None)

    def _pause(self, seconds: float | None) -> None:
        self._changed.wait(seconds)
        self._changed.clear()


class _News:
    """Says what is new about the inputs."""

    def __init__(self, shown: Display) -> None:
        self._shown = shown
        self._ready: set[int] = set()
        self._errors: dict[int, dict[str, Any]] = {}

    def tell(self, inputs: Sequence[InputView]) -> None:
        """Bars, and a line for each new reason to try again."""
        for number, item in enumerate(inputs):
            if item.state is FetchState.RUNNING:
                self._shown.hear(Moved(number, item.received, item.total))
            elif item.state is FetchState.READY and number not in self._ready:
                self._ready.add(number)
                self._shown.hear(_brought(number, item))
            if item.error and item.error != self._errors.get(number) and item.state is not FetchState.FAILED:
                self._errors[number] = item.error
                self._shown.note(f"{item.error['what']}: {item.error['cause']}; it is tried again")
        self._shown.tick()


class _Tail:
    """A file that grows, copied as it does."""

    def __init__(self, path: Path, sink: BinaryIO) -> None:
        self._path = path
        self._sink = sink
        self._file: BinaryIO | None = None

    def copy(self) -> None:
        """Pass on what is new."""
        if self._file is None:
            if not self._path.exists():
                return
            self._file = self._path.open("rb")
        while block := self._file.read(BLOCK_BYTES):
            self._sink.write(block)
        self._sink.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.copy()
        if self._file is not None:
            self._file.close()


def _take_results(server: JobServer, found: JobDetail, target: Path, *, force: bool) -> list[dict[str, Any]]:
    """Copy the results, then let the cache forget them."""
    written = []
    for result in found.results:
        path = target / check_result_path(result.name)
        _, file = server.jobs.open_result(found.id, result.name)
        with file:
            write_verified(_blocks(file), result, path, force=force)
        written.append(asdict(result) | {"path": str(path)})
    for result in found.results:
        server.cache.remove(result_key(found.id, result.name))
    return written


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _discard(cache: FileCache, job: str) -> None:
    """The job is known to nobody any more, and its directory is of no use."""
    shutil.rmtree(cache.root / "jobs" / job, ignore_errors=True)  # what the share keeps back does no harm


def _brought(number: int, item: InputView) -> Brought:
    return Brought(
        number,
        sha256=item.sha256 or "",
        size=item.size or 0,
        path="",
        cached=item.cached,
        seconds=0.0,
        received=item.transferred,
        resumed_from=item.resumed_from,
        unproven=False,
    )


def _status(found: JobDetail) -> int:
    if found.exit_code is None:
        return Exit.NOT_RUN
    return found.exit_code or (Exit.OK if found.state is JobState.DONE else Exit.FAILED)
