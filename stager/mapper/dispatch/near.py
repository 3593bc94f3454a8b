"""Inputs from a compute node's own cache, where it has them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from stager.cache.failures import cache_error
from stager.cache.store import FileCache
from stager.errors import ObjectLostError
from stager.mapper.dispatch.prepare import prepare
from stager.model.events import DispatchInput, DispatchOrder, JobRefused

Fill = Callable[[Sequence[DispatchInput], Callable[[], bool]], set[str]]
"""Brings inputs into a node's own cache, as far as that can be done before the second argument says that it is too late.

Returns the digests of those that would not come however often it were tried.
"""


def prepare_near(near: FileCache, cache: FileCache, order: DispatchOrder) -> Path | JobRefused:
    """As `prepare`; what the node's own cache `near` has is shown from there, by a link that only this node can follow.

    It is pinned there until ``near.release``.

    Raises:
        CacheError: the file system failed.
    """
    here = {}
    for item in order.inputs:
        if not item.restricted and near.has_object(item.sha256, item.size):
            with suppress(ObjectLostError):  # it went meanwhile
                here[item.name] = near.pin(order.job, item.name, item.sha256, item.size)
    rest = tuple(item for item in order.inputs if item.name not in here)
    found = prepare(cache, replace(order, inputs=rest))
    if isinstance(found, JobRefused):
        return found
    for name, path in here.items():
        shown = found / "inputs" / name
        draft = shown.with_name(f".{uuid.uuid4().hex}")
        try:
            draft.symlink_to(path)
            os.replace(draft, shown)  # noqa: PTH105 - `draft` would read as if it were gone
        except OSError as error:
            raise cache_error(error, shown, "make") from error
    return found
