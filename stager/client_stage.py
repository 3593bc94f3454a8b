"""The API's client for stage requests: the same calls as those of `StageService`, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol
from urllib.parse import quote

from stager.client_cache import view
from stager.model.stages import ArchiveInfo, StageDetail, StageItem, StageView

MOST = 1000
"""Stage requests in one answer."""


class Patiently(Protocol):
    """Asks again and again, through restarts of the server, until what comes is over or time is up."""

    def __call__(
        self,
        ask: Callable[[float], StageDetail],
        is_over: Callable[[StageDetail], bool],
        seconds: float | None,
    ) -> StageDetail:
        """The last answer; `ask` is given how long the server may wait with it."""
        ...


class StageCalls:
    """What a server can be asked to stage.

    Args:
        ask: method, path, then `params` and `json`; the answer.
        patiently: waits for the end of a request.
    """

    def __init__(self, ask: Callable[..., Any], patiently: Patiently) -> None:
        self._ask = ask
        self._patiently = patiently

    def stage(
        self,
        items: Sequence[StageItem],
        *,
        keep_seconds: float | None = None,
        priority: int = 0,
        owner: str = "",
    ) -> str:
        """See `StageService.stage`."""
        files = [{name: value for name, value in asdict(item).items() if value} for item in items]
        body = {"files": files, "keep_seconds": keep_seconds, "priority": priority, "owner": owner}
        return str(self._ask("POST", "stage", json=body)["id"])

    def archive_info(self, paths: Sequence[str]) -> list[ArchiveInfo]:
        """See `StageService.archive_info`."""
        answer = self._ask("POST", "archiveinfo", json={"paths": list(paths)}, kind=list)
        return [view(ArchiveInfo, one) for one in answer]

    def cancel(self, word: str, urls: Sequence[str] | None = None) -> int:
        """See `StageService.cancel`."""
        return self._change("cancel", word, urls)

    def release(self, word: str, urls: Sequence[str] | None = None) -> int:
        """See `StageService.release`."""
        return self._change("release", word, urls)

    def unstage(self, word: str, urls: Sequence[str] | None = None) -> int:
        """See `StageService.unstage`."""
        return self.cancel(word, urls) + self.release(word, urls)

    def delete(self, word: str) -> int:
        """See `StageService.delete`."""
        return int(self._ask("DELETE", _path(word))["changed"])

    def stages(self, *, limit: int = 100, before: str | None = None) -> list[StageView]:
        """See `StageService.stages`."""
        found: list[StageView] = []
        while len(found) < limit:
            params = {"limit": min(limit - len(found), MOST)} | ({"before": before} if before else {})
            answer = self._ask("GET", "stage", params=params)
            found += [view(StageView, one) for one in answer["stages"]]
            before = answer["next"]
            if before is None:
                break
        return found

    def staged(self, word: str, *, wait: float = 0.0) -> StageDetail:
        """See `StageService.staged`; answered when nothing is to be waited for or after `wait` seconds."""
        params = {"wait": f"{wait:.3f}"} if wait else {}
        return view(StageDetail, self._ask("GET", _path(word), params=params))

    def wait(self, word: str, seconds: float | None = None) -> StageDetail:
        """See `StageService.wait`. A server that is started again meanwhile is waited for.

        Raises:
            ServerUnreachableError: it stayed away too long.
        """
        return self._patiently(
            lambda patience: self.staged(word, wait=patience), lambda found: found.is_over, seconds
        )

    def _change(self, verb: str, word: str, urls: Sequence[str] | None) -> int:
        body = {"urls": None if urls is None else list(urls)}
        return int(self._ask("POST", f"{_path(word)}/{verb}", json=body)["changed"])


def _path(word: str) -> str:
    return f"stage/{quote(word, safe='')}"
