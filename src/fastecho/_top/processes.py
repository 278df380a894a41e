"""Where a running service has its metrics, as /proc shows it: Linux only, and for processes of the same user.

The process that serves the metrics has a name of its own, and no listening socket but theirs.
"""

import contextlib
import ipaddress
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .._workers.metrics import PROCESS_NAME

_PROC = Path("/proc")
_LISTENING = "0A"
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def urls_of(pid: int) -> list[str]:
    """The URLs of the metrics of the service that process `pid` belongs to. Raises OSError when it cannot be seen."""
    near = [pid, *_children(pid), *_children(_parent(pid))]
    return [url for each in dict.fromkeys(near) if _name(each) == PROCESS_NAME for url in _listening(each)]


def all_urls() -> dict[int, str]:
    """A URL of each service with metrics that can be seen here, by the pid of its supervisor."""
    found: dict[int, str] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and _name(int(entry.name)) == PROCESS_NAME:
            with contextlib.suppress(OSError):
                pid = int(entry.name)
                for url in _listening(pid):
                    found.setdefault(_parent(pid), url)
    return dict(sorted(found.items()))


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "comm").read_text().strip()
    return ""


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return list(map(int, (_PROC / str(pid) / "task" / str(pid) / "children").read_text().split()))
    return []


def _parent(pid: int) -> int:
    return int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


def _listening(pid: int) -> Iterator[str]:
    """The URLs of the listening TCP sockets that the process has open."""
    folder = _PROC / str(pid)
    inodes = set()
    for descriptor in (folder / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # closed meanwhile
            inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in (folder / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and fields[9] in inodes:
                    yield _url(fields[1])


def _url(address: str) -> str:
    """Of an address as /proc/net/tcp has it: 32-bit words in the byte order of the machine, and the port."""
    words, _, port = address.partition(":")
    packed = b"".join(int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8))
    host = str(ipaddress.ip_address(packed))
    host = _LOOPBACK.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{int(port, 16)}/metrics"

