"""A service manager for the tests: it opens sockets and starts the command with them, as systemd does."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

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
