"""The server's processes and their CPU, where this machine can see them (Linux, same host, same user or root)."""

import contextlib
import ipaddress
import os
import re
import socket
import struct
from pathlib import Path

from ._errors import LoadError
from .target import Address, Target

_PROC = Path("/proc")
_LISTEN = "0A"
_UNCONNECTED = "07"
Tasks = dict[tuple[int, int], float]


def _read(path: Path) -> str:
    """Names of processes and of sockets are bytes, in any encoding."""
    return os.fsdecode(path.read_bytes())


def server_pids(target: Target) -> tuple[int, ...]:
    """The processes that hold the target's listening or UDP socket, ascending; empty when they cannot be seen."""
    inodes = {f"socket:[{inode}]" for inode in _listening(target)}
    if not inodes:
        return _listener_of(target.host) if target.unix else ()
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
            for line in _read(_PROC / "net/unix").splitlines()[1:]:
                fields = line.split(maxsplit=7)
                if len(fields) == 8 and fields[7] == target.host:
                    inodes.add(fields[6])
        elif _is_local(target):
            kind, state = ("udp", _UNCONNECTED) if target.udp else ("tcp", _LISTEN)
            for table in (f"net/{kind}", f"net/{kind}6"):
                for line in _read(_PROC / table).splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == state and int(fields[1].rpartition(":")[2], 16) == target.port:
                        inodes.add(fields[9])
    return inodes


def _listener_of(path: str) -> tuple[int, ...]:
    """Who listens at a UNIX path that the kernel knows by another name, as it does after a rename: ask the socket."""
    if not hasattr(socket, "SO_PEERCRED"):
        return ()
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1.0)
        sock.connect(path)
        pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        return (pid,) if pid > 0 else ()
    return ()


def _is_local(target: Target) -> bool:
    """An address is this machine's when a socket can be bound to it."""
    with contextlib.suppress(LoadError):
        return any(_is_own(address) for address in target.addresses())
    return False


def _is_own(address: Address) -> bool:
    if ipaddress.ip_address(address.host).is_loopback:
        return True
    try:
        with socket.socket(address.family, socket.SOCK_DGRAM) as probe:
            probe.bind((address.host, 0))
    except OSError:
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
        return int(_read(task / "schedstat").split()[0]) / 1e9
    fields = _read(task / "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _with_descendants(pids: tuple[int, ...]) -> set[int]:
    parents: dict[int, int] = {}
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            match = re.search(r"\) \S+ ([0-9]+)", _read(folder / "stat"))
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
