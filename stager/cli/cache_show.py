"""``stager cache show``: all that is known of one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stager.cli import output
from stager.cli.cache_rows import shown_key
from stager.cli.options import AsJson, CacheDir

if TYPE_CHECKING:
    from pathlib import Path

    from stager.model.cache_views import FileDetail, Holder

Word = Annotated[
    str,
    typer.Argument(
        metavar="URL|KEY|SHA256",
        help="URL of a fetched file, key of one that was put, or how a SHA-256 begins.",
    ),
]


def show(word: Word, as_json: AsJson = False, cache_dir: CacheDir = None) -> None:
    """Show what is known of one file: where from, for whom, older versions, who holds it, when it was used."""
    found = _found(word, cache_dir)
    facts = _facts(found)
    if as_json:
        output.json_line(facts)
        return
    file = found.file
    facts["size"] = f"{file.size} ({output.size(file.size)})"
    for name in ("stored_at", "last_access", "keep_until"):
        facts[name] = output.moment(facts[name]) if facts[name] is not None else None
    facts["fresh_until"] = output.moment(file.fresh_until) if file.fresh_until else "for ever"
    facts["verified_at"] = (
        output.moment(found.verified_at) if found.verified_at else "not since it was stored"
    )
    rows = [(name, str(value)) for name, value in facts.items() if value not in ("", None, [], False)]
    shown = [row for row in rows if row[0] not in {"versions", "also", "holders"}]
    shown += [
        ("version", f"{one.object}  {output.size(one.size)}, stored {output.moment(one.stored_at)}")
        for one in found.versions
    ]
    shown += [("also as", key) for key in found.keys]
    shown += [("held by", _held(one)) for one in found.holders]
    output.table(("", ""), shown)


def _found(word: str, cache_dir: Path | None) -> FileDetail:
    from stager.cli.cache_source import cache_source

    with cache_source(lambda site: site.files, cache_dir) as files:
        return files.show(word)


def _facts(found: FileDetail) -> dict[str, Any]:
    file = found.file
    return {
        "key": shown_key(file.key),
        "sha256": file.object,
        "size": file.size,
        "kind": file.kind.value,
        "path": found.path,
        "url": found.url,
        "owner": file.owner,
        "host": file.host,
        "stored_at": file.stored_at,
        "last_access": file.last_access,
        "hits": file.hits,
        "fresh_until": file.fresh_until,
        "keep_until": file.keep_until,
        "verified_at": found.verified_at,
        "etag": found.etag,
        "last_modified": found.last_modified,
        "content_type": found.content_type,
        "content_encoding": found.content_encoding,
        "unproven": found.unproven,
        "restricted": file.restricted,
        "versions": [
            {"sha256": one.object, "size": one.size, "stored_at": one.stored_at} for one in found.versions
        ],
        "also": list(found.keys),
        "holders": [
            {"kind": one.kind, "name": one.name, "until": one.until, "reason": one.reason}
            for one in found.holders
        ],
    }


def _held(one: Holder) -> str:
    if one.kind == "job":
        return f"job {one.name}, as {one.reason}"
    until = "" if one.until is None else f" until {output.moment(one.until)}"
    return f"{one.name}{until}" + (f": {one.reason}" if one.reason else "")
