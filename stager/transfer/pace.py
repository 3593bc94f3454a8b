"""When an origin is too slow to go on with: no I/O, no clock."""

from __future__ import annotations

from typing import Self

from stager.transfer.options import TransferOptions


class Pace:
    """Bytes over time spent waiting for them.

    Only waiting is counted: a slow disk of ours is no fault of the origin.

    Args:
        silence: longest time without a byte, seconds.
        window: time over which the speed is measured, seconds.
        slowest: bytes per second that the mean over a window must reach; 0: any.
    """

    def __init__(self, *, silence: float, window: float, slowest: float) -> None:
        self._silence = silence
        self._window = window
        self._slowest = slowest
        self._quiet = 0.0
        self._time = 0.0
        self._bytes = 0

    @classmethod
    def of(cls, options: TransferOptions) -> Self:
        """The one that the site chose."""
        return cls(
            silence=options.read_timeout_seconds,
            window=options.low_speed_seconds,
            slowest=options.low_speed_bytes_per_second,
        )

    def waited(self, seconds: float, received: int) -> str | None:
        """Count a wait that brought `received` bytes; a reason to give up, or None."""
        self._quiet = 0.0 if received else self._quiet + seconds
        if self._quiet >= self._silence:
            return f"no byte in {self._quiet:.0f} s"
        self._time += seconds
        self._bytes += received
        if self._time >= self._window:
            speed = self._bytes / self._time
            self._time = 0.0
            self._bytes = 0
            if speed < self._slowest:
                return f"{speed:.0f} bytes/s over {self._window:.0f} s, less than {self._slowest:.0f}"
        return None
