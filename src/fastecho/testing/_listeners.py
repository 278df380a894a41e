"""The listening sockets of a fixture server: up, down, behind a firewall that drops, or closed.

A port can refuse connections for a while without being lost. Linux gives a port that the kernel chose (`port` 0) back
as soon as the socket stops listening. A port that was asked for by its number stays with the socket. So the fixture
draws a number from the range that the kernel draws from, and asks for it: then shutdown(2) and listen(2) on the one
socket refuse and accept. The listener gives up SO_REUSEADDR as soon as it listens, so that no other socket can be bound
to the port while it does not listen. Accepted sockets get the option (`prepare`): without it they would keep the
listener from listening again.
"""

from __future__ import annotations

import contextlib
import errno
import posix
import random
import socket
import struct
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

from .._injection import Windows
from .._net.acceptor import Acceptor
from .._net.listeners import Listeners, bind, drop_syns, set_min_ttl
from .._net.unix import remove_path
from ..config import ServerConfig
from ..errors import AddressError, AddressInUseError, PermissionDeniedError
from ..faults import Fault
from ._files import read

__all__ = ["BLACKHOLE", "DOWN", "UP", "FixtureListeners", "bind_by_number"]

UP, DOWN, BLACKHOLE = "up", "down", "blackhole"

_LINUX = sys.platform.startswith("linux")
_SO_DETACH_FILTER = 27
_MOST_TTL = 255
_TRIES = 16
_drawn = random.Random()


class FixtureListeners:
    """Listening sockets that can refuse connections or drop SYNs, and serve again. After `open`, on the loop's thread.

    Args:
        sockets: bound and listening.
        addresses: their addresses as text, such as `tcp://127.0.0.1:8007`.
    """

    def __init__(self, sockets: list[socket.socket], addresses: tuple[str, ...], config: ServerConfig) -> None:
        self._addresses = addresses
        self._sockets, self._config = sockets, config
        self._acceptor: Acceptor | None = None
        self._state = UP
        self._accepting = False
        self._min_ttl = False
        self._windows = Windows()
        self._rebound: tuple[int, int] | None = None
        self._names: tuple[Any, ...] | None = None

    @property
    def url(self) -> str:
        """The first address; `tls://` instead of `tcp://` with TLS."""
        address = self._addresses[0]
        return address.replace("tcp://", "tls://") if self._config.tls_cert is not None else address

    @property
    def names(self) -> tuple[Any, ...]:
        """What `getsockname` returns for each."""
        if self._names is None:
            self._names = tuple(map(_name, self._sockets, self._addresses))
        return self._names

    def open(self, acceptor: Acceptor) -> None:
        """Begin to accept."""
        self._acceptor = acceptor
        assert self.names  # known from here on, also after the sockets have been closed
        for listener in self._sockets:
            _reserve(listener)
        acceptor.add_now(self._sockets)

    def accept_all(self) -> None:
        """Accept every client that has connected."""
        if self._acceptor is not None and self._state == UP and not self._accepting:
            self._accepting = True  # a `where` may read `server.connections`, which calls this again
            try:
                self._acceptor.accept_all()
            finally:
                self._accepting = False

    @property
    def opened(self) -> bool:
        """Whether `open` was called."""
        return self._acceptor is not None

    def change_to(self, state: str, faults: Iterable[Fault]) -> None:
        """Change to `UP`, `DOWN` (connections are refused) or `BLACKHOLE` (no SYN is answered).

        Args:
            faults: the armed ones; see `set_windows`.
        """
        before, acceptor = self._state, self._acceptor
        if acceptor is None or state == before:
            return
        self.accept_all()
        if state == DOWN:
            others = list(map(_replacement, self._sockets, self.names))  # OSError: the state stays as it is
            acceptor.pause("outage")
            acceptor.release()
            for each in zip(self._sockets, others, self.names, strict=True):
                _refuse_connections(*each)
            self._sockets = others
            self._remember_path()
        self._state = state
        if state == BLACKHOLE:
            acceptor.pause("outage")
            for listener in self._sockets:
                self._drop_syns(listener)
        if before == DOWN:
            for listener in self._sockets:
                _listen_again(listener, self._config.backlog)
            self.set_windows(faults)
            acceptor.add_now(self._sockets)
        if before == BLACKHOLE:
            for listener in self._sockets:
                _stop_dropping_syns(listener)
        if state == UP:
            acceptor.resume("outage")

    def _drop_syns(self, listener: socket.socket) -> None:
        # The filter needs a privilege since Linux 6.18.
        if not drop_syns(listener) and set_min_ttl(listener, _MOST_TTL):
            self._min_ttl = True

    def prepare(self, connection: socket.socket) -> None:
        """Set the options of an accepted socket. With SO_REUSEADDR it does not keep its listener from listening
        again."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._min_ttl:  # its handshake may have ended during the blackhole
            set_min_ttl(connection, 0)

    def _remember_path(self) -> None:
        """The replacement of a UNIX socket is another file at the path: `close` removes this one."""
        if self._config.unix is not None:
            status = posix.lstat(self._config.unix)
            self._rebound = status.st_dev, status.st_ino

    def set_windows(self, faults: Iterable[Fault]) -> None:
        """Set the receive windows that the armed `faults` need: clients learn them in the handshake."""
        self._windows.apply(self._sockets, faults)

    def close(self) -> None:
        """Close the listeners and their ports, even if a child process has copies of the descriptors."""
        if self._acceptor is not None:
            self._acceptor.pause("closing")
            self._acceptor.release()
        for listener in self._sockets:
            _close_port(listener)
        if self._rebound is not None:
            remove_path(self.names[0], self._rebound)

    def refuse(self) -> None:
        """Stop listening, from any thread: for a loop's thread that is held up."""
        for listener in self._sockets:
            _stop_listening(listener)

    def close_copies(self) -> None:
        """In a forked child: close the child's copies."""
        assert self.names
        for sock in self._sockets:
            if (descriptor := sock.detach()) >= 0:
                with contextlib.suppress(OSError):
                    socket.close(descriptor)


