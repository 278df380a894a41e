"""Finding the address of a target that accepts connections: its name may have several."""

import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence

from ..errors import EX_CANNOT_CONNECT, EX_FAILURE
from ._errors import CLIENT_SHORTAGES, LoadError
from ._tls import reason_of
from .target import Address, Target

_PROBES = 3
Tried = list[tuple[Address, OSError]]


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Deliver signals when this block ends.

    The handler of Ctrl-C raises an exception wherever it interrupts. Inside a constructor, that would leave an open
    socket which no variable holds.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def connect(address: Address, timeout: float) -> socket.socket:
    """Raises OSError."""
    sock = None
    try:
        with signals_blocked():
            sock = socket.socket(address.family, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        sock.connect(_unix_path(address.host) if address.family == socket.AF_UNIX else (address.host, address.port))
    except BaseException:
        if sock is not None:
            sock.close()
        raise
    return sock


def _unix_path(path: str) -> str:
    """`@name` is an abstract socket."""
    return path.replace("@", "\0", 1) if path.startswith("@") and sys.platform == "linux" else path


def connect_first(target: Target, addresses: Sequence[Address], timeout: float) -> tuple[socket.socket, Address]:
    """A connection to the first of `addresses` that accepts one. Raises LoadError that names all of them."""
    tried: Tried = []
    for address in addresses:
        try:
            return connect(address, timeout), address
        except OSError as error:
            tried.append((address, error))
    raise cannot_connect(target, tried)


def choose_address(target: Target, addresses: Sequence[Address], timeout: float) -> Address:
    """The first of `addresses` that accepts a connection; a single one is not tried. Raises LoadError."""
    if len(addresses) == 1:
        return addresses[0]
    sock, address = connect_first(target, addresses, timeout)
    sock.close()
    return address


def choose_answering(target: Target, addresses: Sequence[Address], timeout: float) -> Address:
    """The first of `addresses` that echoes a datagram; UDP has no connection that would fail. Raises LoadError."""
    tried: Tried = []
    for address in addresses:
        try:
            with contextlib.closing(connect_datagrams(address, min(timeout, 1.0) / _PROBES)) as sock:
                _probe(sock)
            return address
        except OSError as error:
            tried.append((address, error))
    raise cannot_connect(target, tried)


def connect_datagrams(address: Address, timeout: float) -> socket.socket:
    """A UDP socket that sends to `address`, and hears no other. Raises OSError."""
    with signals_blocked():
        sock = socket.socket(address.family, socket.SOCK_DGRAM)
    try:
        sock.settimeout(timeout)
        sock.connect((address.host, address.port))
    except BaseException:
        sock.close()
        raise
    return sock


def _probe(sock: socket.socket) -> None:
    """Wait for any answer to one of a few datagrams."""
    for left in reversed(range(_PROBES)):
        sock.send(b"fastecho probe")
        try:
            sock.recv(1 << 16)
            return
        except TimeoutError:
            if not left:
                raise no_answer() from None


def cannot_connect(target: Target, tried: Tried) -> LoadError:
    """The error that says why no address accepted; its exit code is 1 when the client has run out of something."""
    reasons = [reason_of(error) for _, error in tried]
    if [address.host for address, _ in tried] != [target.host]:
        reasons = [f"{address}: {why}" for (address, _), why in zip(tried, reasons, strict=True)]
    short = any(error.errno in CLIENT_SHORTAGES for _, error in tried)
    return LoadError(f"cannot connect to {target}: {'; '.join(reasons)}", EX_FAILURE if short else EX_CANNOT_CONNECT)


def no_answer() -> OSError:
    return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
