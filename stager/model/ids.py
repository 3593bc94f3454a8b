"""Ids that sort by time: 13 characters of Crockford's base 32, lower case."""

from __future__ import annotations

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_SERIAL_BITS = 22
LENGTH = 13


def encode_id(milliseconds: int, serial: int) -> str:
    """The id of the `serial`-th thing (0 to 4,194,303) of a millisecond since 1970 UTC."""
    number = (milliseconds << _SERIAL_BITS) | (serial & ((1 << _SERIAL_BITS) - 1))
    digits = []
    for _ in range(LENGTH):
        number, digit = divmod(number, 32)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
