"""JSON: an array of URLs or objects (url or urls, sha256, size, name), such an array as ``files``, or one per line."""

from __future__ import annotations

import json
from typing import Any

from stager.model.lists.listed import ParsedList, refused

KNOWN = ("url", "urls", "sha256", "digest", "size", "name")


def parse_objects(text: str, name: str) -> ParsedList:
    """The files of the list.

    Raises:
        InputError: no JSON, or not of that form.
    """
    found = ParsedList()
    try:
        whole = _value(text)
    except ValueError as error:
        if len([line for line in text.split("\n") if line.strip()]) < 2:  # noqa: PLR2004 - one line is not one per line
            raise refused(f"{name}:{getattr(error, 'lineno', 1)}", _reason(error)) from None
        _lines(found, text, name)
        return found
    if isinstance(whole, dict) and isinstance(whole.get("files"), list):
        whole = whole["files"]
    for number, value in enumerate(whole if isinstance(whole, list) else [whole], 1):
        _add(found, f"{name}, file {number}", value)
    return found


def _lines(found: ParsedList, text: str, name: str) -> None:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{name}:{number}"
        try:
            value = _value(line)
        except ValueError as error:
            raise refused(place, _reason(error)) from None
        _add(found, place, value)


def _add(found: ParsedList, place: str, value: Any) -> None:
    if isinstance(value, str):
        found.add(place, [value])
        return
    if not isinstance(value, dict):
        raise refused(place, "it is neither a URL nor an object with one")
    for key in value:
        if key not in KNOWN:
            found.note(f"{key[:40]!r} is left out")
    urls = value.get("urls", value.get("url"))
    urls = [urls] if isinstance(urls, str) else urls
    if not (isinstance(urls, list) and urls and all(isinstance(url, str) for url in urls)):
        raise refused(place, "it has no url", 'write {"url": "https://host/path"}')
    texts = {key: value.get(key) for key in ("sha256", "digest", "name")}
    for key, text in texts.items():
        if not isinstance(text, str | None):
            raise refused(place, f"its {key} is no text")
    size = value.get("size")
    if not isinstance(size, int | str | None):
        raise refused(place, "its size is no number of bytes")
    found.add(place, urls, digest=texts["sha256"] or texts["digest"] or None, size=size, name=texts["name"])


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _reason(error: ValueError) -> str:
    return str(error.msg) if isinstance(error, json.JSONDecodeError) else str(error)
