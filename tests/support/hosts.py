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

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.guests import MOUNT_PORT, NFS_PORT, Guest, missing_parts
from tests.support.hosts_network import ENVIRONMENT, PATIENCE, Network
from tests.support.needs import needs

PYTHON = [sys.executable]
"""The interpreter of the tests, as a guest sees it too."""
STAGER = [sys.executable, "-m", "stager"]
_LOCAL = ["setpriv", "--pdeathsig", "KILL"]
"""Before a command: it ends with the test's process."""

_GANESHA = """
NFS_CORE_PARAM {{ Protocols = 3,4; NFS_Port = {nfs}; MNT_Port = {mount}; Enable_NLM = false; Enable_RQUOTA = false; }}
NFSV4 {{ RecoveryBackend = fs; RecoveryRoot = "{state}"; Grace_Period = 5; Lease_Lifetime = 10; Only_Numeric_Owners = true; }}
EXPORT {{
    Export_Id = 1; Path = "{export}"; Pseudo = /export; Access_Type = RW; Squash = No_Root_Squash;
    SecType = sys; Protocols = 3,4; Transports = TCP; FSAL {{ Name = VFS; }}
}}
"""


class NfsServer:
    """nfs-ganesha, in a namespace of its own; started when it is made."""

    def __init__(self, network: Network, export: Path, directory: Path) -> None:
        self._network = network
        self._directory = directory
        self.log = directory / "ganesha.log"
        state = directory / "recovery"
        state.mkdir()
        (directory / "ganesha.conf").write_text(
            _GANESHA.format(nfs=NFS_PORT, mount=MOUNT_PORT, state=state, export=export)
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
        self._answers(NFS_PORT)

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
        missing = missing_parts("mount.nfs", "ganesha.nfsd", "rpcbind", "nsenter")
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
