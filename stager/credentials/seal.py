"""The seal: whoever has the public key closes it, only who has the private one opens it (PyNaCl sealed boxes)."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

KEY_BYTES = 32
_FINGERPRINT = 16


class Closer:
    """Seals values for whoever has the private key.

    Args:
        public: 32 bytes.
    """

    def __init__(self, public: bytes) -> None:
        self._box = SealedBox(PublicKey(public))
        self.key = fingerprint(public)

    def seal(self, value: Mapping[str, Any]) -> str:
        """`value` (JSON types), closed; base64."""
        return b64encode(self._box.encrypt(json.dumps(value).encode())).decode()


class Opener:
    """Opens what was sealed for any of these keys.

    Args:
        private: of 32 bytes each.
    """

    def __init__(self, private: Sequence[bytes]) -> None:
        found = [PrivateKey(one) for one in private]
        self._boxes = {fingerprint(bytes(one.public_key)): SealedBox(one) for one in found}

    @property
    def keys(self) -> list[str]:
        """Fingerprints, in the order given."""
        return list(self._boxes)

    def open(self, sealed: str, key: str) -> dict[str, Any]:
        """What was sealed for `key`.

        Raises:
            LookupError: that key is not here.
            ValueError: it was not sealed for it, or was altered since.
        """
        box = self._boxes[key]
        try:
            value = json.loads(box.decrypt(b64decode(sealed, validate=True)))
        except (CryptoError, ValueError):
            raise ValueError("it was altered, or sealed for another key") from None
        if not isinstance(value, dict):
            raise ValueError("it holds something else")  # noqa: TRY004 - the reader's word for what is no credential
        return value


def new_key() -> bytes:
    """A private key."""
    return bytes(PrivateKey.generate())


def public_of(private: bytes) -> bytes:
    """The public key that belongs to it."""
    return bytes(PrivateKey(private).public_key)


def fingerprint(public: bytes) -> str:
    """A short name of a key."""
    return sha256(public).hexdigest()[:_FINGERPRINT]
