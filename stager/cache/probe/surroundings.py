"""What the kernel says without being tried: the mount and its options, free bytes and inodes, quotas."""

from __future__ import annotations

import os

from stager.cache.mounts import Mount
from stager.cache.probe.report import Finding, Verdict

LITTLE_BYTES = 1 << 30
"""Less than that free is no room for a cache of large files."""
LITTLE_INODES = 100_000
"""A file in the cache takes two or three."""
_LOOKUPCACHE = {"all": "all", "pos": "positive", "positive": "positive", "none": "none"}
"""As the kernel writes it → as mount(8) takes it."""
_QUOTAS = ("usrquota", "uquota", "grpquota", "gquota", "prjquota", "pquota", "quota")
_UNSET = ("noquota", "usrjquota=", "grpjquota=")


def file_system(mount: Mount | None) -> Finding:
    """Which file system it is, and what its options mean for a cache."""
    name = "file system"
    if mount is None:
        return Finding(name, Verdict.NOT_MEASURED, "the kernel does not say", "no /proc/self/mountinfo")
    shown = mount.fstype
    facts = {"type": mount.fstype, "point": mount.point, "source": mount.source, "network": mount.is_network}
    if mount.is_nfs:
        chosen = nfs_options(mount)
        facts |= chosen
        shown = f"NFS {', '.join(f'{option}={value}' for option, value in chosen.items())}"
    text = f"{shown}, mounted at {mount.point}"
    if mount.has("ro"):
        return Finding(name, Verdict.UNFIT, text, "it is mounted read-only", facts)
    if mount.is_nfs and mount.has("soft"):
        why = "soft: a server that is away for a while becomes an I/O error in the middle of a file"
        return Finding(name, Verdict.LIMITED, text, why, facts)
    if mount.is_nfs and mount.has("noac"):
        return Finding(name, Verdict.SLOW, text, "noac: each look at a file asks the server", facts)
    return Finding(name, Verdict.OK, text, value=facts)


def nfs_options(mount: Mount) -> dict[str, str]:
    """Those options of an NFS mount that matter to a cache, with their defaults where the kernel leaves them out."""
    attributes = {limit: mount.value(limit) for limit in ("acregmin", "acregmax", "acdirmin", "acdirmax")}
    given = [f"{limit}:{value}" for limit, value in attributes.items() if value is not None]
    return {
        "vers": mount.value("vers") or "?",
        "failure": "soft" if mount.has("soft") or mount.has("softerr") else "hard",
        "lookupcache": _LOOKUPCACHE.get(mount.value("lookupcache") or "all", "?"),
        "actimeo": "noac" if mount.has("noac") else " ".join(given) or "default",
        "local_lock": mount.value("local_lock") or "none",
    }


def access_times(mount: Mount | None) -> Finding:
    """How the kernel records accesses; the cache records its own."""
    if mount is None:
        return Finding("access times", Verdict.NOT_MEASURED, "the kernel does not say")
    kept = next(
        (o for o in ("noatime", "relatime", "strictatime", "nodiratime") if mount.has(o)),
        "as the server does",
    )
    return Finding("access times", Verdict.OK, kept, "not used: the cache records accesses itself", kept)


def free_bytes(directory: str) -> Finding:
    """Bytes that this user may still write.

    Raises:
        OSError: the file system does not say.
    """
    found = os.statvfs(directory)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    text = f"{free / 2**30:,.1f} of {total / 2**30:,.1f} GiB"
    value = {"free": free, "total": total}
    if free == 0:
        return Finding("free space", Verdict.UNFIT, text, "nothing can be written", value)
    if free < LITTLE_BYTES:
        return Finding("free space", Verdict.LIMITED, text, "room for small files only", value)
    return Finding("free space", Verdict.OK, text, value=value)


def free_inodes(directory: str) -> Finding:
    """Files that can still be made.

    Raises:
        OSError: the file system does not say.
    """
    found = os.statvfs(directory)
    if found.f_files == 0:
        return Finding("free inodes", Verdict.OK, "no fixed number")
    free = min(found.f_favail, found.f_ffree)
    text, value = f"{free:,} of {found.f_files:,}", {"free": free, "total": found.f_files}
    if free == 0:
        return Finding("free inodes", Verdict.UNFIT, text, "no file can be made", value)
    if free < LITTLE_INODES:
        why = f"a file in the cache takes two or three: room for {free // 3:,} files"
        return Finding("free inodes", Verdict.LIMITED, text, why, value)
    return Finding("free inodes", Verdict.OK, text, value=value)


def quota(mount: Mount | None) -> Finding:
    """Whether the mount has quotas. How much of one is left no system call says for every file system."""
    set_ = [o for o in (mount.options if mount else ()) if o.startswith(_QUOTAS) and not o.startswith(_UNSET)]
    if set_:
        why = "statvfs may not count it: `quota -s` says what is left of yours"
        return Finding("quota", Verdict.OK, ", ".join(set_), why, value=set_)
    why = (
        "a quota on the server's side shows itself as EDQUOT only; `quota -s` may say more"
        if (mount is not None and mount.is_network)
        else ""
    )
    return Finding("quota", Verdict.OK, "none in the mount's options", why, value=[])
