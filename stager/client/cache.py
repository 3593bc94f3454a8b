"""Calls about the server's cache: the same as those of its services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from stager.client.patience import once, resumed, told
from stager.client.shapes import view, views
from stager.client.talk import Blocking, Group, M, Request, Talk, Telling, answered, listened, part
from stager.model.cache_views import CacheTotals, Content, FileDetail, Listing, Rebuilt, Walked
from stager.model.catalogue import CachedFile, Selection, Sort
from stager.model.eviction import LimitsView, Purge, Purged, Purging
from stager.model.pins import PinView
from stager.model.verify import VerifyProgress, VerifyReport, VerifyRequest

MOST = 10_000
"""Files in one answer of the server."""
REPORT_SECONDS = 5.0
"""A report of accesses is a courtesy: nobody waits for it longer."""


class CacheCalls(Group[M]):
    """``client.cache``: what is there, its bytes, what stays, what goes, whether it is what it should be."""

    # -- what there is ---------------------------------------------------------------------------

    @answered
    def ls(
        self,
        selection: Selection = Selection(),  # noqa: B008 - frozen
        sort: Sort = Sort.SIZE,
        *,
        limit: int | None = 100,
        offset: int = 0,
    ) -> Talk[Listing]:
        """See `CatalogueService.ls`."""
        found: list[Any] = []
        while True:
            some = MOST if limit is None else min(limit - len(found), MOST)
            query = {"sort": sort.value, "limit": some, "offset": offset + len(found), **asdict(selection)}
            answer = view(Listing, (yield Request("GET", "cache/files", query)))
            found += answer.files
            if len(answer.files) < some or len(found) == limit:
                return Listing(found, answer.total, answer.walked_at)

    @answered
    def show(self, word: str) -> Talk[FileDetail]:
        """See `CatalogueService.show`."""
        return view(FileDetail, (yield Request("GET", f"cache/files/{part(word)}")))

    @answered
    def totals(self, selection: Selection = Selection()) -> Talk[CacheTotals]:  # noqa: B008 - frozen
        """See `CatalogueService.totals`."""
        return view(CacheTotals, (yield Request("GET", "cache/totals", asdict(selection))))

    @answered
    def remove(self, keys: Iterable[str]) -> Talk[list[str]]:
        """See `CatalogueService.remove`."""
        answer = yield Request("POST", "cache/remove", json={"keys": list(keys)})
        return [str(key) for key in answer["missing"]]

    @listened
    def rebuild(self) -> Telling[Walked, Rebuilt]:
        """See `CatalogueService.rebuild`; closed early, the server stops too."""
        request = Request("POST", "cache/rebuild")
        return (yield from told(self._driver.url, request, partial(view, Walked), partial(view, Rebuilt)))

    # -- bytes -----------------------------------------------------------------------------------

    @answered
    def put(
        self, key: str, blocks: Iterable[bytes], *, sha256: str | None = None, owner: str = ""
    ) -> Talk[Content]:
        """See `ContentService.put`."""
        query = {"owner": owner, "sha256": sha256}
        return view(Content, (yield Request("PUT", f"cache/files/{part(key)}", query, data=blocks)))

    @listened
    def read(self, word: str) -> Telling[bytes, None]:
        """The bytes of a file, a block at a time, gone on with when they break off; the caller checks their digest."""
        yield from resumed(f"cache/content/{part(word)}")

    @contextmanager
    def get(self: CacheCalls[Blocking], word: str) -> Iterator[tuple[Content, Iterator[bytes]]]:
        """See `ContentService.get`; the caller checks the digest."""
        file: CachedFile = self.show(word).file
        with closing(self.read(word)) as blocks:
            yield Content(file.shown, file.object, file.size), blocks

    # -- what stays ------------------------------------------------------------------------------

    @answered
    def pin(
        self, word: str, seconds: float | None = None, *, reason: str = "", owner: str = ""
    ) -> Talk[PinView]:
        """See `PinService.pin`."""
        body = {"file": word, "seconds": seconds, "reason": reason, "owner": owner}
        request = Request("POST", "cache/pins", json=body)
        return view(PinView, (yield from once(request, self._driver.outage_seconds)))

    @answered
    def unpin(self, word: str) -> Talk[list[PinView]]:
        """See `PinService.unpin`."""
        return views(PinView, (yield Request("DELETE", f"cache/pins/{part(word)}"))["pins"])

    @answered
    def pins(self, word: str | None = None) -> Talk[list[PinView]]:
        """See `PinService.pins`."""
        return views(PinView, (yield Request("GET", "cache/pins", {"file": word}))["pins"])

    # -- what goes -------------------------------------------------------------------------------

    @listened
    def purge(self, purge: Purge) -> Telling[Purging, Purged]:
        """See `EvictionService.purge`; closed early, the server stops too."""
        request = Request("POST", "cache/purge", json=asdict(purge))
        return (yield from told(self._driver.url, request, partial(view, Purging), partial(view, Purged)))

    @answered
    def limits(self) -> Talk[LimitsView]:
        """See `EvictionService.limits`."""
        return view(LimitsView, (yield Request("GET", "cache/limits")))

    # -- whether it is what it should be ---------------------------------------------------------

    @listened
    def verify(self, request: VerifyRequest | None = None) -> Telling[VerifyProgress, VerifyReport]:
        """See `VerifyService.verify`."""
        asked = Request("POST", "cache/verify", json=asdict(request or VerifyRequest()))
        progress, report = partial(view, VerifyProgress), partial(view, VerifyReport)
        return (yield from told(self._driver.url, asked, progress, report))

    @answered
    def last_verification(self) -> Talk[VerifyReport | None]:
        """See `VerifyService.last_verification`."""
        report = (yield Request("GET", "cache/verify"))["report"]
        return None if report is None else view(VerifyReport, report)

    @answered
    def report_accesses(self, accesses: Mapping[str, float]) -> Talk[int]:
        """See `AccessService.report_accesses`."""
        body = {"accesses": dict(accesses)}
        answer = yield Request("POST", "cache/accesses", json=body, patience=REPORT_SECONDS)
        return int(answer["recorded"])
