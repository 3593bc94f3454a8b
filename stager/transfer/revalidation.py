"""Asking whether a copy is still right, and what the answer (304) says about it."""

from __future__ import annotations

from dataclasses import replace

from stager.model.entries import Entry
from stager.model.fetches import FetchRequest
from stager.model.urls import Url
from stager.transfer.fields import Headers, opaque_tag, parse_etag
from stager.transfer.freshness import fresh_until, sharing
from stager.transfer.options import TransferOptions
from stager.transfer.resume import Representation


def revalidated(entry: Entry | None, request: FetchRequest, source: Url) -> Entry | None:
    """The entry if `source` can be asked whether it still has these bytes (and the answer would be of use).

    What one source says of its bytes means nothing to another. What was coded is fetched anew, as it should be.
    """
    if entry is None or not entry.validators or entry.content_encoding:
        return None
    useful = entry.url in {None, source.redacted} and entry.answers(request.expected, request.size)
    return entry if useful else None


def is_of_other(entry: Entry, headers: Headers) -> bool:
    """Whether the answer is about another version than that of the entry."""
    etag, known = parse_etag(headers.get("etag")), entry.validators.etag
    return bool(etag and known and opaque_tag(etag) != opaque_tag(known))


def confirmed(entry: Entry, headers: Headers, now: float, options: TransferOptions) -> Entry:
    """The entry after the origin said, with these headers, that nothing changed."""
    merged = dict(headers)
    if entry.validators.last_modified:
        merged.setdefault("last-modified", entry.validators.last_modified)
    found = entry.confirmed(
        now=now,
        fresh_until=freshness(merged, now, options),
        validators=Representation.of(headers, None).validators,
    )
    return replace(found, sharing=sharing(headers)) if "cache-control" in headers else found


def freshness(headers: Headers, now: float, options: TransferOptions) -> float:
    """Until when the answer with these headers is fresh, as the site bounds guesses."""
    return fresh_until(headers, now, shortest=options.fresh_min_seconds, longest=options.fresh_max_seconds)
