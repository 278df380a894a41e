"""The CPU quota of control groups, from files as the kernel shows them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fastecho._options.cpus import cpu_quota, usable_cpus

V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "31 23 0:27 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
OTHER = "32 23 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"


def machine(folder: Path, group: str, mounts: str, files: dict[str, str]) -> str:
    """A root folder whose process is in `group`."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(group)
    (folder / "proc/self/mountinfo").write_text(f"22 1 8:1 / / rw - ext4 /dev/vda rw\n{mounts}")
    for name, content in files.items():
        path = folder / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return str(folder)


CASES = {
    "v2": ("0::/a\n", V2.format(root="/"), {"a/cpu.max": "150000 100000\n"}, 1.5),
    "v2, no limit": ("0::/a\n", V2.format(root="/"), {"a/cpu.max": "max 100000\n", "cpu.max": "max 100000\n"}, None),
    "v2, the limit of a group above": (
        "0::/a/b/c\n",
        V2.format(root="/"),
        {"a/b/c/cpu.max": "400000 100000\n", "a/b/cpu.max": "max 100000\n", "a/cpu.max": "20000 10000\n"},
        2.0,
    ),
    "v2, in a namespace": ("0::/\n", V2.format(root="/"), {"cpu.max": "50000 100000\n"}, 0.5),
    "v2, a group outside of the namespace": (
        "0::/../x\n", V2.format(root="/"), {"cpu.max": "50000 100000\n", "x/cpu.max": "10000 100000\n"}, 0.5,
    ),
    "v1": (
        "4:memory:/m\n3:cpu,cpuacct:/a\n",
        OTHER + V1.format(root="/"),
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
        3.0,
    ),
    "v1, no limit": (
        "3:cpu,cpuacct:/a\n",
        V1.format(root="/"),
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
        None,
    ),
    "v1, the mount of a container": (
        "3:cpu,cpuacct:/docker/x/a\n",
        V1.format(root="/docker/x"),
        {"cpu,cpuacct/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        2.5,
    ),
    "v1, a group that the mount does not show": (
        "3:cpu,cpuacct:/other\n",
        V1.format(root="/docker/x"),
        {"cpu,cpuacct/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        2.5,
    ),
    "both, the quota in v1": (
        "3:cpu,cpuacct:/a\n0::/\n",
        V1.format(root="/") + V2.format(root="/").replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"),
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
        1.0,
    ),
    "a mount with a space": (
        "0::/a\n", V2.format(root="/").replace("/sys/fs/cgroup", r"/sys/fs/cgroup/a\040b"),
        {"a b/a/cpu.max": "200000 100000\n"}, 2.0,
    ),
    "a group with a colon": ("0::/a:b\n", V2.format(root="/"), {"a:b/cpu.max": "200000 100000\n"}, 2.0),
    "a mount of another source, with an option more": (
        "0::/a\n", V2.format(root="/").replace("cgroup2 cgroup2 rw", "cgroup2 none rw x"),
        {"a/cpu.max": "200000 100000\n"}, 2.0,
    ),
    "a mount without options": (
        "0::/a\n", V2.format(root="/").replace(" rw,nosuid", ""), {"a/cpu.max": "200000 100000\n"}, 2.0,
    ),
    "v1, files of another controller": (
        "4:cpuset:/a\n3:cpu,cpuacct:/a\n",
        OTHER + V1.format(root="/"),
        {"cpuset/a/cpu.cfs_quota_us": "100000\n", "cpuset/a/cpu.cfs_period_us": "100000\n"},
        None,
    ),
    "the smallest limit": ("0::/\n", V2.format(root="/"), {"cpu.max": "1 100000\n"}, 0.00001),
    "a limit of 0": ("0::/\n", V2.format(root="/"), {"cpu.max": "0 100000\n"}, None),
    "lines that say nothing": (
        "x\n0::/a\nx\n\n",
        "30 23 0:26 / - cgroup2 none rw\n30 23 0:26 / / rw - cgroup none\n" + V2.format(root="/"),
        {"a/cpu.max": "200000 100000\n"},
        2.0,
    ),
    "no control groups": ("", "", {}, None),
    "files that say nothing": (
        "x\n0::/a\n", V2.format(root="/") + "7\n", {"a/cpu.max": "\n", "cpu.max": "1 0\n"}, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_quota_is_the_least_of_the_group_and_those_above(name: str, tmp_path: Path) -> None:
    group, mounts, files, quota = CASES[name]
    assert cpu_quota(machine(tmp_path, group, mounts, files)) == quota


def test_a_machine_without_proc_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("platform", "count", "cpus"), [("linux", 7, 2), ("darwin", 7, 7), ("win32", 7, 7), ("darwin", None, 1)]
)
def test_usable_cpus_are_the_affinity_on_linux_and_all_cpus_elsewhere(
    platform: str, count: int | None, cpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5} if pid == 0 else set(), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    monkeypatch.setattr(sys, "platform", platform)
    found = usable_cpus(str(tmp_path))
    monkeypatch.undo()
    assert found == cpus


@pytest.mark.parametrize(("share", "cpus"), [("1000", 1), ("100000", 1), ("100001", 2), ("900000", 9)])
def test_usable_cpus_are_the_quota_rounded_up_and_never_more_than_the_affinity(
    share: str, cpus: int, tmp_path: Path
) -> None:
    root = machine(tmp_path, "0::/\n", V2.format(root="/"), {"cpu.max": f"{share} 100000\n"})
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert usable_cpus(root) == min(cpus, here)
