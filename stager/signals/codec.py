"""Signals and orders as JSON. No URL goes with a signal; the server knows which fetch it is about."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from stager.errors import StagerError, error_from_dict
from stager.model.events import (
    DispatchInput,
    DispatchOrder,
    JobEnded,
    JobRefused,
    JobResult,
    JobSignal,
    JobStarted,
)
from stager.model.fetches import (
    Failed,
    FetchOrder,
    FetchRequest,
    FetchResult,
    Progress,
    Ready,
    Signal,
    Started,
)

_to_json = json.JSONEncoder(separators=(",", ":")).encode


def signals_to_json(signals: Iterable[Signal | JobSignal]) -> str:
    """What `signals_from_json` reads."""
    return _to_json([_signal_to_list(signal) for signal in signals])


def signals_from_json(text: str | bytes) -> list[Signal | JobSignal]:
    """The signals that `signals_to_json` wrote; of a kind that this version does not know: none.

    Raises:
        ValueError: it is something else.
    """
    try:
        found = [_signal_from_list(item) for item in json.loads(text)]
    except (TypeError, IndexError, KeyError) as error:
        raise ValueError(f"no signals: {text!r:.100}") from error
    return [signal for signal in found if signal is not None]


def _signal_to_list(signal: Signal | JobSignal) -> list[Any]:
    match signal:
        case Started(fetch, generation):
            return ["started", fetch, generation]
        case Progress(fetch, generation, received, total, resumed_from):
            return ["progress", fetch, generation, received, total, resumed_from]
        case Ready(fetch, generation, result):
            return ["ready", fetch, generation, _result_to_list(result)]
        case Failed(fetch, generation, error, progressed):
            return ["failed", fetch, generation, error.to_dict(), progressed]
        case JobStarted(job, epoch, seconds):
            return ["job-started", job, epoch, seconds]
        case JobRefused(job, epoch, lost):
            return ["job-refused", job, epoch, lost]
        case JobEnded(job, epoch, exit_code, error, results, seconds):
            kept = [[r.name, r.sha256, r.size] for r in results]
            told = None if error is None else error.to_dict()
            return ["job-ended", job, epoch, exit_code, told, kept, seconds]


def _signal_from_list(item: list[Any]) -> Signal | JobSignal | None:
    match item:
        case ["started", str(fetch), int(generation)]:
            return Started(fetch, generation)
        case ["progress", str(fetch), int(generation), int(received), total, int(resumed_from)]:
            return Progress(fetch, generation, received, total, resumed_from)
        case ["ready", str(fetch), int(generation), result]:
            return Ready(fetch, generation, _result_from_list(result))
        case ["failed", str(fetch), int(generation), dict(error), bool(progressed)]:
            return Failed(fetch, generation, error_from_dict(error), progressed=progressed)
        case ["job-started", str(job), int(epoch), *seconds]:
            return JobStarted(job, epoch, *map(float, seconds[:1]))
        case ["job-refused", str(job), int(epoch), list(lost)]:
            return JobRefused(job, epoch, tuple(lost))
        case ["job-ended", str(job), int(epoch), exit_code, dict() | None as error, list(results), seconds]:
            told: StagerError | None = None if error is None else error_from_dict(error)
            kept = tuple(JobResult(name, sha256, size) for name, sha256, size in results)
            return JobEnded(job, epoch, exit_code, told, kept, float(seconds))
    return None


def _result_to_list(result: FetchResult) -> list[Any]:
    return [
        result.sha256,
        result.size,
        result.cached,
        round(result.seconds, 6),
        result.received,
        result.resumed_from,
        result.unproven,
        result.fresh_until,
        *([result.restricted, result.credentials] if result.restricted else ()),
    ]


def _result_from_list(item: list[Any]) -> FetchResult:
    sha256, size, cached, seconds, received, resumed_from, unproven, fresh_until, *more = item
    restricted, credentials = more or (False, ())
    return FetchResult(
        url="",  # the server knows it, and its own path to the object
        sha256=sha256,
        size=size,
        location="",
        cached=cached,
        seconds=seconds,
        received=received,
        resumed_from=resumed_from,
        unproven=unproven,
        fresh_until=fresh_until,
        restricted=restricted,
        credentials=tuple(credentials),
    )


def fetch_order_to_json(order: FetchOrder) -> str:
    """What `fetch_order_from_json` reads."""
    request = order.request
    return _to_json(
        [
            order.generation,
            request.url,
            request.expected,
            request.refresh,
            request.priority,
            request.owner,
            *_given(request.mirrors, request.size, request.request_id),
        ]
    )


_NOTHING: tuple[Any, ...] = ((), None, "")


def _given(*last: Any) -> tuple[Any, ...]:
    """The last parts of an order as far as there are any: most have none, and an order is sent for each fetch."""
    while last and last[-1] in _NOTHING:
        last = last[:-1]
    return last


def fetch_order_from_json(fetch: str, text: str | bytes) -> FetchOrder:
    """The order of that fetch."""
    generation, url, expected, refresh, priority, owner, *more = json.loads(text)
    mirrors, size, request_id = more + list(_NOTHING[len(more) :])
    request = FetchRequest(url, None, refresh, priority, owner, expected, tuple(mirrors), size, request_id)
    return FetchOrder(fetch, generation, request)


def job_order_to_json(order: DispatchOrder) -> str:
    """What `job_order_from_json` reads."""
    return _to_json(
        {
            "job": order.job,
            "epoch": order.epoch,
            "name": order.name,
            "command": order.command,
            "environment": order.environment,
            "inputs": [
                [i.name, i.sha256, i.size, i.fetch, *([True] if i.restricted else ())] for i in order.inputs
            ],
            "results": order.results,
            "owner": order.owner,
            "request_id": order.request_id,
        }
    )


def job_order_from_json(text: str | bytes) -> DispatchOrder:
    """The order of a job."""
    data = json.loads(text)
    return DispatchOrder(
        job=data["job"],
        epoch=data["epoch"],
        name=data["name"],
        command=tuple(data["command"]),
        environment=tuple((name, value) for name, value in data["environment"]),
        inputs=tuple(DispatchInput(*item) for item in data["inputs"]),
        results=tuple(data["results"]),
        owner=data["owner"],
        request_id=data.get("request_id", ""),
    )
