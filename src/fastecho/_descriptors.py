"""Descriptors of this process: how many it may open, and passing sockets to another process."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Sequence

DESCRIPTOR_RESERVE = 64
"""Descriptors of a process that are never given to connections: listeners, loop, logs, control channel."""

_MAX_PASSED = 64
_OPEN_MAX = 10240
_NO_LIMIT = 1 << 20


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one; return the limit that now holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS reports an unlimited hard limit but accepts no more than OPEN_MAX.
    for wanted in (hard, _OPEN_MAX):
        if wanted != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or wanted <= soft):
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue
        soft = wanted
        break
    return _NO_LIMIT if soft == resource.RLIM_INFINITY else soft


def connection_limit(wanted: int | None) -> int:
    """How many connections this process may hold: `wanted`, but never past the descriptor limit's reserve.

    Past it `accept` fails with EMFILE, and libuv then accepts and closes everybody who waits.
    """
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = max(1, (_NO_LIMIT if soft == resource.RLIM_INFINITY else soft) - DESCRIPTOR_RESERVE)
    return most if wanted is None else min(wanted, most)


def send_sockets(channel: socket.socket, message: bytes, sockets: Sequence[socket.socket]) -> None:
    """Pass `sockets` to the process at the other end of a UNIX `channel`, in datagrams that say `message`."""
    for start in range(0, len(sockets), _MAX_PASSED):
        batch = sockets[start : start + _MAX_PASSED]
        socket.send_fds(channel, [message], [sock.fileno() for sock in batch])


def receive_sockets(channel: socket.socket, size: int = 4096) -> tuple[bytes, list[socket.socket]]:
    """Receive one datagram and the sockets that came with it, non-blocking. Empty: the other end is gone."""
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    data, descriptors, _, _ = socket.recv_fds(channel, size, _MAX_PASSED, flags)
    sockets = []
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
        sockets.append(sock := socket.socket(fileno=descriptor))
        sock.setblocking(False)
    return data, sockets
