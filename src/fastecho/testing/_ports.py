"""A port that refuses connections for a while, and stays ours meanwhile."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from typing import Any

_LINUX = sys.platform.startswith("linux")
_SO_DETACH_FILTER = 27


def stand_in(listener: socket.socket, name: Any) -> socket.socket:
    """Close `listener`; a socket bound to `name`, its address, which does not listen: whoever connects is refused.

    Nobody else can bind the address meanwhile. `SO_REUSEPORT` lets the second socket in beside the first; once that is
    closed the options are taken back. Linux remembers for a port that all its sockets had the option, and would still
    let other programs of the same user in; a socket that listens without it makes the kernel forget that.
    """
    if listener.family == socket.AF_UNIX:
        os.unlink(name)
        keeper = socket.socket(listener.family, socket.SOCK_STREAM)
        keeper.bind(name)
        os.chmod(name, 0o600)
    else:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper = socket.socket(listener.family, socket.SOCK_STREAM)
        _copy_options(listener, keeper)
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper.bind(name)
    shut(listener)
    if keeper.family != socket.AF_UNIX:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        if _LINUX:
            keeper.listen(1)
            keeper.shutdown(socket.SHUT_RDWR)
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    keeper.setblocking(False)
    return keeper


def listen_again(keeper: socket.socket, backlog: int) -> None:
    if keeper.family != socket.AF_UNIX:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # older connections are bound to the port too
    keeper.listen(backlog)


def shut(listener: socket.socket) -> None:
    """Close the port itself: whoever inherited a copy of the descriptor holds it open no longer."""
    if listener.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def answer_syns_again(listener: socket.socket) -> None:
    """Undo `_sockets.drop_syns`."""
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, struct.pack("i", 0))


def _copy_options(source: socket.socket, target: socket.socket) -> None:
    options = [(socket.SOL_SOCKET, socket.SO_REUSEADDR), (socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
    options.append((socket.IPPROTO_TCP, socket.TCP_NODELAY))
    if source.family == socket.AF_INET6:
        options.append((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    for level, option in options:
        target.setsockopt(level, option, source.getsockopt(level, option))
