"""Hosts that share a real NFS mount: an NFS server, and guests with a kernel of their own.

The server (nfs-ganesha over a plain directory) and the guests (user-mode Linux on this machine's root
file system, read-only) are on a network of their own with the test's process. It takes root, and what
``scripts/system-packages nfs`` installs; without it the test is skipped, or fails if CI=true.

    with Hosts(tmp_path, "alpha", "beta") as hosts:
        alpha, beta = hosts.guests
        for guest in hosts.guests:
            root = guest.mount("4.1") + "/cache"           # or "3"; options: mount("3", "lookupcache=positive")
        with Origin(host=hosts.address) as origin:         # whatever listens there is reached by the guests
            url = origin.serve("/a", content(b"abc"))
            done = alpha.run([*STAGER, "fetch", "--cache", root, url])   # to its end: status, stdout, stderr
            assert done.status == 0, done.stderr
            worker = beta.start([*PYTHON, "-m", "celery", ...], env={"STAGER_CACHE_DIR": root})
            worker.kill()                                  # SIGKILL to its process group, inside the guest
            worker.wait(10)                                # status (negative: a signal), stdout, stderr
        beta.call("tests.support.guest_cache:get", root, url)   # a function, in the guest's agent: quick
        hosts.partition(beta)                              # no packet between beta and the NFS server ...
        hosts.heal()                                       # ... and now again
        hosts.cut_off(beta)                                # none between beta and the test's host either
        hosts.server.kill(); hosts.server.start()          # kill -9 of the NFS server, and a new one
        beta.kill_hard(); beta.boot()                      # pull the plug; boot anew (mounts are gone)
        (hosts.export / "cache").iterdir()                 # the truth, past every NFS client's cache: to read only

A guest sees the project and its virtual environment at the same paths; it can write to /run (memory) and
its mounts. It has one CPU and slow system calls: starting Python takes a second, importing Celery some
more. `call` needs no new process; arguments and results are what JSON can carry.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.hosts_network import ENVIRONMENT, PATIENCE, Network
from tests.support.needs import needs

PROJECT = Path(__file__).parents[2]
PYTHON = [sys.executable]
"""The interpreter of the tests, as a guest sees it too."""
STAGER = [sys.executable, "-m", "stager"]
_BOOT_SECONDS = 90.0
_NFS_PORT, _MOUNT_PORT = 2049, 20048
_OPTIONS = {"3": f"nolock,mountproto=tcp,mountport={_MOUNT_PORT}"}
"""Of the mount, by protocol: what keeps version 3 from asking for daemons that a guest has not."""
_LOCAL = ["setpriv", "--pdeathsig", "KILL"]
"""Before a command: it ends with the test's process."""
_MEMORY = Path("/dev/shm")

_GANESHA = """
NFS_CORE_PARAM {{ Protocols = 3,4; NFS_Port = {nfs}; MNT_Port = {mount}; Enable_NLM = false; Enable_RQUOTA = false; }}
NFSV4 {{ RecoveryBackend = fs; RecoveryRoot = "{state}"; Grace_Period = 5; Lease_Lifetime = 10; Only_Numeric_Owners = true; }}
EXPORT {{
    Export_Id = 1; Path = "{export}"; Pseudo = /export; Access_Type = RW; Squash = No_Root_Squash;
    SecType = sys; Protocols = 3,4; Transports = TCP; FSAL {{ Name = VFS; }}
}}
"""


def missing_parts() -> list[str]:
    """What this machine lacks for `Hosts`, in words."""
    tools = ("linux.uml", "modprobe", "mount.nfs", "ganesha.nfsd", "rpcbind", "ip", "iptables", "nsenter")
    missing = [tool for tool in tools if shutil.which(tool, path=ENVIRONMENT["PATH"]) is None]
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
    """One host, booted when it is made. See the module's example."""

    def __init__(self, name: str, network: Network, directory: Path, export: Path) -> None:
        self.name = name
        self._export = export
        self.address, self._mac, self._tap = network.add_guest()
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
        wanted = [f"vers={protocol}", "proto=tcp", f"port={_NFS_PORT}", _OPTIONS.get(protocol, ""), *options]
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


