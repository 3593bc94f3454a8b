"""Reports of the job server to which jobs are handed over by webhook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from stager.errors import ConflictError
from stager.server.problems import described
from stager.server.routes_uploads import add_upload_routes
from stager.service.runs import RunService
from stager.service.uploads import UploadService

LONGEST_ERROR = 2000
"""Characters of a reported error."""


class RunReport(BaseModel):
    """How a run goes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    state: Literal["started", "ended"] = Field(description="What happened.", examples=["ended"])
    exit_code: Annotated[int, Field(ge=0, le=255)] | None = Field(
        default=None,
        description="Of an end: the command's status, 128 + n for signal n; null if it was not started.",
        examples=[0],
    )
    error: Annotated[str, Field(max_length=LONGEST_ERROR)] | None = Field(
        default=None, description="Of an end: why it failed, if there is more to say than the status."
    )
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0, description="Of an end: how long the command ran."
    )


@dataclass(frozen=True)
class Reported:
    """Whether this report was news; false when it was known, and nothing happened."""

    changed: bool


def run_routes(runs: RunService | None, uploads: UploadService | None = None) -> APIRouter:
    """Routes below ``/v1/runs``."""
    router = APIRouter(prefix="/runs", tags=["runs"])
    add_upload_routes(router, uploads)

    @router.post("/{job}/{epoch}", responses=described(404, 409, 503), summary="Report on a run")
    def report(job: str, epoch: Annotated[int, Path(ge=1)], body: RunReport) -> Reported:
        """Say that a job handed over by webhook has started or ended. Its results are in its directory by then.

        The same report may be sent again; one for a hand-over that no longer counts is refused with 409.
        """
        if runs is None:
            raise ConflictError(
                "this server takes no reports on runs",
                cause="its jobs are not handed over by webhook",
                remedy='set dispatch = "webhook"',
            )
        if body.state == "started":
            return Reported(runs.started(job, epoch))
        return Reported(runs.ended(job, epoch, body.exit_code, body.error, body.seconds))

    return router
