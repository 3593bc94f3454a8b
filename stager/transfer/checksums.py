"""What computes the digests other than SHA-256; made only when a caller or an origin gives one of them."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Protocol

from stager.model.digests import Digest


class Hasher(Protocol):
    """As those of hashlib."""

    def update(self, data: memoryview, /) -> None:
        """Take in more bytes."""
        ...

    def hexdigest(self) -> str:
        """Hexadecimal digits."""
        ...


class _Checksum:
    """A checksum of 32 bits with the interface of a hash."""

    def __init__(self, function: Callable[[memoryview, int], int], start: int = 0) -> None:
        self._function = function
        self._value = start

    def update(self, data: memoryview, /) -> None:
        """Take in more bytes."""
        self._value = self._function(data, self._value)

    def hexdigest(self) -> str:
        """Eight hexadecimal digits."""
        return f"{self._value:08x}"


def hasher(algorithm: str) -> Hasher:
    """A new one for `algorithm`, which `can_compute`."""
    if algorithm == "crc32":
        return _Checksum(zlib.crc32)
    if algorithm == "adler32":
        return _Checksum(zlib.adler32, 1)
    if algorithm == "crc32c":
        from crc32c import crc32c

        return _Checksum(crc32c)
    return hashlib.new(algorithm, usedforsecurity=False)  # a FIPS build has md5 and sha1 only so


def can_compute(algorithm: str) -> bool:
    """Whether this installation has it: CRC-32C comes with the extra `crc32c`."""
    return algorithm != "crc32c" or find_spec("crc32c") is not None


def digests_of(data: memoryview, algorithms: Iterable[str]) -> tuple[Digest, ...]:
    """What `data` hashes to."""
    found = []
    for algorithm in algorithms:
        counting = hasher(algorithm)
        counting.update(data)
        found.append(Digest(algorithm, counting.hexdigest()))
    return tuple(found)
