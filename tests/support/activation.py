"""A service manager for the tests: it opens sockets and starts the command with them, as systemd does."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

from patience import DEADLINE
from processes import Service

# Moves the inherited sockets to 3, 4, ... and becomes the command: LISTEN_PID must be the pid of the command.
_START = """
import fcntl, os, sys
sockets, ready = sys.argv[1].split(), int(sys.argv[2])
moved = [fcntl.fcntl(int(each), fcntl.F_DUPFD_CLOEXEC, 200) for each in sockets]
os.dup2(ready, 100)
for each in (*map(int, sockets), ready):
    os.set_inheritable(each, False)
for number, descriptor in enumerate(moved):
    os.dup2(descriptor, 3 + number)
os.environ.setdefault("LISTEN_FDS", str(len(moved)))
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""


def activated(sockets: Sequence[Any], *arguments: str, environ: dict[str, str] | None = None, **popen: Any) -> Service:
    """The command, started with `sockets` (anything with a descriptor), which the caller keeps."""
    descriptors = [each.fileno() for each in sockets]
    program = [sys.executable, "-c", _START, " ".join(map(str, descriptors)), "READY_FD"]
    return Service(
        command=[*program, "-m", "fastecho", "--ready-fd", "100", *arguments],
        env={**os.environ, **(environ or {})},
        pass_fds=descriptors,
        **popen,
    )


class NotifySocket:
    """The socket that NOTIFY_SOCKET names: at a path, or abstract for a name that begins with @."""

    def __init__(self, name: str) -> None:
        self.environ = {**os.environ, "NOTIFY_SOCKET": name}
        self.messages: list[dict[str, str]] = []
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind("\0" + name[1:] if name.startswith("@") else name)

    def receive(self, limit: float = 2 * DEADLINE) -> dict[str, str]:
        """The next message, its assignments by their names."""
        self._sock.settimeout(limit)
        lines = self._sock.recv(65536).decode().split("\n")
        self.messages.append(message := dict(line.split("=", 1) for line in lines))
        return message

    def wait_for(self, name: str) -> dict[str, str]:
        """The next message that has an assignment to `name`."""
        while name not in (message := self.receive()):
            pass
        return message

    def discard(self) -> list[str]:
        """The messages that have come, which `receive` does not return any more."""
        self._sock.setblocking(False)
        discarded = []
        with contextlib.suppress(BlockingIOError):
            while True:
                discarded.append(self._sock.recv(65536).decode())
        return discarded

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long; what has come before is discarded."""
        self.discard()
        try:
            self.receive(seconds)
        except TimeoutError:
            return True
        return False

    def __enter__(self) -> NotifySocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()
