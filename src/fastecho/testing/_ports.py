"""A port that refuses connections for a while, and stays ours meanwhile.

Where the kernel chose the port (`port` 0), Linux gives it back as soon as the socket leaves the state of listening;
where it was asked for by its number, the socket keeps it. So the fixture asks for a number, drawn from those that the
kernel draws from: then shutdown(2) and listen(2) on the one socket are down and up. The listener gives up SO_REUSEADDR
as soon as it listens, so that nobody's bind goes beside it when it does not; the accepted sockets have the option
(`of_reserved`), or they would keep it from listening again.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import sys
from functools import cache
from pathlib import Path
from typing import Any

from .._sockets import Listeners, bind
from ..config import ServerConfig
from ..errors import AddressInUseError

_LINUX = sys.platform.startswith("linux")
_SO_DETACH_FILTER = 27
_TRIES = 16
_drawn = random.Random()


def bind_by_number(config: ServerConfig) -> Listeners:
    """Like `bind`, with a port that stays ours when it is `taken_down`."""
    if config.port == 0 and config.unix is None and _LINUX:
        low, high = _ephemeral()
        for _ in range(_TRIES):
            try:
                # An odd one, as the kernel takes for listeners: clients get the even ones.
                return bind(config, port=_drawn.randrange(low | 1, high, 2))
            except AddressInUseError:
                continue
    return bind(config)


@cache
def _ephemeral() -> tuple[int, int]:
    try:
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    except (OSError, ValueError):
        return 32768, 60999  # Linux's default
    return low, max(high, low + 2)


def spare(listener: socket.socket, name: Any) -> socket.socket:
    """What `take_down` makes of `listener`: a new one where the old one cannot listen again. OSError: no descriptor."""
    if listener.family != socket.AF_UNIX and _LINUX:
        return listener
    other = socket.socket(listener.family, socket.SOCK_STREAM)
    if listener.family == socket.AF_UNIX:
        other.bind(name + "~")
        os.chmod(name + "~", 0o600)
    return other


def take_down(listener: socket.socket, other: socket.socket, name: Any) -> None:
    """Refuse connections at `name`, and leave it to nobody; `other` is the `spare` of `listener`."""
    if other is listener:
        listener.shutdown(socket.SHUT_RDWR)
    elif listener.family == socket.AF_UNIX:
        os.rename(name + "~", name)
        listener.close()
    else:
        _copy_options(listener, other)
        listener.close()
        other.bind(name)
    reserve(other)
    other.setblocking(False)


def reserve(listener: socket.socket) -> None:
    """No bind of anybody goes beside it. (UNIX sockets do not mind the option.)"""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def of_reserved(connection: socket.socket) -> None:
    """An accepted connection, which must not stand in the way of its listener."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def listen_again(listener: socket.socket, backlog: int) -> None:
    try:
        listener.listen(backlog)
    except OSError:  # older connections are bound to the port too
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.listen(backlog)
        reserve(listener)


def shut(listener: socket.socket) -> None:
    """Close the port itself: whoever inherited a copy of the descriptor holds it open no longer."""
    refuse(listener)
    listener.close()


def refuse(listener: socket.socket) -> None:
    """Listen no more; from any thread."""
    if listener.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


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
