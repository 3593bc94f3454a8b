"""Many files at once, for a caller that waits for all of them: one stream of reports."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple

from stager.errors import StagerError
from stager.farm.crew import Brought
from stager.model.fetches import FetchRequest
from stager.service.fetching import FetchHandle, FetchService


class Missed(NamedTuple):
    """The file of request `number` could not be brought."""

    number: int
    error: StagerError


class Moved(NamedTuple):
    """So many bytes of the file of request `number` are in place (`total` None: of nobody knows how many)."""

    number: int
    received: int
    total: int | None


Report = Moved | Brought | Missed
"""About each request any number of `Moved`, then one of the others."""

TICK_SECONDS = 0.1
"""How often a caller is called that draws progress; more often would only flicker."""


def nothing() -> None:
    """For a caller that draws nothing."""


def fetch_here(
    service: FetchService, requests: Sequence[FetchRequest], tick: Callable[[], None] = nothing
) -> Generator[Report, None, None]:
    """Fetch all on the threads of `service`, which is closed at the end.

    Closing the iterator, or an interrupt, gives up what is not done; its bytes are kept for resuming.

    Args:
        service: not yet used for anything else.
        requests: what to fetch.
        tick: called about ten times per second.
    """
    done: SimpleQueue[tuple[int, FetchHandle]] = SimpleQueue()
    waiting: dict[int, FetchHandle] = {}
    moved: dict[int, Moved] = {}
    with service:
        for number, request in enumerate(requests):
            waiting[number] = asked = service.prefetch(request)
            asked.add_done_callback(lambda handle, number=number: done.put((number, handle)))  # type: ignore[misc]
        while waiting:
            try:
                index, handle = done.get(timeout=TICK_SECONDS)
            except Empty:
                for index, handle in waiting.items():
                    now = Moved(index, *handle.progress())
                    if now.received and moved.get(index) != now:
                        moved[index] = now
                        yield now
            else:
                del waiting[index]
                yield _end(index, handle)
            tick()


def _end(index: int, handle: FetchHandle) -> Brought | Missed:
    try:
        return Brought.of(index, handle.result(0))
    except StagerError as error:
        return Missed(index, error)
