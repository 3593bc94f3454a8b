"""A long path between two network namespaces of this machine: what passes is delayed, and some of it lost.

A guest (see hosts.py) is the bridge between them, because netem is in its kernel. It takes root, and what
``scripts/system-packages bench`` installs.

    with LongPath(tmp_path, round_trip_ms=50, loss_percent=1) as path:
        subprocess.Popen([*path.far, "nginx", ...])      # it listens at path.address
        subprocess.run([*path.near, "curl", f"http://{path.address}:8000/file"])
        path.passed()                                    # what the guest counted, by its own kernel
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.guests import Guest
from tests.support.hosts_network import Network, command

NETWORK = "10.78.0.0/24"
_NEAR, _FAR = "10.78.0.1", "10.78.0.2"
_QUEUE_PACKETS = 20_000
"""More than are ever on the way: a full queue would lose some that are not counted as lost."""

# Holds both ends. Nothing is sent before they are where they belong: a wire that is down then stays stuck.
_HOLD = "ip link set vec1 up && ip link set vec2 up"
_FORGET = "echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save"
"""No connection profits from what the kernel learned by an earlier one."""
_BRIDGE = """
set -e
modprobe -d /run/m -a bridge sch_netem
ip link add br0 type bridge
for wire in vec1 vec2; do
    tc qdisc add dev $wire root netem limit {queue} delay {delay}ms loss {loss}%
    ip link set $wire master br0
done
ip link set br0 up
"""


@dataclass(frozen=True)
class Passed:
    """What went one way."""

    packets: int
    bytes: int
    dropped: int


class LongPath:
    """See the module's example.

    Args:
        directory: for the guest's console.
        round_trip_ms: half of it each way.
        loss_percent: of the packets, each way.
        congestion: how both ends react to loss: ``cubic`` as most servers do, or what this machine has besides.

    Attributes:
        address: of the far end, as the near end reaches it.
        near, far: what to put before a command that is to run at that end.
    """

    def __init__(
        self, directory: Path, *, round_trip_ms: float, loss_percent: float, congestion: str = "cubic"
    ) -> None:
        self.address = _FAR
        self._directory = Path(tempfile.mkdtemp(prefix="path-", dir=directory))
        self._network = Network()
        near, far = self._network.ends
        self.near, self.far = (["ip", "netns", "exec", space] for space in (near, far))
        self._guest: Guest | None = None
        try:
            wires = ("near", "far")
            for wire in wires:
                self._network.add_tap(wire)
            self._guest = Guest("path", self._network, self._directory, self._directory, wires)
            self._guest.boot()
            self._tell(_HOLD)
            self._network.add_end("near", near, f"{_NEAR}/24")
            self._network.add_end("far", far, f"{_FAR}/24")
            for space, address in ((near, _NEAR), (far, _FAR)):
                wire = space.rpartition("-")[2]
                route = [NETWORK, "dev", wire, "src", address, "congctl", congestion]
                command("ip", "-n", space, "route", "replace", *route)
                command("ip", "netns", "exec", space, "sh", "-c", _FORGET)
            self._tell(_BRIDGE.format(queue=_QUEUE_PACKETS, delay=round_trip_ms / 2, loss=loss_percent))
        except BaseException:
            self.close()
            raise

    def passed(self) -> tuple[Passed, Passed]:
        """What went to the near end so far, and what to the far end."""
        said = self._tell("tc -s -j qdisc show")
        found = {q["dev"]: q for q in json.loads(said) if q["kind"] == "netem"}
        to_near, to_far = (
            Passed(found[dev]["packets"], found[dev]["bytes"], found[dev]["drops"])
            for dev in ("vec1", "vec2")
        )
        return to_near, to_far

    def _tell(self, script: str) -> str:
        assert self._guest is not None
        done = self._guest.run(["sh", "-c", script])
        assert done.status == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        """End everything, with whatever still runs at its ends. Idempotent."""
        if self._guest is not None:
            self._guest.kill_hard()
        self._network.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
