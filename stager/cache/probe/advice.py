"""From findings to settings and mount options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stager.cache.mounts import Mount
from stager.cache.probe.report import Finding, Recommendation, Verdict

KEPT_FREE = 0.01
"""Of the file system: other users of it, and the clean-up itself, need some room."""
MANY_THREADS = 16
"""Transfers at once where each file waits for the file system."""


def advice(mount: Mount | None, findings: Mapping[str, Finding]) -> Iterator[Recommendation]:
    """What to set, and how to mount, given what was found."""
    room = findings.get("free space")
    if room is not None and isinstance(room.value, dict) and room.value["total"]:
        kept = int(room.value["total"] * KEPT_FREE)
        yield Recommendation("setting", "min_free_bytes", str(kept), "1 % of the file system stays free")
    cost = findings.get("create, write, fsync, close")
    if cost is not None and cost.verdict is Verdict.SLOW:
        why = f"a synced file takes {cost.value:.0f} ms; more transfers at once hide that"
        yield Recommendation("setting", "fetch_threads", str(MANY_THREADS), why)
    if mount is not None and mount.is_network:
        why = "a database on a network file system gets damaged; this directory is for the cache only"
        yield Recommendation("setting", "state_dir", "a directory on a local disk", why)
    if mount is not None and mount.is_nfs:
        yield from _nfs(mount)
    elif mount is not None and not mount.is_network and mount.has("strictatime"):
        yield Recommendation("mount", "noatime", "", "each read writes a time that nobody uses")


def _nfs(mount: Mount) -> Iterator[Recommendation]:
    if mount.has("soft") or mount.has("softerr"):
        yield Recommendation(
            "mount", "hard", "", "an outage of the server is waited out, not taken for a damaged file"
        )
    if (mount.value("lookupcache") or "all") == "all":
        why = "what another host makes is seen at once by every program; Stager sees it anyway, by more calls"
        yield Recommendation("mount", "lookupcache", "positive", why)
    if mount.has("noac"):
        yield Recommendation("mount", "ac", "", "close-to-open consistency is all that is needed")
    if (mount.value("local_lock") or "none") != "none" or mount.has("nolock"):
        why = "locks are not seen by other hosts: two of them may transfer one file twice"
        yield Recommendation("mount", "local_lock", "none", why)
