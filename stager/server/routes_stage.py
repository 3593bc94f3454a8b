"""Stage requests: many files at once. The calls have the shape of the WLCG Tape REST API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from stager.errors import ConflictError
from stager.logs import request_id
from stager.model.stages import ArchiveInfo, StageDetail, StageItem, StageView
from stager.server.once import MakesOnce, Note
from stager.server.problems import described
from stager.server.waiting import LONGEST_SECONDS, Waiting
from stager.server.who import May
from stager.service.cache_reach import CacheReach
from stager.service.stage import MAX_FILES, StageService

MOST_REQUESTS = 1000
"""Stage requests in one answer."""


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StagedIn(_Shape):
    """A file to stage."""

    url: str = Field(description="Where it is (http, https).", examples=["https://example.org/run7.nxs"])
    sha256: str | None = Field(
        default=None, description="Digest that it must have: 64 hexadecimal digits.", examples=[None]
    )
    digest: str | None = Field(
        default=None,
        description="The same in another form: sha512:HEX, md5:HEX, sha256-BASE64 and the like.",
        examples=[None],
    )
    mirrors: list[str] = Field(
        default=[], description="Other URLs of the same file; those before failing first.", examples=[[]]
    )
    size: int | None = Field(default=None, description="Bytes that it must have.", examples=[None])

    def item(self) -> StageItem:
        """What is staged."""
        return StageItem(self.url, self.sha256, self.digest, tuple(self.mirrors), self.size)


def _kind_of_file(value: Any) -> str:
    return "<text>" if isinstance(value, str) else "<table>"


class StageIn(_Shape):
    """A stage request."""

    files: list[
        Annotated[
            Annotated[str, Tag("<text>")] | Annotated[StagedIn, Tag("<table>")], Discriminator(_kind_of_file)
        ]
    ] = Field(
        description=f"What to stage, at most {MAX_FILES} files: a URL, or an object with url, sha256 (or digest), mirrors and size.",
        examples=[["https://example.org/run7.nxs", "https://example.org/run8.nxs"]],
    )
    keep_seconds: float | None = Field(
        default=None,
        description="How long each file stays from the moment when it is there; null: until it is released.",
        examples=[604800],
    )
    priority: int = Field(default=0, description="-1000 to 1000; higher goes first.")
    owner: str = Field(default="", description="Whom it counts for in fair shares.", examples=["ada"])


class SomeFiles(_Shape):
    """Some files of a stage request."""

    urls: list[str] | None = Field(default=None, description="Only these; null: all.")


class Paths(_Shape):
    """Some files, by their URLs."""

    paths: list[str] = Field(
        description=f"URLs, or other keys of the cache; at most {MAX_FILES}.",
        examples=[["https://example.org/run7.nxs"]],
    )


@dataclass(frozen=True)
class Staged:
    """Id of the stage request."""

    id: str


@dataclass(frozen=True)
class StagePage:
    """Stage requests, newest first; with `next` as ``before`` come older ones (null: there are none)."""

    stages: list[StageView]
    next: str | None


@dataclass(frozen=True)
class Unstaged:
    """How many files changed by this."""

    changed: int


def stage_routes(stages: StageService | None, waiting: Waiting, reach: CacheReach) -> APIRouter:
    """``/v1/archiveinfo``, and the routes below ``/v1/stage``."""
    both = APIRouter(tags=["stage requests"])
    router = APIRouter(prefix="/stage")

    def service() -> StageService:
        if stages is None:
            raise ConflictError("this server takes no stage requests", remedy="ask the one that does")
        return stages

    @both.post(
        "/archiveinfo",
        response_model_exclude_none=True,
        responses=described(409, 413),
        summary="Where files are",
    )
    def archive_info(body: Paths, may: May) -> list[ArchiveInfo]:
        """For each file whether the cache has it (DISK, DISK_AND_TAPE) or it would have to be staged (TAPE).

        No origin is asked.
        """
        return service().archive_info(body.paths, lambda entry: reach.sees(entry, may.only))

    @router.post("", status_code=201, responses=described(409, 413, 503), summary="Stage files")
    def stage(body: StageIn, response: Response, may: May, once: MakesOnce) -> Staged:
        """Fetch many files, and let each stay for a while. What is answered survives any crash."""
        items = [StageItem(f) if isinstance(f, str) else f.item() for f in body.files]
        owner = may.owner(body.owner)

        def make(note: Note | None) -> Staged:
            made = service().stage(
                items,
                keep_seconds=body.keep_seconds,
                priority=body.priority,
                owner=owner,
                request_id=request_id(),
                answer=None if note is None else lambda made: note(Staged(made)),
            )
            return Staged(made)

        answer = once(Staged, make)
        response.headers["Location"] = f"/v1/stage/{answer.id}"
        return answer

    @router.get("", responses=described(409), summary="List stage requests")
    def list_stages(
        may: May,
        limit: Annotated[int, Query(ge=1, le=MOST_REQUESTS)] = 100,
        before: Annotated[
            str | None, Query(description="Only those older than the one with this id.")
        ] = None,
    ) -> StagePage:
        """Stage requests, newest first, a page at a time."""
        found = service().stages(limit=limit, before=before, owner=may.only)
        return StagePage(found, found[-1].id if len(found) == limit else None)

    @router.get("/{stage}", responses=described(404, 409), summary="Look at a stage request, or wait for it")
    async def detail(
        stage: str,
        may: May,
        wait: Annotated[
            float,
            Query(ge=0, description=f"Seconds to wait until it is over, at most {LONGEST_SECONDS:.0f}."),
        ] = 0.0,
    ) -> StageDetail:
        """One stage request with its files and how far each is. `stage` is its id, or an ending of it."""
        return await waiting.until_staged(service(), stage, wait, may.only)

    @router.post("/{stage}/cancel", responses=described(404, 409, 503), summary="Cancel files")
    def cancel(stage: str, may: May, body: Annotated[SomeFiles, Body()] = SomeFiles()) -> Unstaged:  # noqa: B008 - frozen
        """Give up files that are not there yet; those that are stay."""
        return Unstaged(service().cancel(stage, body.urls, may.only))

    @router.post("/{stage}/release", responses=described(404, 409, 503), summary="Release files")
    def release(stage: str, may: May, body: Annotated[SomeFiles, Body()] = SomeFiles()) -> Unstaged:  # noqa: B008 - frozen
        """Let files go that are there: they stay in the cache until room is needed."""
        return Unstaged(service().release(stage, body.urls, may.only))

    @router.delete("/{stage}", responses=described(404, 409, 503), summary="Delete a request")
    def delete(stage: str, may: May) -> Unstaged:
        """Cancel and release all of it, and forget the request."""
        return Unstaged(service().delete(stage, may.only))

    both.include_router(router)
    return both
