"""The files of stage requests: they want fetches as jobs do, and are pinned when they are there. Pure.

The half of the machine (`stager.mapper.machine`) that knows nothing of jobs. It holds the files that are not over,
and those whose pin is still to be taken away. What is to be pinned or unpinned follows from a changed record
(`order_of`), once that is durable; who does so tells `pinned`, `lost`, `failed`, `unpinned`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from stager.errors import CancelledError, ObjectLostError, StagerError
from stager.mapper.flights import Flights
from stager.mapper.instructions import StopFetch
from stager.model.chronicle import Event
from stager.model.fetches import FetchState
from stager.model.pins import STAGE
from stager.model.records import Besides
from stager.model.stages import Stage, StagedFile, StagedState
from stager.model.urls import parse_url

MOST_REFUSALS = 5
"""After that many objects that were gone when they were to be pinned, fetching once more is no help."""
_OVER: Collection[FetchState] = frozenset({FetchState.READY, FetchState.FAILED, FetchState.CANCELLED})


@dataclass(frozen=True, slots=True)
class PinOrder:
    """Pin this object for that file of a stage request, or (`take` false) take that pin away."""

    file: str
    take: bool
    key: str
    holder: str
    sha256: str
    until: float | None


def order_of(file: StagedFile) -> PinOrder | None:
    """What is to be done about the pin of a file whose record is durable."""
    if not file.pinned or file.state is StagedState.READY:
        return None
    take = file.state is StagedState.QUEUED
    return PinOrder(file.id, take, file.url, STAGE + file.stage.id, file.sha256, file.pinned_until)


class Stages:
    """Files of stage requests by id.

    Args:
        flights: the fetches that bring them, which jobs share.
        besides: takes what shows in no record.
    """

    def __init__(self, flights: Flights, besides: Besides) -> None:
        self.files: dict[str, StagedFile] = {}
        self._flights = flights
        self._waiting: deque[str] = deque()  # files to be looked at, a piece at a time
        self._stops: list[StopFetch] = []
        self._dirty: dict[str, StagedFile] = {}
        self._open: Counter[str] = Counter()  # request → files that are waited for
        self._besides = besides

    @property
    def pending(self) -> bool:
        """Whether `advance` has more to do."""
        return bool(self._waiting or self._stops or self._dirty or self._besides)

    def load(self, files: Iterable[StagedFile]) -> None:
        """Take in what was written, after the fetches were and before they go on."""
        for file in files:
            self.files[file.id] = file
            if file.state is StagedState.QUEUED:
                self._open[file.stage.id] += 1
                fetch = self._flights.fetches.get(file.fetch or "")
                if fetch is None:
                    file.fetch = None
                else:
                    fetch.jobs.add(file.id)
                self._waiting.append(file.id)
            else:
                self._dirty[file.id] = file  # its pin is still to be taken away

    def add(self, files: Iterable[StagedFile]) -> None:
        """Take in the files of a new request; they ask for fetches a piece at a time."""
        for file in files:
            if file.id not in self.files:
                self.files[file.id] = file
                self._open[file.stage.id] += 1
                self._waiting.append(file.id)

    def advance(self, now: float, limit: int) -> list[StopFetch]:
        """Look at some more files; what is to be stopped."""
        while self._waiting and limit > 0:
            limit -= 1
            self.look_at(self._waiting.popleft(), now)
        stops, self._stops = self._stops, []
        return stops

    def look_at(self, file_id: str, now: float) -> None:
        """Bring a file to where its fetch says that it belongs."""
        file = self.files.get(file_id)
        if file is None or file.state is not StagedState.QUEUED:
            return
        if file.fetch is None:
            stage = file.stage
            fetch = self._flights.join(file.request, file.entry, stage.priority, now, owner=stage.owner)
            fetch.jobs.add(file.id)
            file.fetch, file.entry = fetch.id, None
            self._dirty[file.id] = file
        else:
            fetch = self._flights.fetches[file.fetch]
        if fetch.state not in _OVER:
            return
        if fetch.state is not FetchState.READY:
            gave_up = CancelledError(f"{parse_url(file.url).redacted} was cancelled", remedy="stage it again")
            self._end(file, StagedState.FAILED, now, fetch.error or gave_up)
            return
        if file.sha256 != fetch.sha256 or not file.pinned:
            keep = file.stage.keep_seconds
            file.pinned_until = None if keep is None else now + keep
        file.pinned, file.sha256, file.size = True, fetch.sha256, fetch.size
        self._dirty[file.id] = file

    # -- what users do --------------------------------------------------------------------------

    def cancel(self, files: Iterable[str], now: float) -> list[str]:
        """Give up those of these files that are not over; which they were."""
        cancelled = []
        for file_id in files:
            file = self.files.get(file_id)
            if file is not None and file.state is StagedState.QUEUED:
                self._end(file, StagedState.CANCELLED, now)
                cancelled.append(file_id)
        return cancelled

    def release(self, files: Iterable[StagedFile], now: float) -> list[str]:
        """Take away the pins of files that are ready; which they were."""
        released = []
        for file in files:
            if file.id not in self.files and file.state is StagedState.READY:
                self.files[file.id] = file
                self._end(file, StagedState.RELEASED, now)
                released.append(file.id)
        return released

    # -- what came of pins ----------------------------------------------------------------------

    def pinned(self, file_id: str, sha256: str, now: float) -> None:
        """The object is pinned for that file."""
        file = self.files.get(file_id)
        if file is not None and file.state is StagedState.QUEUED and file.sha256 == sha256:
            self._end(file, StagedState.READY, now)

    def lost(self, file_id: str, now: float) -> str | None:
        """The object was gone when it was to be pinned; the fetch that has to bring it again, if one has."""
        file = self.files.get(file_id)
        if file is None or file.state is not StagedState.QUEUED:
            return None
        file.pinned, file.refusals = False, file.refusals + 1
        self._dirty[file.id] = file
        if file.refusals < MOST_REFUSALS:
            return file.fetch
        url = parse_url(file.url).redacted
        again = f"it was gone {file.refusals} times, each time after it had been fetched"
        self._end(
            file,
            StagedState.FAILED,
            now,
            ObjectLostError(
                f"{url} can't be pinned", cause=again, remedy="check the file system of the cache"
            ),
        )
        return None

    def failed(self, file_id: str, error: StagerError, now: float) -> None:
        """The object can't be pinned for that file; a pin that was made before a kill, and not told of, goes."""
        file = self.files.get(file_id)
        if file is not None and file.state is StagedState.QUEUED:
            self._end(file, StagedState.FAILED, now, error)

    def unpinned(self, file_id: str) -> None:
        """The pin of that file is gone."""
        file = self.files.get(file_id)
        if file is not None and file.state is not StagedState.QUEUED:
            file.pinned = False
            self._dirty[file.id] = file
            del self.files[file.id]

    # -- parts ----------------------------------------------------------------------------------

    def take_changes(self) -> list[StagedFile]:
        """What changed since the last call."""
        changed, self._dirty = list(self._dirty.values()), {}
        return changed

    def _end(
        self, file: StagedFile, state: StagedState, now: float, error: StagerError | None = None
    ) -> None:
        if file.state is StagedState.QUEUED:
            self._close(file.stage)
        file.move(state)
        file.error, file.ended_at = error, now
        self._dirty[file.id] = file
        if file.fetch is not None:
            stop = self._flights.leave(file.fetch, file.id, now)
            if stop is not None:
                self._stops.append(stop)
        if not file.pinned or state is StagedState.READY:
            del self.files[file.id]

    def _close(self, stage: Stage) -> None:
        """One file of the request is waited for no more."""
        self._open[stage.id] -= 1
        if not self._open[stage.id]:
            del self._open[stage.id]
            self._besides.told.append(Event("stage.done", stage.owner, stage=stage.id))
