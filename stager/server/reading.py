"""What all routes have in common that answer with the bytes of a file."""

from __future__ import annotations

from stager.server.problems import Answers

REFUSALS = (412, 416)
"""Statuses for conditions that do not hold, and ranges that the file does not have."""
_BYTES: dict[str, dict[str, str]] = {"application/octet-stream": {}}
OCTETS: Answers = {
    200: {"content": _BYTES, "description": "The bytes."},
    206: {
        "content": _BYTES | {"multipart/byteranges": {}},
        "description": "The parts that `Range` asks for.",
    },
    304: {"description": "Who asks has it already."},
}
"""How the routes' answers are described in OpenAPI."""
