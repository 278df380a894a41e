"""How many CPUs this process may use: its affinity, and the quotas of its control groups (cgroup v1 and v2).

A container with a quota of half a CPU sees all CPUs of its machine. With a worker for each, the workers would use
up the quota together, and all sessions would wait for the next period.
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_UNESCAPED: Final = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\134": "\\"}


def usable_cpus(root: str = "/") -> int:
    """The CPUs that this process may run on, or fewer where a quota allows fewer: rounded up, and at least 1.

    Args:
        root: the folder that has `proc` and `sys`.
    """
    quota = cpu_quota(root)
    available = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return available if quota is None else max(1, min(available, -int(-quota // 1)))


def cpu_quota(root: str = "/") -> float | None:
    """The CPUs that the control groups of this process allow it, such as 1.5; None without a limit.

    The least of its group and those above counts. `root` is the folder that has `proc` and `sys`.
    """
    quotas = [quota for folder, version in _groups(Path(root)) if (quota := _quota(folder, version)) is not None]
    return min(quotas, default=None)


def _groups(root: Path) -> Iterator[tuple[Path, int]]:
    """The folders of the groups of this process and of those above it, each with its version of cgroup."""
    own = _own_groups(_read(root / "proc/self/cgroup"))
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        version = 2 if kind[0] == "cgroup2" else 1
        if version == 1 and "cpu" not in kind[2].split(","):
            continue
        mount = root / _unescape(fields[4]).lstrip("/")
        inside = _below(own.get(version), _unescape(fields[3]))
        for part in (inside, *inside.parents):
            yield mount / part, version


def _own_groups(text: str) -> dict[int, str]:
    """The path of this process's group, by the version of cgroup."""
    found = {}
    for line in text.splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            found[2] = path
        elif "cpu" in controllers.split(","):
            found[1] = path
    return found


def _below(group: str | None, mounted: str) -> PurePosixPath:
    """Where the group is below the mount of the group `mounted`; the mount itself if the group is not below it."""
    try:
        inside = PurePosixPath(group or "/").relative_to(mounted)
    except ValueError:
        return PurePosixPath(".")
    return PurePosixPath(".") if ".." in inside.parts else inside


def _quota(folder: Path, version: int) -> float | None:
    if version == 2:
        limit, period = [*_read(folder / "cpu.max").split(), "", ""][:2]
    else:
        limit, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
    if not limit.isdigit() or not period.isdigit() or int(period) == 0 or int(limit) == 0:
        return None  # max, -1, or no such file
    return int(limit) / int(period)


def _unescape(path: str) -> str:
    return re.sub(r"\\(?:040|011|012|134)", lambda match: _UNESCAPED[match[0]], path)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
