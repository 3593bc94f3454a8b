"""The API's client for the cache: the same calls as those of its services, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import quote

from stager.model.cache_views import CacheTotals, Content, FileDetail, Listing, Rebuilt, Walked
from stager.model.catalogue import Selection, Sort
from stager.model.eviction import LimitsView, Purge, Purged, Purging
from stager.model.pins import PinView
from stager.model.verify import VerifyProgress, VerifyReport, VerifyRequest

T = TypeVar("T")
MOST = 10_000
"""Files in one answer of the server."""
REPORT_SECONDS = 5.0
"""A report of accesses is a courtesy: nobody waits for it longer."""


class CacheCalls:
    """What a server can be asked about its cache.

    Args:
        ask: method, path, then `params` and `json`; the answer.
        tell: the same for a long operation: yields how far it is, returns the result.
        read: path; yields bytes.
    """

    def __init__(
        self,
        ask: Callable[..., dict[str, Any]],
        tell: Callable[..., Generator[dict[str, Any], None, dict[str, Any]]],
        read: Callable[[str], Generator[bytes, None, None]],
    ) -> None:
        self._ask = ask
        self._tell = tell
        self._read = read

    # -- what there is ---------------------------------------------------------------------------

    def ls(
        self,
        selection: Selection = Selection(),  # noqa: B008 - frozen
        sort: Sort = Sort.SIZE,
        *,
        limit: int | None = 100,
        offset: int = 0,
    ) -> Listing:
        """See `CatalogueService.ls`."""
        found: list[Any] = []
        while True:
            some = MOST if limit is None else min(limit - len(found), MOST)
            params = {"sort": sort.value, "limit": some, "offset": offset + len(found), **_query(selection)}
            answer = view(Listing, self._ask("GET", "cache/files", params=params))
            found += answer.files
            if len(answer.files) < some or len(found) == limit:
                return Listing(found, answer.total, answer.walked_at)

    def show(self, word: str) -> FileDetail:
        """See `CatalogueService.show`."""
        return view(FileDetail, self._ask("GET", f"cache/files/{quote(word, safe='')}"))

    def totals(self, selection: Selection = Selection()) -> CacheTotals:  # noqa: B008 - frozen
        """See `CatalogueService.totals`."""
        return view(CacheTotals, self._ask("GET", "cache/totals", params=_query(selection)))

    def remove(self, keys: Iterable[str]) -> list[str]:
        """See `CatalogueService.remove`."""
        return [str(key) for key in self._ask("POST", "cache/remove", json={"keys": list(keys)})["missing"]]

    def rebuild(self) -> Generator[Walked, None, Rebuilt]:
        """See `CatalogueService.rebuild`; closed early, the server stops too."""
        lines = self._tell("POST", "cache/rebuild")
        with closing(lines):
            while True:
                try:
                    yield view(Walked, next(lines))
                except StopIteration as end:
                    return view(Rebuilt, end.value)

    # -- bytes -----------------------------------------------------------------------------------

    def put(
        self, key: str, blocks: Iterable[bytes], *, sha256: str | None = None, owner: str = ""
    ) -> Content:
        """See `ContentService.put`."""
        params = {"owner": owner} | ({"sha256": sha256} if sha256 else {})
        path = f"cache/files/{quote(key, safe='')}"
        return view(Content, self._ask("PUT", path, params=params, data=iter(blocks)))

    @contextmanager
    def get(self, word: str) -> Iterator[tuple[Content, Iterator[bytes]]]:
        """See `ContentService.get`; the caller checks the digest."""
        file = self.show(word).file
        with closing(self._read(f"cache/content/{quote(word, safe='')}")) as blocks:
            yield Content(file.shown, file.object, file.size), blocks

    # -- what stays ------------------------------------------------------------------------------

    def pin(self, word: str, seconds: float | None = None, *, reason: str = "", owner: str = "") -> PinView:
        """See `PinService.pin`."""
        body = {"file": word, "seconds": seconds, "reason": reason, "owner": owner}
        return view(PinView, self._ask("POST", "cache/pins", json=body))

    def unpin(self, word: str) -> list[PinView]:
        """See `PinService.unpin`."""
        answer = self._ask("DELETE", f"cache/pins/{quote(word, safe='')}")
        return [view(PinView, one) for one in answer["pins"]]

    def pins(self, word: str | None = None) -> list[PinView]:
        """See `PinService.pins`."""
        params = {} if word is None else {"file": word}
        return [view(PinView, one) for one in self._ask("GET", "cache/pins", params=params)["pins"]]

    # -- what goes -------------------------------------------------------------------------------

    def purge(self, purge: Purge) -> Generator[Purging, None, Purged]:
        """See `EvictionService.purge`; closed early, the server stops too."""
        lines = self._tell("POST", "cache/purge", json=asdict(purge))
        with closing(lines):
            while True:
                try:
                    yield view(Purging, next(lines))
                except StopIteration as end:
                    return view(Purged, end.value)

    def limits(self) -> LimitsView:
        """See `EvictionService.limits`."""
        return view(LimitsView, self._ask("GET", "cache/limits"))

    # -- whether it is what it should be ---------------------------------------------------------

    def verify(self, request: VerifyRequest | None = None) -> Generator[VerifyProgress, None, VerifyReport]:
        """See `VerifyService.verify`."""
        lines = self._tell("POST", "cache/verify", json=asdict(request or VerifyRequest()))
        with closing(lines):
            while True:
                try:
                    yield view(VerifyProgress, next(lines))
                except StopIteration as end:
                    return view(VerifyReport, end.value)

    def last_verification(self) -> VerifyReport | None:
        """See `VerifyService.last_verification`."""
        report = self._ask("GET", "cache/verify")["report"]
        return None if report is None else view(VerifyReport, report)

    def report_accesses(self, accesses: Mapping[str, float]) -> int:
        """See `AccessService.report_accesses`."""
        body = {"accesses": dict(accesses)}
        return int(self._ask("POST", "cache/accesses", json=body, patience=REPORT_SECONDS)["recorded"])


def _query(selection: Selection) -> dict[str, Any]:
    return {name: value for name, value in asdict(selection).items() if value is not None}


def view(kind: type[T], data: Mapping[str, Any]) -> T:
    """A dataclass from its JSON, parts included; what a newer server says besides is left out."""
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]  # of dataclasses alone
    return kind(**{name: _value(hints[name], value) for name, value in data.items() if name in known})


def _value(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(kind, UnionType):
        kind = next(one for one in get_args(kind) if one is not type(None))
    if is_dataclass(kind):
        return view(kind, value)  # type: ignore[arg-type]  # a class, not an object of it
    container = get_origin(kind)
    if container in {list, tuple}:
        return container(_value(get_args(kind)[0], item) for item in value)
    return kind(value) if isinstance(kind, type) and issubclass(kind, str) else value
