"""Listening sockets that a service manager has opened and passed on: socket activation, as of sd_listen_fds(3).

The manager keeps its copies, so a client that connects while no instance runs waits for the next one. Therefore nothing
is done to such a socket that would outlive this process: no filter, no shutdown, no unlink. All workers share it: each
client, and each datagram, is served by the first worker that takes it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from ..config import check_transport, options
from ..errors import ConfigError
from .listeners import Listeners, set_connection_options, socket_address

if TYPE_CHECKING:
    from ..config import ServerConfig

__all__ = ["inherited_listeners", "refuse_addresses"]

_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_FIRST = 3
_ADDRESS_OPTIONS = ("host", "port", "udp", "unix")
_SERVED = (
    (socket.AF_INET, socket.SOCK_STREAM),
    (socket.AF_INET6, socket.SOCK_STREAM),
    (socket.AF_UNIX, socket.SOCK_STREAM),
    (socket.AF_INET, socket.SOCK_DGRAM),
    (socket.AF_INET6, socket.SOCK_DGRAM),
)


def refuse_addresses(given: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Raises ConfigError for an option in `given` that says where to listen, if sockets have been passed."""
    if environ.get("LISTEN_PID") == str(os.getpid()):
        for name in _ADDRESS_OPTIONS:
            if name in given:
                must = "must not be given: the service manager passes the sockets to listen on (LISTEN_FDS)"
                raise ConfigError(name, given[name], must)


def inherited_listeners(config: ServerConfig, environ: MutableMapping[str, str]) -> Listeners | None:
    """The sockets that the service manager has passed to this process, or None if it has passed none.

    Args:
        config: `host`, `port`, `udp` and `unix` must be left at their defaults if there are any.
        environ: the variables of the manager are removed, so that no other process takes the sockets for its own.

    Raises:
        ConfigError: a socket cannot be served, or an option says where to listen.
    """
    refuse_addresses(
        {option.name: value for option in options() if (value := getattr(config, option.name)) != option.default},
        environ,
    )
    pid, count, names = (environ.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()):
        return None
    if not count.isascii() or not count.isdigit():
        raise ConfigError("LISTEN_FDS", count, "must be the number of sockets that are passed")
    if int(count) == 0:
        return None
    named = names.split(":") if names else []
    descriptors = range(_FIRST, _FIRST + int(count))
    sockets = [_adopt(each, named[each - _FIRST] if each - _FIRST < len(named) else "") for each in descriptors]
    unix = any(sock.family == socket.AF_UNIX for sock in sockets)
    check_transport(
        config.fault, tls=config.tls_cert is not None, unix=unix, proxy_protocol=config.proxy_protocol
    )  # fmt: skip
    rows = [list(sockets) for _ in range(config.workers)]
    return Listeners(rows, tuple(map(socket_address, sockets)), inherited=True)


def _adopt(descriptor: int, name: str) -> socket.socket:
    """The listening socket or UDP socket at `descriptor`, which the manager calls `name`. Raises ConfigError."""
    shown = f"{descriptor} ({name})" if name else descriptor
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ConfigError("LISTEN_FDS", shown, f"must be a socket: {error.strerror}") from None
    must = None
    if (sock.family, sock.type) not in _SERVED:
        must = "must be a stream socket (ListenStream=), TCP or UNIX, or a UDP socket (ListenDatagram=)"
    elif sock.type == socket.SOCK_DGRAM:
        if _is_connected(sock):
            must = "must be a socket that is bound, and not connected (Accept=no)"
    elif not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        must = "must be a socket that listens (Accept=no)"
    if must is not None:
        sock.detach()
        raise ConfigError("LISTEN_FDS", shown, must)
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX and sock.type == socket.SOCK_STREAM:
        set_connection_options(sock)
    return sock


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
