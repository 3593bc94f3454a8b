"""Calls of nodes that do not see the server's cache."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from stager.client.shapes import view
from stager.client.talk import Group, M, Request, Talk, answered, part
from stager.model.uploads import Upload, Uploaded


class RunCalls(Group[M]):
    """``client.runs``: which node has a run, and the files that it brings back."""

    @answered
    def claim(self, job: str, epoch: int, node: str) -> Talk[str]:
        """Take a run for a node; which node has it."""
        return str((yield Request("POST", f"runs/{part(job)}/{epoch}/claim", json={"node": node}))["node"])

    @answered
    def holder(self, job: str, epoch: int) -> Talk[str | None]:
        """Which node has it; None: none has."""
        node = (yield Request("GET", f"runs/{part(job)}/{epoch}/claim"))["node"]
        return None if node is None else str(node)

    @answered
    def look(self, upload: Upload) -> Talk[Uploaded]:
        """How much of it has come."""
        return view(Uploaded, (yield Request("GET", _path(upload), _params(upload))))

    @answered
    def append(self, upload: Upload, offset: int, blocks: Iterable[bytes]) -> Talk[Uploaded]:
        """Bring the bytes from `offset` on."""
        params = _params(upload) | {"offset": offset, "restricted": str(upload.restricted).lower()}
        return view(Uploaded, (yield Request("PUT", _path(upload), params, data=blocks)))


def _path(upload: Upload) -> str:
    return f"runs/{part(upload.job)}/{upload.epoch}/files/{quote(upload.name)}"


def _params(upload: Upload) -> dict[str, Any]:
    return {"sha256": upload.sha256, "size": upload.size}
