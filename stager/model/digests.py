"""Digests that people and origins give: parsed strictly, in one form each. No I/O.

The one form is ``ALGORITHM:HEX`` in lower case; that of a SHA-256 is its 64 hexadecimal digits alone, as objects
are named.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import NamedTuple, Self

from stager.errors import InputError

BYTES = {
    "sha256": 32, "sha512": 64, "sha384": 48, "sha1": 20, "md5": 16, "crc32c": 4, "crc32": 4, "adler32": 4,
}  # fmt: skip
"""Known algorithms and the length of their values, the one first that proves most for least."""
STRONG = frozenset({"sha256", "sha384", "sha512"})
"""Those for which nobody can make other bytes."""
GIVEN = ("sha256", "sha512", "sha384", "sha1", "md5")
"""What a caller may give; the others come from origins alone."""

_HEX = re.compile(r"[0-9a-f]+")
_RANK = {name: rank for rank, name in enumerate(BYTES)}
_SRI = re.compile(r"(sha256|sha384|sha512)-([A-Za-z0-9+/_=-]+)(?:\?\S*)?")


class Digest(NamedTuple):
    """What bytes hash to.

    Attributes:
        algorithm: one of `BYTES`.
        value: hexadecimal, lower case.
    """

    algorithm: str
    value: str

    def __str__(self) -> str:
        return self.value if self.algorithm == "sha256" else f"{self.algorithm}:{self.value}"

    @property
    def is_strong(self) -> bool:
        """Whether nobody can make other bytes with it."""
        return self.algorithm in STRONG

    @classmethod
    def of_base64(cls, algorithm: str, text: str) -> Self | None:
        """The digest whose value is written in base64; None when it is none of that algorithm."""
        try:
            value = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return None
        return cls(algorithm, value.hex()) if len(value) == BYTES.get(algorithm) else None

    @classmethod
    def of_hex(cls, algorithm: str, text: str) -> Self | None:
        """The digest whose value is written in hexadecimal digits; None when it is none of that algorithm."""
        value = text.lower()
        good = _HEX.fullmatch(value) and len(value) == 2 * BYTES.get(algorithm, 0)
        return cls(algorithm, value) if good else None


def strongest(digests: Iterable[Digest]) -> Digest | None:
    """The one that proves most for least work; of two of one algorithm the first. None of none."""
    return min(digests, key=lambda digest: _RANK[digest.algorithm], default=None)


def read_digest(text: str) -> Digest:
    """A digest in its one form.

    Raises:
        KeyError, ValueError: it is in another one.
    """
    algorithm, colon, value = text.partition(":")
    digest = Digest.of_hex(algorithm, value) if colon else Digest.of_hex("sha256", text)
    if digest is None:
        raise ValueError(text)
    return digest


def parse_digest(text: str) -> Digest:
    """A digest as people write it: ``HEX`` (SHA-256), ``sha512:HEX``, ``sha512-BASE64`` (Subresource Integrity).

    Of several, parted by blanks as SRI allows, the strongest counts.

    Raises:
        InputError: it is none, or of an algorithm that nobody should rely on.
    """
    if not isinstance(text, str):
        raise InputError(f"{text!r} is not a digest", cause="text is needed")
    found = [_parse_one(part, text) for part in text.split()]
    best = min(found, key=lambda digest: -BYTES[digest.algorithm] * digest.is_strong, default=None)
    if best is None:
        raise _no_digest(text)
    return best


def algorithm_of(text: str) -> str:
    """The algorithm that is called so (``sha-256``, ``SHA512``), if a caller may give its digests; else empty."""
    name = text.strip().lower().replace("-", "")
    return name if name in GIVEN else ""


def _parse_one(part: str, whole: str) -> Digest:
    sri = _SRI.fullmatch(part)
    if sri is not None:
        digest = Digest.of_base64(sri[1], sri[2].translate({ord("-"): "+", ord("_"): "/"}))
    else:
        algorithm, colon, value = part.rpartition(":")
        name = algorithm_of(algorithm) if colon else "sha256"
        digest = Digest.of_hex(name, value) if name else None
    if digest is None:
        raise _no_digest(whole)
    return digest


def _no_digest(text: str) -> InputError:
    return InputError(
        f"{text[:200]!r} is not a digest",
        cause=f"64 hexadecimal digits (SHA-256) are needed, or ALGORITHM:HEX ({', '.join(GIVEN)}), or sha256-BASE64",
        remedy="copy it from `sha256sum FILE`",
    )
