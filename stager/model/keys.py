"""Cache keys: any text; the tree knows them by their SHA-256."""

from __future__ import annotations

import re
from hashlib import sha256

from stager.errors import InputError
from stager.model.digests import Digest

SHA256 = "sha256:"
"""How the key of a file begins that was imported under its digest; no URL does."""
DIGEST_LENGTH = 64
"""Hexadecimal digits of a SHA-256."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


def key_digest(key: str) -> str:
    """SHA-256 of the key, 64 lower-case hexadecimal digits: the name of its entry."""
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def sha256_key(sha256: str) -> str:
    """Key of a file that is known by its digest alone; the file that it has always has that digest."""
    return SHA256 + sha256


def parse_sha256(text: str) -> str:
    """A digest as the user wrote it (``HEX``, ``sha256:HEX``, any case, or ``sha256-BASE64``) in its one form.

    Raises:
        InputError: not 64 hexadecimal digits.
    """
    if not isinstance(text, str):
        raise InputError(f"{text!r} is not a SHA-256 digest", cause="text is needed")
    digest = text.strip().lower().removeprefix("sha256:")
    if digest.startswith("sha256-"):
        found = Digest.of_base64("sha256", text.strip()[len("sha256-") :])
        digest = digest if found is None else found.value
    if not _DIGEST.fullmatch(digest):
        raise InputError(
            f"{text!r} is not a SHA-256 digest",
            cause="64 hexadecimal digits are needed",
            remedy="copy it from `sha256sum FILE`",
        )
    return digest
