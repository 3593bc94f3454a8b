"""What became of a result that is no more: when and why it went, beside what its job printed.

    jobs/<job>/gone/<sha256 of the result's name>.json

Written by whoever removes it, as far as he may write there; it goes with the directory of the job. If that is
gone, nothing is noted.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass

from stager.cache.files import remove_quietly, unless_stale, write_all
from stager.cache.fresh import refresh
from stager.cache.layout import JOBS, PRIVATE_FILE_MODE
from stager.cache.owner import new_owner, retire
from stager.cache.tree import Tree
from stager.model.catalogue import RESULT
from stager.model.keys import key_digest

_VERSION = 1
_MAX_BYTES = 1 << 16
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Gone:
    """When (seconds since 1970 UTC) and why a result went."""

    at: float
    why: str


def note_gone(tree: Tree, key: str, gone: Gone) -> None:
    """Write down what became of the result with that key; nothing happens where that can't be written."""
    path = _path(tree, key)
    if path is None or not os.path.isdir(os.path.dirname(os.path.dirname(path))):
        return
    owner = new_owner()
    private = f"{os.path.dirname(path)}/.{owner}"
    text = json.dumps({"version": _VERSION, "key": key, "at": gone.at, "why": gone.why}).encode() + b"\n"
    try:
        with suppress(OSError):  # of another user, or no room: then nobody will know
            fd = tree.creating(private, lambda: os.open(private, _CREATE, PRIVATE_FILE_MODE))
            try:
                write_all(fd, text)
            finally:
                os.close(fd)
            os.rename(private, path)
    finally:
        remove_quietly(private)
        retire(owner)


def read_gone(tree: Tree, key: str) -> Gone | None:
    """What is known of the result with that key, which is not in the cache."""
    path = _path(tree, key)
    if path is None:
        return None

    def content() -> bytes:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, _MAX_BYTES)
        finally:
            os.close(fd)

    if tree.remote:
        refresh(os.path.dirname(path))
    try:
        data = json.loads(unless_stale(content))
        return Gone(float(data["at"]), str(data["why"]))
    except (OSError, ValueError, KeyError, TypeError):  # none, not for us to read, or damaged
        return None


def _path(tree: Tree, key: str) -> str | None:
    """Where that is noted; None for a key that is no result's."""
    job, slash, name = key.removeprefix(RESULT).partition("/")
    if not key.startswith(RESULT) or not slash or not job or job.startswith("."):
        return None
    return f"{tree.root}/{JOBS}/{job}/gone/{key_digest(name)}.json"
