"""Many files at once, for a caller that waits for all of them: one stream of signals."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from queue import Empty, SimpleQueue

from stager.errors import StagerError
from stager.model.fetches import Failed, FetchRequest, Progress, Ready
from stager.service.fetching import FetchHandle, FetchService

Report = Progress | Ready | Failed
"""About the request whose index (as text) is `fetch`: any number of Progress, then one of the others."""

TICK_SECONDS = 0.1
"""How often a caller is called that draws progress; more often would only flicker."""


def nothing() -> None:
    """For a caller that draws nothing."""


def fetch_here(
    service: FetchService, requests: Sequence[FetchRequest], tick: Callable[[], None] = nothing
) -> Generator[Report, None, None]:
    """Fetch all on the threads of `service`, which is closed at the end; `tick` is called ten times per second.

    Closing the iterator, or an interrupt, gives up what is not done; its bytes are kept for resuming.
    """
    done: SimpleQueue[tuple[str, FetchHandle]] = SimpleQueue()
    waiting: dict[str, FetchHandle] = {}
    seen: dict[str, tuple[int, int | None]] = {}
    with service:
        for index, request in enumerate(requests):
            waiting[str(index)] = handle = service.prefetch(request)
            handle.add_done_callback(lambda h, i=str(index): done.put((i, h)))  # type: ignore[misc]
        while waiting:
            try:
                index_, handle = done.get(timeout=TICK_SECONDS)
            except Empty:
                for index_, handle in waiting.items():
                    received, total = progress = handle.progress()
                    if received and seen.get(index_) != progress:
                        seen[index_] = progress
                        yield Progress(index_, 1, received, total)
                tick()
                continue
            del waiting[index_]
            yield _end(index_, handle)


def _end(index: str, handle: FetchHandle) -> Ready | Failed:
    try:
        return Ready(index, 1, handle.result(0))
    except StagerError as error:
        return Failed(index, 1, error)
