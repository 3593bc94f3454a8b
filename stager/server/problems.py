"""Errors as problem details (RFC 9457): one shape for everything that can go wrong."""

from __future__ import annotations

from http import HTTPStatus
from math import ceil
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from stager import errors
from stager.errors import StagerError
from stager.logs import request_id
from stager.server.complaints import complaint

MEDIA_TYPE = "application/problem+json"
STATUS: Final[dict[type[StagerError], int]] = {
    errors.InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotFoundError: HTTPStatus.NOT_FOUND,
    errors.ResultGoneError: HTTPStatus.GONE,
    errors.DigestMismatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ConflictError: HTTPStatus.CONFLICT,
    errors.AccessDeniedError: HTTPStatus.UNAUTHORIZED,
    errors.ForbiddenError: HTTPStatus.FORBIDDEN,
    errors.TooManyRequestsError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.StateError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.CacheError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.CredentialStoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.SignalsError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NotReadyError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.CacheFullError: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.CacheTooSmallError: HTTPStatus.INSUFFICIENT_STORAGE,
}
"""The nearest class in the error's ancestry counts; any other is 500."""


class Problem(BaseModel):
    """What went wrong, why, and what to do."""

    type: str = Field(
        description="Stable name of the kind of problem.", examples=["urn:stager:error:not-found"]
    )
    title: str = Field(description="The kind in words.", examples=["Not found"])
    status: int = Field(description="HTTP status.", examples=[404])
    detail: str = Field(description="What, cause and remedy in one line.")
    code: str = Field(description="Last part of the type.", examples=["not-found"])
    what: str = Field(description="The thing and what happened to it.", examples=["no job 'x'"])
    cause: str = Field(description="Why; may be empty.")
    remedy: str = Field(description="What can be done now; may be empty.", examples=["see `stager jobs`"])
    transient: bool = Field(description="Whether the same request may succeed later.")
    details: dict[str, Any] = Field(description="Values for programs.")
    request_id: str = Field(description="Id of the request, as in `X-Request-Id` and in the server's log.")


def problem(error: StagerError, status: int | None = None) -> JSONResponse:
    """The answer that tells of `error`."""
    if status is None:
        status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    body = {
        "type": f"urn:stager:error:{error.code}",
        "title": error.code.replace("-", " ").capitalize(),
        "status": int(status),
        "detail": str(error),
        **error.to_dict(),
        "request_id": request_id(),
    }
    headers = {"WWW-Authenticate": 'Bearer realm="stager"'} if status == HTTPStatus.UNAUTHORIZED else {}
    if "retry_after_seconds" in error.details:
        headers["Retry-After"] = str(ceil(error.details["retry_after_seconds"]))
    return JSONResponse(body, status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every error of `app` leave it as a problem; faults are the `Guard`'s business."""
    app.add_exception_handler(StagerError, _stager_error)
    app.add_exception_handler(RequestValidationError, _wrong_shape)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(TimeoutError, _too_late)


def _stager_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StagerError)
    return problem(error)


def _wrong_shape(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return problem(complaint(error.errors()))


def _http_error(request: Request, error: Exception) -> JSONResponse:
    """What the framework says of itself: no such route, no such method, a body that can't be read."""
    assert isinstance(error, HTTPException)
    found: StagerError
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            found = errors.NotFoundError(f"there is nothing at {request.url.path}", remedy="see /docs")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            found = errors.InputError(
                f"{request.method} is not possible at {request.url.path}",
                cause=f"only {(error.headers or {}).get('Allow', 'other methods')}",
                remedy="see /docs",
            )
        case HTTPStatus.BAD_REQUEST:  # FastAPI's word for a body that is no text
            found = errors.InputError(
                "the body can't be read", cause=str(error.detail), remedy="send JSON in UTF-8"
            )
            return problem(found)
        case _:
            found = errors.InputError(str(error.detail))
    answer = problem(found, error.status_code)
    answer.headers.update(error.headers or {})
    return answer


def _too_late(_request: Request, _error: Exception) -> JSONResponse:
    return problem(
        errors.StateError(
            "the server did not come to it in time",
            cause="its disk or database stands still",
            remedy="look whether it was done all the same, then try again",
        )
    )


def fault() -> StagerError:
    """What a client is told of a fault of ours: nothing of the inside."""
    return StagerError("internal error of the server", cause="a fault in this program", remedy="see its log")


Answers = dict[int | str, dict[str, Any]]
"""Descriptions of answers, by status."""


def described(*statuses: int) -> Answers:
    """How a route's problems are described in OpenAPI."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        int(status): {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in (401, 403, 408, 422, 429, *statuses)
    }
