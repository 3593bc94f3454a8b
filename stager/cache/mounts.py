"""What the kernel says about the mount that a path is on: file system, options, what a network mount promises."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from stager.cache.files import unless_stale

MOUNTINFO = "/proc/self/mountinfo"
NFS = frozenset({"nfs", "nfs4"})
NETWORK = NFS | {
    "9p", "afs", "beegfs", "beegfs_nodev", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs",
    "glusterfs", "gpfs", "lustre", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "wekafs",
}  # fmt: skip
"""File systems that other hosts may write to."""
LOCAL = frozenset({"bcachefs", "btrfs", "overlay", "ramfs", "tmpfs", "zfs"})
"""File systems without a device of their own, like network ones, that only this kernel writes to all the same."""
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the kernel's table of mounts.

    Attributes:
        point: directory at which it is mounted.
        fstype: such as ``ext4`` or ``nfs4``.
        source: device, or server and path.
        options: those of the mount, then those of the file system; ``name`` or ``name=value``.
    """

    point: str
    fstype: str
    source: str
    options: tuple[str, ...]

    @property
    def is_network(self) -> bool:
        """Whether other hosts may write to it."""
        return self.fstype in NETWORK

    @property
    def is_nfs(self) -> bool:
        """Whether it is NFS, of any version."""
        return self.fstype in NFS

    def has(self, option: str) -> bool:
        """Whether that option without a value is set."""
        return option in self.options

    def value(self, option: str) -> str | None:
        """What an option is set to; None: it is not."""
        found = (text.partition("=")[2] for text in self.options if text.startswith(f"{option}="))
        return next(found, None)


def parse_mounts(text: str) -> Iterator[Mount]:
    """The lines of ``/proc/self/mountinfo``; what can't be read is left out."""
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if not dash or len(fields) < 6 or len(rest) < 2:  # noqa: PLR2004 - see proc(5)
            continue
        options = [*fields[5].split(","), *(rest[2].split(",") if len(rest) > 2 else ())]  # noqa: PLR2004
        yield Mount(_plain(fields[4]), rest[0], _plain(rest[1]), tuple(dict.fromkeys(options)))


def mount_of(path: str | os.PathLike[str]) -> Mount | None:
    """The mount that `path` is on, or would be; None where the kernel does not say."""
    try:
        with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
            return pick_mount(parse_mounts(file.read()), os.path.realpath(path))
    except OSError:
        return None


def has_other_writers(path: str | os.PathLike[str]) -> bool:
    """Whether other kernels may write to the file system that `path` is on; where nobody knows, yes.

    Raises:
        OSError: there is no such path.
    """
    if os.major(unless_stale(os.stat, path).st_dev) != 0:
        return False
    mount = mount_of(path)
    return mount is None or mount.fstype not in LOCAL


def pick_mount(mounts: Iterator[Mount], path: str) -> Mount | None:
    """The mount with the longest point above `path`; of several at one point the last, which hides the others."""
    found: Mount | None = None
    for mount in mounts:
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found.group(1), 8)), text)
