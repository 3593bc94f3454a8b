"""Manifests: which digest each file of a directory must have, as ``sha256sum`` and BagIt write it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from posixpath import normpath

from stager.errors import InputError

ALGORITHMS = ("sha256", "sha512", "sha1", "md5")
"""The best first: SHA-256 is computed anyway, and costs nothing more."""
LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
"""Hexadecimal digits."""
_BY_LENGTH = {length: name for name, length in LENGTHS.items()}
_GNU = re.compile(rb"(\\?)([0-9A-Fa-f]+) [ *](.+)")
_BSD = re.compile(rb"(\\?)(MD5|SHA1|SHA256|SHA512) \((.+)\) = ([0-9A-Fa-f]+)")
_BAG = re.compile(rb"([0-9A-Fa-f]+)[ \t]+\*?(.+)")
_ESCAPES = {rb"\\": b"\\", rb"\n": b"\n", rb"\r": b"\r"}
_PERCENT = {b"%0A": b"\n", b"%0D": b"\r", b"%25": b"%"}


def parse_manifest(data: bytes, *, bag: bool = False) -> Iterator[tuple[str, str, bytes]]:
    """The lines of a manifest: algorithm, digest (lower case), path relative to the directory.

    Args:
        data: ``HEX  path``, ``HEX *path``, ``SHA256 (path) = HEX``, names escaped as coreutils does it; empty lines and
            those that begin with ``#`` say nothing.
        bag: it is a BagIt manifest: names escaped as BagIt does it.

    Raises:
        InputError: a line is none of these, or its path leads out of the directory.
    """
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        line = raw.removesuffix(b"\r")
        if not line.strip() or line.startswith(b"#"):
            continue
        found = _bag_line(line) if bag else _line(line)
        algorithm = _BY_LENGTH.get(len(found[0])) if found else None
        if found is None or algorithm is None:
            raise InputError(
                f"line {number} of the manifest can't be read: {line[:80].decode('utf-8', 'backslashreplace')!r}",
                cause="neither `HEX  path` nor `SHA256 (path) = HEX` with an MD5, SHA-1, SHA-256 or SHA-512",
                remedy="make it with `sha256sum`",
            )
        path = _normal(found[1])
        if path is None:
            raise InputError(
                f"line {number} of the manifest names {found[1].decode('utf-8', 'backslashreplace')!r}",
                cause="that is not below the directory",
                remedy="name files relative to the directory that is imported",
            )
        yield algorithm, found[0].decode("ascii").lower(), path


def _line(line: bytes) -> tuple[bytes, bytes] | None:
    if found := _GNU.fullmatch(line):
        escaped, digest, path = found.groups()
    elif found := _BSD.fullmatch(line):
        escaped, name, path, digest = found.groups()
        if len(digest) != LENGTHS[name.decode("ascii").lower()]:
            return None
    else:
        return None
    return digest, _unescaped(path) if escaped else path


def _unescaped(path: bytes) -> bytes:
    return re.sub(rb"\\[\\nr]", lambda found: _ESCAPES[found[0]], path)


def _bag_line(line: bytes) -> tuple[bytes, bytes] | None:
    found = _BAG.fullmatch(line)
    if found is None:
        return None
    return found[1], re.sub(
        rb"%(?:0A|0D|25)", lambda one: _PERCENT[one[0].upper()], found[2], flags=re.IGNORECASE
    )


def _normal(path: bytes) -> bytes | None:
    """The path without ``./`` and the like; None when it leads elsewhere."""
    normal = normpath(path)
    return None if normal.startswith((b"/", b"../")) or normal in {b"..", b"."} else normal
