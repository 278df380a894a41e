"""What is under a session: a socket, and what the kernel knows of it. `SecureWire` has TLS in between.

Each call is one try: nothing blocks and nothing waits. What the peer or the network did wrong comes as an OSError.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import select
import socket
import struct
import sys
import termios

__all__ = ["Wire", "pin_window"]

_NOT_NOW = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ENOBUFS})
_FLAGS = getattr(socket, "MSG_NOSIGNAL", 0) | getattr(socket, "MSG_DONTWAIT", 0)
_SO_NWRITE = 0x1024  # macOS
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def pin_window(sock: socket.socket, window: int) -> None:
    """Have a peer that sends to `sock`, which nobody reads, block after about `window` bytes.

    Linux doubles what it is given and counts its bookkeeping in it, so half of `window` bears about `window` bytes,
    those in a small SO_SNDBUF of the client included (Linux 6.18, window 9216, SO_SNDBUF of the client 4096: it blocks
    after 14 to 15 KB, 5 to 7 KB of them on this side).

    It is kept only if it comes before the handshake: on the *listening* socket, whose accepted sockets inherit it. On
    an accepted socket the handshake has promised up to 64 KiB already, and TCP does not take back what it promised
    (RFC 9293, 3.8.6): the peer blocks after 32 to 100 KB. Still not after megabytes, since the window does not grow any
    more. In both cases what the client's own send buffer holds comes on top: 4 MB, where its size was not set. The
    SO_SNDBUF of this side plays no part, and a UNIX socket has no window: there the client's send buffer alone decides.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, max(1, window // 2))


class Wire:
    """A plain connected socket, non-blocking."""

    pending = 0
    """Bytes that `send` took, and the kernel did not."""
    secured = True
    """Whether bytes may be sent: TLS, after its handshake only."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.fd = sock.fileno()
        self.given = 0
        """Bytes that the kernel took, ever."""
        sock.setblocking(False)
        self.unix = sock.family == getattr(socket, "AF_UNIX", None)
        if not self.unix:
            with contextlib.suppress(OSError):  # the peer has gone, which the first read tells
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # -- bytes -----------------------------------------------------------------------------------------------

    @property
    def held(self) -> bool:
        """Whether `recv` may have something that the readiness of the socket does not tell of."""
        return False

    def recv(self, most: int) -> bytes | None:
        """Up to `most` bytes; b"" at the peer's FIN, None when there is nothing now."""
        return self._take(most)

    def send(self, data: memoryview) -> int:
        """How many bytes of `data` were taken."""
        return self._give(data)

    def flush(self) -> bool:
        """Try to get rid of what is `pending`; whether nothing is left of it."""
        return True

    def notify(self) -> None:
        """TLS: have the close_notify be `pending`, which comes before a FIN."""

    def fin(self) -> None:
        """Say that no more comes. Nothing may be pending."""
        with contextlib.suppress(OSError):  # the peer has gone meanwhile, which the next read tells
            self._sock.shutdown(socket.SHUT_WR)

    def _take(self, most: int) -> bytes | None:
        try:
            return self._sock.recv(most)
        except OSError as error:
            if error.errno in _NOT_NOW:
                return None
            raise

    def _give(self, data: memoryview | bytearray) -> int:
        try:
            taken = self._sock.send(data, _FLAGS)
        except OSError as error:
            if error.errno in _NOT_NOW:
                return 0
            raise
        self.given += taken
        return taken

    # -- what the kernel knows -------------------------------------------------------------------------------

    def unacknowledged(self) -> int:
        """Bytes that the peer's side has not acknowledged, a FIN counts as one; 0 where that cannot be known.
        (UNIX sockets: memory held by what the peer has not read.)"""
        try:
            if sys.platform == "darwin":
                return self._sock.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
            return int(struct.unpack("i", fcntl.ioctl(self.fd, termios.TIOCOUTQ, bytes(4)))[0])  # SIOCOUTQ
        except OSError:
            return 0

    def unread(self) -> int:
        """Bytes that the kernel has for us."""
        return int(struct.unpack("i", fcntl.ioctl(self.fd, termios.FIONREAD, bytes(4)))[0])

    def delivered(self) -> bool:
        """Whether a reset would take nothing back. A UNIX socket's bytes are with the peer as soon as they are sent."""
        return self.pending == 0 and (self.unix or self.unacknowledged() == 0)

    def fate(self) -> str | None:
        """What became of the peer, asked without reading: "eof", "reset", or None while it is there."""
        poll = select.poll()
        poll.register(self.fd, _GONE)
        events = poll.poll(0)
        if not events:
            return None
        if events[0][1] & select.POLLERR or self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return "reset"
        return "eof"

    def pin_window(self, window: int) -> None:
        pin_window(self._sock, window)

    # -- the end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """close(2), whatever follows from it."""
        self.fd = -1
        self._sock.close()

    def reset(self) -> None:
        """Close with an RST. (UNIX sockets know none: the peer reads EOF, or ECONNRESET if it sent what is unread.)"""
        with contextlib.suppress(OSError):  # not on a socket that the peer has reset (macOS)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()