class NfsServer:
    """nfs-ganesha, in a namespace of its own; started when it is made."""

    def __init__(self, network: Network, export: Path, directory: Path) -> None:
        self._network = network
        self._directory = directory
        self.log = directory / "ganesha.log"
        state = directory / "recovery"
        state.mkdir()
        (directory / "ganesha.conf").write_text(
            _GANESHA.format(nfs=_NFS_PORT, mount=_MOUNT_PORT, state=state, export=export)
        )
        # The server announces itself there, by a socket below /run: a /run of their own.
        prepare = "mount -t tmpfs run /run && mkdir /run/ganesha && exec rpcbind -w -f"
        self._announcer = self._popen("ip", "netns", "exec", network.server_space, "sh", "-c", prepare)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._answers(111)
            self.start()
        except BaseException:
            self.close()
            raise

    def _popen(self, *words: str) -> subprocess.Popen[bytes]:
        with (self._directory / "server.out").open("ab") as out:
            return subprocess.Popen(
                [*_LOCAL, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=ENVIRONMENT
            )

    def start(self) -> None:
        """Start it, unless it runs, and wait until it takes connections.

        After a kill it lets clients reclaim what they had open for 5 s, before it does anything else.
        """
        if self._process is not None:
            return
        self._process = self._popen(
            *("nsenter", "--target", str(self._announcer.pid), "--mount", "--net"),
            *("ganesha.nfsd", "-F", "-f", str(self._directory / "ganesha.conf"), "-L", str(self.log)),
            *("-p", str(self._directory / "ganesha.pid")),
        )
        self._answers(_NFS_PORT)

    def kill(self) -> None:
        """As by kill -9. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    def close(self) -> None:
        """Stop it."""
        self.kill()
        self._announcer.kill()
        self._announcer.wait(PATIENCE)

    def _answers(self, port: int) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection((self._network.server, port), timeout=1).close()
            except OSError:
                died = any(p is not None and p.poll() is not None for p in (self._announcer, self._process))
                if died or time.monotonic() > end:
                    said = self.log.read_text()[-2000:] if self.log.exists() else ""
                    said += (self._directory / "server.out").read_text()[-2000:]
                    raise AssertionError(f"the NFS server does not answer:\n{said}") from None
                time.sleep(0.05)
            else:
                return


class Hosts:
    """An NFS server and guests of these names. See the module's example.

    Args:
        directory: on a local file system; holds the exported directory, logs and consoles.
        names: of the guests.

    Attributes:
        address: of this process, for what the guests are to reach.
        export: the exported directory.
    """

    def __init__(self, directory: Path, *names: str) -> None:
        missing = missing_parts()
        needs(not missing, f"{', '.join(missing)} missing for hosts with real NFS")
        self.directory = Path(tempfile.mkdtemp(prefix="hosts-", dir=directory))
        self.export = self.directory / "export"
        self.export.mkdir(mode=0o755)
        self.guests: list[Guest] = []
        self._network = Network()
        self.address = self._network.host
        self._server: NfsServer | None = None
        try:
            self._server = NfsServer(self._network, self.export, self.directory)
            self.guests = [Guest(name, self._network, self.directory, self.export) for name in names]
            self._boot(self.guests)
        except BaseException:
            self.close()
            raise

    def _boot(self, guests: Sequence[Guest]) -> None:
        with ExitStack() as stack:
            listeners = [stack.enter_context(guest.booting()) for guest in guests]
            for guest, listener in zip(guests, listeners, strict=True):
                guest.booted(listener)

    @property
    def server(self) -> NfsServer:
        """The NFS server."""
        assert self._server is not None
        return self._server

    def partition(self, *guests: Guest) -> None:
        """Let no packet pass between these guests (or all) and the NFS server, until `heal`."""
        for guest in guests or self.guests:
            self._network.cut_from_server(guest.address)

    def cut_off(self, *guests: Guest) -> None:
        """Let these guests (or all) reach nothing any more, until `heal`; `run` and so on still work."""
        self.partition(*guests)
        for guest in guests or self.guests:
            self._network.cut_from_host(guest.address, guest.ports)

    def heal(self) -> None:
        """Undo `partition` and `cut_off`."""
        self._network.heal()

    def mend(self) -> None:
        """After a test: heal what is cut, start what was killed (guests come without their mounts)."""
        self.heal()
        self.server.start()
        down = [guest for guest in self.guests if not guest.is_up]
        for guest in down:
            guest.kill_hard()  # what is left of it
        self._boot(down)

    def close(self) -> None:
        """End everything, whatever state it is in. Idempotent."""
        for guest in self.guests:
            guest.kill_hard()
        if self._server is not None:
            self._server.close()
        self._network.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _spec(
    words: Sequence[object], env: Mapping[str, str] | None, stdin: str, cwd: str | None
) -> dict[str, Any]:
    variables = {"STAGER_ALLOWED_NETWORKS": "10.77.0.0/16, 127.0.0.0/8", **(env or {})}
    return {"command": [str(word) for word in words], "env": variables, "stdin": stdin, "cwd": cwd}
