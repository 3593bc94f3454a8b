"""Calls that make something, and that a client may repeat because the answer was lost.

After the IETF's draft of the Idempotency-Key header: the same key with the same request has the same answer.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256

from stager.errors import InputError

DAY_SECONDS = 86_400.0
"""So long an answer is kept."""
LONGEST_KEY = 255


@dataclass(frozen=True, slots=True)
class Call:
    """A call with a key.

    Attributes:
        digest: of the key and of whoever sent it; the key itself is kept nowhere.
        asked: of what was asked, made with the key: nobody who has this alone can try out what it may have been.
    """

    digest: str
    asked: str

    @classmethod
    def of(cls, who: str, key: str, asked: bytes) -> Call:
        """The call by which `who` asks that.

        Raises:
            InputError: the key is none.
        """
        key = key.strip()
        if len(key) > 1 and key[0] == key[-1] == '"':  # as the draft has it; many send it without
            key = key[1:-1]
        if not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
            raise InputError(
                "the Idempotency-Key makes no sense",
                cause=f"1 to {LONGEST_KEY} printable characters are needed",
                remedy="send a random one, such as a UUID",
            )
        digest = sha256(f"{who}\0{key}".encode()).hexdigest()
        return cls(digest, hmac.digest(key.encode(), asked, "sha256").hex())


@dataclass(frozen=True, slots=True)
class Answered:
    """What a call is answered with, kept for those who ask again.

    Attributes:
        call: which one.
        answer: JSON.
        at: when, seconds since 1970 UTC.
    """

    call: Call
    answer: str
    at: float
