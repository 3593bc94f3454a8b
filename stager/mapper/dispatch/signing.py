"""Signatures of webhooks, after the Standard Webhooks convention (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import hmac
from hashlib import sha256
from pathlib import Path

from stager.errors import SettingsError

SHORTEST_BYTES = 24
"""Of a secret; a shorter one could be guessed."""
PREFIX = "whsec_"
"""Begins a secret that is written in base64."""


def read_secret(path: str) -> bytes:
    """The secret in a file: ``whsec_`` and base64, or plain text.

    Raises:
        SettingsError: no file, not readable, or no secret worth the name.
    """
    if not path:
        raise SettingsError(
            "setting webhook_secret_file is empty",
            cause="what is posted has to be signed",
            remedy=f"name a file with {SHORTEST_BYTES} or more random characters",
        )
    try:
        text = Path(path).expanduser().read_text("ascii").strip()
        secret = base64.b64decode(text[len(PREFIX) :], validate=True) if text.startswith(PREFIX) else text
    except (OSError, ValueError) as error:
        cause = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"webhook_secret_file {path} can't be used", cause=cause) from None
    secret = secret.encode() if isinstance(secret, str) else secret
    if len(secret) < SHORTEST_BYTES:
        raise SettingsError(
            f"the secret in webhook_secret_file {path} is too short",
            cause=f"{SHORTEST_BYTES} bytes are needed",
            remedy="make one with `openssl rand -base64 32`",
        )
    return secret


def signature(secret: bytes, message: str, timestamp: int, body: bytes) -> str:
    """``Webhook-Signature`` for a body: an HMAC over id, time and body."""
    signed = hmac.digest(secret, f"{message}.{timestamp}.".encode() + body, sha256)
    return f"v1,{base64.b64encode(signed).decode()}"
