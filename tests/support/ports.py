"""Ports for servers that have to be told theirs."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_GIVEN_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LEAST = 10_000
_dice = random.SystemRandom()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody has, and that the kernel gives to nobody: not to a connection, nor to who asks for any port."""
    highest = int(_GIVEN_OUT.read_text().split()[0]) if _GIVEN_OUT.exists() else 32_768
    while True:
        port = _dice.randrange(_LEAST, max(highest, _LEAST + 1000))
        with socket.socket() as sock:
            try:
                sock.bind((host, port))
            except OSError:
                continue
            return port
