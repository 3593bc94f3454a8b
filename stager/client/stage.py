"""Calls about stage requests: many files at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from stager.client.patience import once, patiently
from stager.client.shapes import view, views
from stager.client.talk import ANSWER_SECONDS, Group, M, Request, Talk, answered, part
from stager.model.stages import ArchiveInfo, StageDetail, StageItem, StageView

MOST = 1000
"""Stage requests in one answer."""


class StageCalls(Group[M]):
    """``client.stage``. A request is named by its id, or by an ending of it."""

    @answered
    def submit(
        self,
        items: Sequence[StageItem],
        *,
        keep_seconds: float | None = None,
        priority: int = 0,
        owner: str = "",
    ) -> Talk[str]:
        """See `StageService.stage`."""
        files = [{name: value for name, value in asdict(item).items() if value} for item in items]
        body = {"files": files, "keep_seconds": keep_seconds, "priority": priority, "owner": owner}
        request = Request("POST", "stage", json=body)
        return str((yield from once(request, self._driver.outage_seconds))["id"])

    @answered
    def archive_info(self, paths: Sequence[str]) -> Talk[list[ArchiveInfo]]:
        """See `StageService.archive_info`."""
        answer = yield Request("POST", "archiveinfo", json={"paths": list(paths)}, kind=list)
        return views(ArchiveInfo, answer)

    @answered
    def cancel(self, word: str, urls: Sequence[str] | None = None) -> Talk[int]:
        """See `StageService.cancel`."""
        return (yield from _change("cancel", word, urls))

    @answered
    def release(self, word: str, urls: Sequence[str] | None = None) -> Talk[int]:
        """See `StageService.release`."""
        return (yield from _change("release", word, urls))

    @answered
    def unstage(self, word: str, urls: Sequence[str] | None = None) -> Talk[int]:
        """See `StageService.unstage`."""
        return (yield from _change("cancel", word, urls)) + (yield from _change("release", word, urls))

    @answered
    def delete(self, word: str) -> Talk[int]:
        """See `StageService.delete`."""
        return int((yield Request("DELETE", f"stage/{part(word)}"))["changed"])

    @answered
    def show(self, word: str, *, wait: float = 0.0) -> Talk[StageDetail]:
        """See `StageService.staged`; answered when nothing is to be waited for or after `wait` seconds."""
        return (yield from _show(word, wait))

    @answered
    def wait(self, word: str, seconds: float | None = None) -> Talk[StageDetail]:
        """See `StageService.wait`. A server that is started again meanwhile is waited for.

        Raises:
            ServerUnreachableError: it stayed away too long.
        """
        return (
            yield from patiently(
                lambda patience: _show(word, patience),
                lambda found: found.is_over,
                seconds,
                self._driver.outage_seconds,
            )
        )

    @answered
    def list(self, *, limit: int = 100, before: str | None = None) -> Talk[list[StageView]]:
        """See `StageService.stages`."""
        found: list[StageView] = []
        while len(found) < limit:
            answer = yield Request("GET", "stage", {"limit": min(limit - len(found), MOST), "before": before})
            found += views(StageView, answer["stages"])
            before = answer["next"]
            if before is None:
                break
        return found


def _show(word: str, wait: float) -> Talk[StageDetail]:
    query = {"wait": f"{wait:.3f}"} if wait else {}
    answer = yield Request("GET", f"stage/{part(word)}", query, patience=ANSWER_SECONDS + wait)
    return view(StageDetail, answer)


def _change(verb: str, word: str, urls: Sequence[str] | None) -> Talk[int]:
    body = {"urls": None if urls is None else list(urls)}
    return int((yield Request("POST", f"stage/{part(word)}/{verb}", json=body))["changed"])
