"""Figures for Prometheus."""

from __future__ import annotations

import asyncio
import time

from fastapi import APIRouter, Request, Response, Security
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from stager import metrics as m
from stager.metrics import Metrics, Values
from stager.server.problems import described
from stager.server.who import METRICS


def metrics_routes(metrics: Metrics, shown: HTTPBearer) -> APIRouter:
    """The route ``/metrics``; `shown` is how its description says what the guard wants to see."""
    router = APIRouter(tags=["server"], dependencies=[Security(shown)])
    lag: dict[tuple[str, ...], float] = {}

    def read() -> list[tuple[m.Metric, Values]]:
        return [(m.LOOP_LAG, lag)]

    metrics.reads("event-loop", read)

    @router.get(
        METRICS,
        summary="Figures for Prometheus",
        response_class=Response,
        responses=described() | {200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}},
    )
    async def collect(request: Request) -> Response:
        """All figures; in the OpenMetrics form for who accepts it."""
        began = time.perf_counter()
        await asyncio.sleep(0)  # once round the loop, behind all that waits there
        lag[()] = time.perf_counter() - began
        body, media_type = await run_in_threadpool(metrics.text, request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": media_type})

    return router
