"""The wires between the hosts of hosts.py: namespaces, a bridge, a tap per guest, and what cuts them.

Everything is named after a *slot*, a number that one test process holds by a lock on a file. Whoever gets
the lock clears away what an earlier holder left when it was killed, and nobody else's.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

SLOTS = 32
PATIENCE = 60.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": _PATH, "LANG": "C.UTF-8"}
"""Of every process on the host side: nothing of the user's own."""


def command(*words: object, check: bool = True) -> str:
    """Run a command; what it printed."""
    done = subprocess.run(
        [str(word) for word in words],
        check=False,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=PATIENCE,
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


class Network:
    """A bridge in a namespace of its own, with the test's process, an NFS server and guests on it.

    Attributes:
        host: address of the test's process, which can be reached by the guests.
        server: address of the NFS server, in the namespace `server_space`.
        ends: namespaces for the two ends of a path through a guest (see long_path.py).
    """

    def __init__(self) -> None:
        self._slot, self._lock = _take_slot()
        name = f"stg{self._slot}"
        self.bridge_space, self.server_space = f"{name}-net", f"{name}-nfs"
        self.ends = f"{name}-near", f"{name}-far"
        self._veth = f"{name}h"
        self._prefix = f"10.77.{self._slot}"
        self.host, self.server = f"{self._prefix}.1", f"{self._prefix}.10"
        self._guests = 0
        self._rules: list[list[str]] = []
        self._clear()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        space = self.bridge_space
        command("ip", "netns", "add", space)
        command("ip", "netns", "add", self.server_space)
        command("ip", "-n", space, "link", "add", "br0", "type", "bridge")
        command("ip", "-n", space, "link", "set", "br0", "up")
        command("ip", "link", "add", self._veth, "type", "veth", "peer", "name", "host", "netns", space)
        command("ip", "-n", space, "link", "set", "host", "master", "br0", "up")
        command("ip", "addr", "add", f"{self.host}/24", "dev", self._veth)
        command("ip", "link", "set", self._veth, "up")
        far = self.server_space
        command("ip", "-n", far, "link", "add", "eth", "type", "veth", "peer", "name", "nfs", "netns", space)
        command("ip", "-n", space, "link", "set", "nfs", "master", "br0", "up")
        command("ip", "-n", far, "link", "set", "lo", "up")
        command("ip", "-n", far, "addr", "add", f"{self.server}/24", "dev", "eth")
        command("ip", "-n", far, "link", "set", "eth", "up")

    def add_guest(self) -> tuple[str, str, str]:
        """A place for one more: its address, its MAC address, and the tap in `bridge_space`."""
        self._guests += 1
        number = self._guests
        tap = f"tap{number}"
        space = self.bridge_space
        self.add_tap(tap)
        command("ip", "-n", space, "link", "set", "dev", tap, "master", "br0", "up")
        return f"{self._prefix}.{10 + number}", f"02:00:00:00:{self._slot:02x}:{10 + number:02x}", tap

    def add_tap(self, name: str) -> None:
        """One more wire for a guest to hold, in `bridge_space` but not on the bridge."""
        command("ip", "netns", "exec", self.bridge_space, "ip", "tuntap", "add", "dev", name, "mode", "tap")

    def add_end(self, tap: str, space: str, address: str) -> None:
        """A namespace with nothing but this end of a wire that a guest holds already, at that address (CIDR)."""
        command("ip", "netns", "add", space)
        command("ip", "-n", self.bridge_space, "link", "set", "dev", tap, "netns", space)
        command("ip", "-n", space, "link", "set", "lo", "up")
        command("ip", "-n", space, "addr", "add", address, "dev", tap)
        # A path loses and delays packets as they are on the wire, not bundles of them.
        command("ip", "-n", space, "link", "set", "dev", tap, "gso_max_segs", "1", "up")

    def add_host(self, name: str) -> list[str]:
        """One more namespace on the bridge, which reaches `host` and its like and nothing else; what runs a command there."""
        self._guests += 1
        space, wire = f"stg{self._slot}-{name}", f"host{self._guests}"
        command("ip", "netns", "add", space)
        command(
            "ip",
            "-n",
            space,
            "link",
            "add",
            "eth",
            "type",
            "veth",
            "peer",
            "name",
            wire,
            "netns",
            self.bridge_space,
        )
        command("ip", "-n", self.bridge_space, "link", "set", wire, "master", "br0", "up")
        command("ip", "-n", space, "link", "set", "lo", "up")
        command("ip", "-n", space, "addr", "add", f"{self._prefix}.{10 + self._guests}/24", "dev", "eth")
        command("ip", "-n", space, "link", "set", "eth", "up")
        return _in(space)

    def cut_from_server(self, address: str) -> None:
        """No packet passes between that address and the NFS server any more; nobody is told."""
        for chain, side in (("INPUT", "-s"), ("OUTPUT", "-d")):
            self._drop(self.server_space, chain, side, address)

    def cut_from_host(self, address: str, ports: set[int]) -> None:
        """No packet passes between that address and the test's host any more, but for TCP with these ports."""
        for chain, side, link in (("INPUT", "-s", "-i"), ("OUTPUT", "-d", "-o")):
            self._drop("", chain, side, address, link, self._veth)
            for port in ports:
                for end in ("--sport", "--dport"):
                    self._rule(
                        "",
                        [chain, side, address, link, self._veth, "-p", "tcp", end, str(port), "-j", "ACCEPT"],
                    )

    def heal(self) -> None:
        """Everything passes again."""
        while self._rules:
            command(*_in(self._rules[-1][0]), "iptables", "-w", "-D", *self._rules.pop()[1:], check=False)

    def _drop(self, space: str, chain: str, *match: str) -> None:
        self._rule(space, [chain, *match, "-j", "DROP"])

    def _rule(self, space: str, rule: list[str]) -> None:
        command(*_in(space), "iptables", "-w", "-I", *rule)
        self._rules.append([space, *rule])

    def close(self) -> None:
        """Remove all of it, with every process that is still in it."""
        self.heal()
        self._clear()
        self._lock.close()

    def _clear(self) -> None:
        spaces = {line.split()[0] for line in command("ip", "netns", "list").splitlines() if line.strip()}
        for space in (space for space in spaces if space.startswith(f"stg{self._slot}-")):
            for pid in command("ip", "netns", "pids", space).split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            command("ip", "netns", "del", space)
        command("ip", "link", "del", self._veth, check=False)  # gone with the other end, as a rule
        for line in command("iptables", "-w", "-S", check=False).splitlines():
            if self._veth in line.split() and line.startswith("-A "):
                command("iptables", "-w", "-D", *line.split()[1:], check=False)


def _in(space: str) -> list[str]:
    return ["ip", "netns", "exec", space] if space else []


def _take_slot() -> tuple[int, IO[str]]:
    for slot in range(SLOTS):
        path = Path(tempfile.gettempdir()) / f"stager-hosts-{slot}.lock"
        lock = path.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return slot, lock
    raise AssertionError(f"{SLOTS} test processes have hosts of their own already")
