"""What tries work with, and what they deliver."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stager.cache.space import Space
from stager.cache.store import FileCache
from stager.clock import Clock
from stager.model.entries import Entry
from stager.model.fetches import FetchRequest, FetchResult
from stager.transfer.absences import Absences
from stager.transfer.buffers import BufferPool
from stager.transfer.options import TransferOptions
from stager.transfer.plan import TransferPlan
from stager.transfer.standings import Standings

if TYPE_CHECKING:
    from stager.credentials.wallet import Wallet
    from stager.transfer.access import Access
    from stager.transfer.decisions import Again, Finish, Receive, Unchanged
    from stager.transfer.transport import Answer


@dataclass(frozen=True, slots=True)
class Means:
    """What all tries of a fetcher work with."""

    cache: FileCache
    options: TransferOptions
    clock: Clock
    buffers: BufferPool
    space: Space
    wallet: Wallet | None = None
    standings: Standings = field(default_factory=Standings)
    absences: Absences = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "absences", Absences(self.options.absent_seconds))

    def plan(self, request: FetchRequest, **known: Any) -> TransferPlan:
        """The plan of a try; `known` as of `TransferPlan`. Where there are several sources, it begins with the best."""
        if request.mirrors:
            urls = (request.url, *request.mirrors)
            known["sources"] = self.standings.order(urls, self.clock.time())
        return TransferPlan(request, self.options, **known)

    def access(self, request: FetchRequest) -> Access | None:
        """What a try of `request` can show to origins; None: nothing."""
        wallet = self.wallet
        if wallet is None or wallet.is_empty:
            return None
        from stager.transfer.access import Access

        return Access(wallet, request.owner, self.clock)

    def decide(
        self, plan: TransferPlan, answer: Answer, access: Access | None
    ) -> Again | Receive | Unchanged | Finish:
        """What `plan` says to the answer; to a refusal, `access` may know another way."""
        if access is not None:
            return access.decide(plan, answer)
        return plan.on_response(answer.status, answer.headers, self.clock.time())

    def hit(self, request: FetchRequest, entry: Entry | None, started: float) -> FetchResult | None:
        """The result without asking the origin, if the cache's `entry` for the request is enough for that.

        What is restricted never is: whoever asks proves to the origin that he may read it.
        """
        if entry is None or entry.restricted or not self._is_enough(entry, request):
            return None
        path = self.cache.object_path(entry.object)
        return result_of(request, entry, path, self.clock.monotonic() - started, cached=True)

    def _is_enough(self, entry: Entry, request: FetchRequest) -> bool:
        expected = request.expected
        if (expected is not None or request.size is not None) and not entry.answers(expected, request.size):
            return False
        if expected is not None:
            return True  # these bytes can't change: nothing to ask
        return not request.refresh and entry.is_fresh(self.clock.time()) and request.names(entry.url)


def result_of(
    request: FetchRequest,
    entry: Entry,
    location: str | Path,
    seconds: float,
    *,
    cached: bool,
    received: int = 0,
    resumed_from: int = 0,
    tried: tuple[dict[str, Any], ...] = (),
    credentials: tuple[str, ...] = (),
) -> FetchResult:
    """What a try delivered whose file is described by `entry` and lies at `location`."""
    return FetchResult(
        url=request.url,
        sha256=entry.object,
        size=entry.size,
        location=location,
        cached=cached,
        seconds=seconds,
        received=received,
        resumed_from=resumed_from,
        unproven=entry.unproven,
        fresh_until=entry.fresh_until,
        tried=tried,
        source=entry.url or "",
        restricted=entry.restricted,
        credentials=credentials,
    )
