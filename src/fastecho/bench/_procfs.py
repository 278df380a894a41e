"""The server's processes and their CPU, where this machine can see them (Linux, same host, same user or root)."""

import contextlib
import ipaddress
import os
import re
import socket
from pathlib import Path

from .spec import Target

_PROC = Path("/proc")
_LISTEN = "0A"
Tasks = dict[tuple[int, int], float]


def server_pids(target: Target) -> tuple[int, ...]:
    """The processes that hold the target's listening socket, ascending; empty when they cannot be seen."""
    inodes = {f"socket:[{inode}]" for inode in _listening(target)}
    if not inodes:
        return ()
    found = set()
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for entry in os.scandir(folder / "fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path) in inodes:
                        found.add(int(folder.name))
    return tuple(sorted(found))


def _listening(target: Target) -> set[str]:
    inodes = set()
    with contextlib.suppress(OSError):
        if target.unix:
            for line in (_PROC / "net/unix").read_text().splitlines()[1:]:
                fields = line.split(maxsplit=7)
                if len(fields) == 8 and fields[7] == target.host:
                    inodes.add(fields[6])
        elif _is_local(target):
            for table in ("net/tcp", "net/tcp6"):
                for line in (_PROC / table).read_text().splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == target.port:
                        inodes.add(fields[9])
    return inodes


def _is_local(target: Target) -> bool:
    """An address is this machine's when a socket can be bound to it."""
    try:
        family, _, _, _, address = socket.getaddrinfo(target.host, 0, type=socket.SOCK_DGRAM)[0]
        if ipaddress.ip_address(address[0]).is_loopback:
            return True
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
    except (OSError, ValueError):
        return False
    return True


def tasks_cpu(pids: tuple[int, ...]) -> Tasks:
    """CPU seconds (user and system) of every thread of `pids` and of their descendants."""
    found: Tasks = {}
    for pid in _with_descendants(pids):
        with contextlib.suppress(OSError):
            for entry in os.scandir(_PROC / str(pid) / "task"):
                with contextlib.suppress(OSError, ValueError, IndexError):
                    found[pid, int(entry.name)] = _task_cpu(Path(entry.path))
    return found


def _task_cpu(task: Path) -> float:
    """schedstat counts nanoseconds, where the kernel keeps it; stat counts ticks of 10 ms."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((task / "schedstat").read_text().split()[0]) / 1e9
    fields = (task / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _with_descendants(pids: tuple[int, ...]) -> set[int]:
    parents: dict[int, int] = {}
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            match = re.search(r"\) \S+ ([0-9]+)", (folder / "stat").read_text())
            if match:
                parents[int(folder.name)] = int(match[1])
    family = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def spent(before: Tasks, after: Tasks) -> tuple[float, float]:
    """CPU seconds in all between two readings, and those of the busiest thread. A thread that ended is not counted."""
    each = [cpu - before.get(task, 0.0) for task, cpu in after.items()]
    return sum(each), max(each, default=0.0)


def process_name(pid: int) -> str:
    with contextlib.suppress(OSError):
        command = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        return os.path.basename(os.fsdecode(command[0]))
    return ""
