"""A host with a kernel of its own: user-mode Linux on this machine's root file system, read-only. See hosts.py."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.hosts_network import ENVIRONMENT, PATIENCE, Network

PROJECT = Path(__file__).parents[2]
NFS_PORT, MOUNT_PORT = 2049, 20048
_BOOT_SECONDS = 90.0
_OPTIONS = {"3": f"nolock,mountproto=tcp,mountport={MOUNT_PORT}"}
"""Of the mount, by protocol: what keeps version 3 from asking for daemons that a guest has not."""
_MEMORY = Path("/dev/shm")
_TOOLS = ("linux.uml", "modprobe", "ip", "iptables")


def missing_parts(*tools: str) -> list[str]:
    """What this machine lacks for a guest, or of these tools, in words."""
    missing = [tool for tool in (*_TOOLS, *tools) if shutil.which(tool, path=ENVIRONMENT["PATH"]) is None]
    if os.geteuid() != 0:
        missing.append("root")
    if not Path("/dev/net/tun").exists():
        missing.append("/dev/net/tun")
    return missing


@dataclass(frozen=True)
class Done:
    """How a command ended; status is None if it did not."""

    status: int | None
    stdout: str
    stderr: str


class GuestError(AssertionError):
    """What was asked of a guest raised an error there: its traceback."""


class Guest:
    """One host, booted when it is made. See the module's example.

    Args:
        name, network, directory: its name, where it is, and for its console.
        export: what the NFS server exports.
        wires: taps that it holds besides the one to the network: vec1, vec2, ...
    """

    def __init__(
        self, name: str, network: Network, directory: Path, export: Path, wires: Sequence[str] = ()
    ) -> None:
        self.name = name
        self._export = export
        self.address, self._mac, self._tap = network.add_guest()
        self._wires = wires
        self._network = network
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: socket.socket | None = None
        self.ports: set[int] = set()
        """Through which the test speaks with it."""
        self._agent = 0
        self._mounts: set[str] = set()

    # -- power ------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start it and wait until it answers; nothing is mounted yet."""
        with self.booting() as listener:
            self.booted(listener)

    def booting(self) -> socket.socket:
        """Start it; `booted`, given what this returns, waits for it. So that several can boot at once."""
        listener = socket.create_server((self._network.host, 0))
        variables = {
            "guest": self.name,
            "address": self.address,
            "caller": "{}:{}".format(*listener.getsockname()),
            "project": PROJECT,
            "python": sys.executable,
        }
        room = _MEMORY if shutil.disk_usage(_MEMORY).free > 2 << 30 else self._directory
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(
                [
                    *("ip", "netns", "exec", self._network.bridge_space, "linux.uml", "mem=512M", "quiet"),
                    *(f"umid={self.name}", f"uml_dir={self._directory}/", "con=null", "con0=null,fd:1"),
                    *("root=/dev/root", "rootfstype=hostfs", "hostfs=/", "ro", "panic=-1"),
                    f"init={Path(__file__).parent / 'guest_init.sh'}",
                    f"vec0:transport=tap,ifname={self._tap},mac={self._mac},depth=64,gro=1",
                    *(f"vec{n}:transport=tap,ifname={tap},depth=64" for n, tap in enumerate(self._wires, 1)),
                    *(f"{name}={value}" for name, value in variables.items()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT | {"TMPDIR": str(room)},
                start_new_session=True,
            )
        return listener

    def booted(self, listener: socket.socket) -> None:
        """See `booting`."""
        listener.settimeout(1.0)
        end = time.monotonic() + _BOOT_SECONDS
        while True:
            try:
                self._watch, _ = listener.accept()
                break
            except TimeoutError:
                process = self._process
                if process is None or process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"{self.name} does not boot:\n{self.said()}") from None
        self._watch.settimeout(PATIENCE)
        with self._watch.makefile("rb") as lines:
            self._agent = json.loads(lines.readline())["port"]
        self.ports = {self._agent, listener.getsockname()[1]}

    @property
    def is_up(self) -> bool:
        """Whether it has power and its kernel did not give up."""
        return self._process is not None and self._process.poll() is None

    @property
    def console(self) -> Path:
        """Where its kernel's messages are."""
        return self._directory / f"{self.name}.console"

    def said(self) -> str:
        """The end of what its kernel said."""
        return self.console.read_text(errors="replace")[-4000:] if self.console.exists() else ""

    def kill_hard(self) -> None:
        """Pull the plug: it is gone at once, and says goodbye to nobody. Idempotent."""
        if self._process is not None:
            with suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE)
            self._process = None
        self._mounts.clear()
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    # -- what runs there ---------------------------------------------------------------------------

    def run(
        self,
        words: Sequence[object],
        *,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = PATIENCE,
        cwd: str | None = None,
    ) -> Done:
        """Run a command to its end; one that takes longer than `timeout` is killed."""
        return Done(**self._ask(timeout, action="run", timeout=timeout, **_spec(words, env, stdin, cwd)))

    def start(
        self,
        words: Sequence[object],
        *,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        cwd: str | None = None,
    ) -> Running:
        """Start a command, in a process group of its own, that goes on when this returns."""
        return Running(self, self._ask(0, action="start", **_spec(words, env, stdin, cwd))["pid"])

    def call(self, function: str, *arguments: Any, timeout: float = PATIENCE, **keywords: Any) -> Any:
        """Call ``module:function`` in the guest's agent.

        Raises:
            GuestError: it raised; the message is its traceback.
        """
        answer = self._ask(timeout, action="call", function=function, arguments=arguments, keywords=keywords)
        return answer["result"]

    def mount(self, protocol: str, *options: str, at: str = "") -> str:
        """Mount the export by NFS ``3``, ``4.0``, ``4.1`` or ``4.2``; where it is now. Idempotent."""
        path = at or "-".join(["/run/nfs", protocol, *options])
        if path in self._mounts:
            return path
        wanted = [f"vers={protocol}", "proto=tcp", f"port={NFS_PORT}", _OPTIONS.get(protocol, ""), *options]
        what = f"{self._network.server}:{'/export' if protocol != '3' else self._export}"
        made = f"mkdir -p {path} && mount -t nfs -o {','.join(filter(None, wanted))} {what} {path}"
        done = self.run(["sh", "-c", made], timeout=60)
        assert done.status == 0, f"{self.name}: {done.stderr}\n{self.said()}"
        self._mounts.add(path)
        return path

    def unmount(self, path: str) -> None:
        """Unmount what is at `path`, now, whoever uses it."""
        done = self.run(["umount", "-f", "-l", path])
        assert done.status == 0, done.stderr
        self._mounts.discard(path)

    def _ask(self, seconds: float, **request: Any) -> dict[str, Any]:
        with socket.create_connection((self.address, self._agent), timeout=PATIENCE) as connection:
            connection.sendall(json.dumps(request).encode() + b"\n")
            connection.settimeout(seconds + PATIENCE)
            with connection.makefile("rb") as lines:
                line = lines.readline()
        assert line, f"{self.name} did not answer:\n{self.said()}"
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise GuestError(f"{self.name}: {answer['error']}")
        return answer


@dataclass(frozen=True)
class Running:
    """A command that was started in a guest."""

    guest: Guest
    pid: int
    """In the guest; its process group has the same number."""

    def wait(self, timeout: float = PATIENCE) -> Done:
        """Wait for its end, for so many seconds; the status is None if it still runs then."""
        return Done(**self.guest._ask(timeout, action="wait", pid=self.pid, timeout=timeout))

    def kill(self, number: int = signal.SIGKILL, *, group: bool = True) -> None:
        """Send a signal to its process group, or to the process alone."""
        self.guest._ask(0, action="signal", pid=self.pid, number=int(number), group=group)


def _spec(
    words: Sequence[object], env: Mapping[str, str] | None, stdin: str, cwd: str | None
) -> dict[str, Any]:
    variables = {"STAGER_ALLOWED_NETWORKS": "10.77.0.0/16, 127.0.0.0/8", **(env or {})}
    return {"command": [str(word) for word in words], "env": variables, "stdin": stdin, "cwd": cwd}
