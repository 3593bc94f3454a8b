"""What an origin says its bytes hash to, read strictly and without I/O; what can't be understood is as if absent.

Only what is about all the bytes that will be in place counts, and of that the digest that proves most for least
work: a SHA-256, which is computed in any case, before all others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stager.model.digests import Digest, strongest
from stager.transfer.checksums import can_compute
from stager.transfer.fields import Headers

_HTTP_NAMES = {
    "sha-256": "sha256", "sha-512": "sha512", "sha-384": "sha384", "sha": "sha1", "sha-1": "sha1", "md5": "md5",
    "crc32c": "crc32c", "adler32": "adler32",
}  # fmt: skip
"""Algorithms of Repr-Digest, Content-Digest (RFC 9530) and Digest (RFC 3230) that are computed here."""
_AMAZON = {f"x-amz-checksum-{name}": name for name in ("sha256", "sha1", "crc32c", "crc32")}
FIELDS = frozenset({"repr-digest", "content-digest", "digest", "content-md5", "x-goog-hash", *_AMAZON})
"""Fields that say something about the bytes."""

_MEMBER = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):(?:;[^,]*)?")
_OLD_MEMBER = re.compile(r"([A-Za-z0-9-]+)=([A-Za-z0-9+/]+={0,2})")
_S3 = re.compile(r"(?:.+\.)?s3(?:[.-][a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?")


def digest_of(headers: Headers, *, whole: bool) -> Digest | None:
    """The digest to verify, if the origin gives one.

    Args:
        headers: of the answer, or the fields of its trailer.
        whole: the answer's body is the whole file (200), not a part of it (206).
    """
    if FIELDS.isdisjoint(headers):
        return None
    return strongest(_digests(headers, whole))


def wants_checksum(host: str, target: str) -> bool:
    """Whether to ask ``host`` for the checksum that S3 keeps of an object.

    Not with a signed URL: S3 refuses fields of its own that the signature does not cover.
    """
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn")) and (
        _S3.fullmatch(host) is not None and "Signature=" not in target
    )


def _digests(headers: Headers, whole: bool) -> Iterator[Digest]:
    yield from _members(headers.get("repr-digest", ""))
    if whole:
        yield from _members(headers.get("content-digest", ""))
    yield from _old_members(headers.get("digest", ""))
    if whole:
        yield from _base64("md5", headers.get("content-md5", ""))
        yield from _of_s3(headers)
    yield from _of_google(headers)


def _members(text: str) -> Iterator[Digest]:
    """RFC 9530: a dictionary of byte sequences (RFC 8941), which is right as a whole or is nothing."""
    parts = [_MEMBER.fullmatch(part.strip(" \t")) for part in text.split(",")]
    found = [part for part in parts if part is not None]
    if len(found) == len(parts):
        for part in found:
            yield from _base64(_HTTP_NAMES.get(part[1], ""), part[2])


def _old_members(text: str) -> Iterator[Digest]:
    """RFC 3230; of Adler-32, which is what storage of the sciences keeps, the value is hexadecimal."""
    for part in text.split(","):
        member = _OLD_MEMBER.fullmatch(part.strip(" \t"))
        name = "" if member is None else _HTTP_NAMES.get(member[1].lower(), "")
        if member is None or not name:
            continue
        if name == "adler32":
            digest = Digest.of_hex(name, member[2].rjust(8, "0"))
            if digest is not None:
                yield digest
        else:
            yield from _base64(name, member[2])


def _of_s3(headers: Headers) -> Iterator[Digest]:
    """What S3 keeps of an object; of one that came in parts it is often a checksum of the parts' checksums."""
    if headers.get("x-amz-checksum-type", "FULL_OBJECT").upper() == "FULL_OBJECT":
        for field, name in _AMAZON.items():
            yield from _base64(
                name, headers.get(field, "")
            )  # with -N behind it, as of N parts, it is no base64


def _of_google(headers: Headers) -> Iterator[Digest]:
    """What Google keeps of an object as it is stored: about other bytes if it is unpacked on the way."""
    if "x-goog-hash" not in headers:
        return
    stored = headers.get("x-goog-stored-content-encoding", "identity").strip().lower()
    if stored == (headers.get("content-encoding", "").strip().lower() or "identity"):
        yield from _old_members(headers["x-goog-hash"])


def _base64(name: str, text: str) -> Iterator[Digest]:
    digest = Digest.of_base64(name, text.strip()) if name and text else None
    if digest is not None and can_compute(name):
        yield digest
