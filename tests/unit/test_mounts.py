"""The kernel's table of mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from stager.cache import mounts
from stager.cache.mounts import has_other_writers, mount_of, parse_mounts, pick_mount

TABLE = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
40 27 0:50 / /data rw,noatime - nfs4 srv:/export rw,vers=4.1,hard,local_lock=none,addr=10.0.0.1
41 27 0:51 / /data\040two rw - tmpfs none rw,size=4k
42 40 0:52 / /data/local ro - xfs /dev/sdb1 rw,usrquota
43 27 0:53 / /data/local rw - xfs /dev/sdc1 rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "fstype", "source"),
    [
        ("/home/x", "ext4", "/dev/vda"),
        ("/data", "nfs4", "srv:/export"),
        ("/data/a/b", "nfs4", "srv:/export"),
        ("/database", "ext4", "/dev/vda"),
        ("/data two/x", "tmpfs", "none"),
        ("/data/local/x", "xfs", "/dev/sdc1"),
    ],
)
def test_a_path_is_on_the_mount_with_the_longest_point_above_it(path: str, fstype: str, source: str) -> None:
    mount = pick_mount(parse_mounts(TABLE), path)
    assert mount is not None
    assert (mount.fstype, mount.source) == (fstype, source)


def test_options_of_mount_and_file_system_are_told_apart_from_values() -> None:
    mount = pick_mount(parse_mounts(TABLE), "/data")
    assert mount is not None
    assert mount.is_network
    assert mount.is_nfs
    assert mount.has("noatime")
    assert mount.value("vers") == "4.1"
    assert mount.value("lookupcache") is None


def test_a_real_path_has_a_mount(tmp_path: Path) -> None:
    mount = mount_of(tmp_path)
    assert mount is not None
    assert str(tmp_path).startswith(mount.point)


def test_what_does_not_exist_is_on_the_mount_of_what_is_above_it(tmp_path: Path) -> None:
    assert mount_of(tmp_path / "a" / "b") == mount_of(tmp_path)


@pytest.mark.parametrize(("fstype", "others"), [("tmpfs", False), ("nfs4", True), ("fuse.unheard-of", True)])
def test_only_of_known_file_systems_without_a_device_nobody_else_is_said_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fstype: str, others: bool
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"22 27 0:21 / /proc rw - {fstype} none rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", str(table))
    assert has_other_writers("/proc") is others  # which has no device


def test_others_may_write_where_the_kernel_does_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "MOUNTINFO", str(tmp_path / "none"))
    assert has_other_writers("/proc")
