"""Calls about what jobs leave."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from stager.client.patience import resumed
from stager.client.shapes import views
from stager.client.talk import Group, M, Request, Talk, Telling, answered, listened, part
from stager.model.views import ResultView


class ResultCalls(Group[M]):
    """``client.results``: the files that jobs left."""

    @listened
    def read(self, job: str, name: str) -> Telling[bytes, None]:
        """The bytes of a result, a block at a time, gone on with when they break off; the caller checks their digest."""
        yield from resumed(f"jobs/{part(job)}/results/{quote(name)}")

    @answered
    def remove(self, job: str, names: Sequence[str] | None = None) -> Talk[list[ResultView]]:
        """Remove what the job left (all of it, or these), whatever was promised; those that were there."""
        path = f"jobs/{part(job)}/results"
        gone: list[ResultView] = []
        for one in [path] if names is None else [f"{path}/{quote(name)}" for name in names]:
            gone += views(ResultView, (yield Request("DELETE", one))["results"])
        return gone

    @answered
    def list(self, job: str) -> Talk[list[ResultView]]:
        """The files that the job left."""
        return views(ResultView, (yield Request("GET", f"jobs/{part(job)}/results"))["results"])