def _name(listener: socket.socket, text: str) -> Any:
    if text.startswith("unix:"):  # it was bound to another path, and renamed
        return text.removeprefix("unix:")
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    return listener.getsockname() if host.startswith("[") else (host, int(port))


def bind_by_number(config: ServerConfig) -> Listeners:
    """`bind`, with a port that stays reserved after `_refuse_connections`."""
    if config.port == 0 and config.unix is None and _LINUX:
        low, high = _ephemeral()
        for _ in range(_TRIES):
            try:
                # An odd number: the kernel takes these for listeners, and the even ones for clients.
                return bind(config, port=_drawn.randrange(low | 1, high, 2))
            except AddressInUseError:
                continue
    return bind(config)


@cache  # reading it takes as long as the rest of a start
def _ephemeral() -> tuple[int, int]:
    try:
        low, high = map(int, read("/proc/sys/net/ipv4/ip_local_port_range").split())
    except (OSError, ValueError):
        return 32768, 60999  # Linux's default
    return low, max(high, low + 2)


def _replacement(listener: socket.socket, name: Any) -> socket.socket:
    """The socket that replaces `listener` after `_refuse_connections`: itself, or a new one where it cannot listen
    again.

    Raises:
        AddressInUseError: a file is at the path that a UNIX socket needs meanwhile.
        PermissionDeniedError, AddressError: a UNIX socket cannot be made at that path.
        OSError: no descriptor is free.
    """
    if listener.family != socket.AF_UNIX and _LINUX:
        return listener
    other = socket.socket(listener.family, socket.SOCK_STREAM)
    if listener.family == socket.AF_UNIX:
        try:
            other.bind(name + "~")
        except OSError as error:
            other.close()
            if error.errno == errno.EADDRINUSE:
                raise AddressInUseError(f"unix:{name}~: in the way of down(); remove it") from None
            kind = PermissionDeniedError if isinstance(error, PermissionError) else AddressError
            raise kind(f"unix:{name}~: down() needs the path: {error.strerror or error}") from None
        posix.chmod(name + "~", 0o600)
    return other


def _refuse_connections(listener: socket.socket, other: socket.socket, name: Any) -> None:
    """Refuse connections at the address `name` and keep it reserved; `other` is the `_replacement` of `listener`."""
    if other is listener:
        listener.shutdown(socket.SHUT_RDWR)
    elif listener.family == socket.AF_UNIX:
        posix.rename(name + "~", name)
        listener.close()
    else:
        _copy_options(listener, other)
        listener.close()
        other.bind(name)
    _reserve(other)
    other.setblocking(False)


def _reserve(listener: socket.socket) -> None:
    """Let no other socket be bound to the address. (The option has no effect on UNIX sockets.)"""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def _listen_again(listener: socket.socket, backlog: int) -> None:
    try:
        listener.listen(backlog)
    except OSError:  # connections that were accepted without the option are bound to the port too
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.listen(backlog)
        _reserve(listener)


def _close_port(listener: socket.socket) -> None:
    """Close the listener and its port, even if a child process has inherited a copy of the descriptor."""
    _stop_listening(listener)
    listener.close()


def _stop_listening(listener: socket.socket) -> None:
    """Stop listening; from any thread."""
    if listener.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _stop_dropping_syns(listener: socket.socket) -> None:
    """Undo `drop_syns` and `set_min_ttl`."""
    set_min_ttl(listener, 0)
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, struct.pack("i", 0))


def _copy_options(source: socket.socket, target: socket.socket) -> None:
    options = [(socket.SOL_SOCKET, socket.SO_REUSEADDR), (socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
    options += [(socket.SOL_SOCKET, socket.SO_OOBINLINE), (socket.IPPROTO_TCP, socket.TCP_NODELAY)]
    if source.family == socket.AF_INET6:
        options.append((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    for level, option in options:
        target.setsockopt(level, option, source.getsockopt(level, option))
