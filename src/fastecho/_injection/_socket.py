"""The accepted socket, without and with TLS, and what the kernel knows of the connection; the receive windows of
listeners.

Each call is one attempt: it does not block and does not wait. Errors of the connection are raised as OSError.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from .._net.kernel import close_means_reset, left, unacknowledged, unread, would_block
from .._net.tls import AlertPending
from ..faults import Fault

__all__ = ["ClientSocket", "TLSClientSocket", "Windows"]

_MOST_ENCRYPTED = 65536  # before the kernel is asked again whether it takes any
_MOST_RAW = 65536
_SO_BUF_LOCK = 72  # Linux 5.16
_FLAGS = getattr(socket, "MSG_NOSIGNAL", 0) | getattr(socket, "MSG_DONTWAIT", 0)


class ClientSocket:
    """A connected, non-blocking socket without TLS."""

    is_tls = False

    pending = 0
    """Bytes that `send` has accepted and the kernel has not."""
    secured = True
    """Whether bytes of the stream may be sent: with TLS, after the handshake."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.fd = sock.fileno()
        self.bytes_sent = 0
        """Bytes that the kernel has accepted."""
        sock.setblocking(False)
        self.unix = sock.family == getattr(socket, "AF_UNIX", None)
        if self.unix:  # SO_OOBINLINE of the listener is not inherited
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        else:
            with contextlib.suppress(OSError):  # the client has left, which the first read reports
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # -- bytes -----------------------------------------------------------------------------------------------

    @property
    def has_buffered(self) -> bool:
        """Whether `recv` may return bytes although the socket is not readable."""
        return False

    def recv(self, most: int) -> bytes | None:
        """Up to `most` bytes; b"" at the client's FIN, None when there is nothing now."""
        return self._recv(most)

    def send(self, data: memoryview) -> int:
        """Send `data`; the number of bytes that were accepted."""
        return self._send(data)

    def flush(self) -> bool:
        """Try to send what is `pending`; whether nothing is left."""
        return True

    def close_notify(self) -> None:
        """TLS: queue the close_notify, which comes before FIN."""

    def send_fin(self) -> None:
        """Send FIN. Nothing may be pending."""
        with contextlib.suppress(OSError):  # the client has left, which the next read reports
            self._sock.shutdown(socket.SHUT_WR)

    def _recv(self, most: int) -> bytes | None:
        try:
            return self._sock.recv(most)
        except OSError as error:
            if would_block(error.errno or 0):
                return None
            raise

    def _send(self, data: memoryview | bytearray) -> int:
        try:
            taken = self._sock.send(data, _FLAGS)
        except OSError as error:
            if would_block(error.errno or 0):
                return 0
            raise
        self.bytes_sent += taken
        return taken

    # -- what the kernel knows -------------------------------------------------------------------------------

    def client_address(self) -> Any:
        """As `getpeername` returns it; None after the client has left."""
        with contextlib.suppress(OSError):
            return self._sock.getpeername()
        return None

    def unacknowledged(self) -> int:
        """Bytes that the client has not acknowledged; 0 after a reset, and where that cannot be known."""
        return unacknowledged(self.fd)

    def unread(self) -> int:
        """Bytes in the kernel that were not read."""
        return unread(self.fd)

    def delivered(self) -> bool:
        """Whether the client has all bytes, so that a RST loses none. (On a UNIX socket, as soon as they are sent.)"""
        return self.pending == 0 and (self.unix or self.unacknowledged() == 0)

    def client_left(self) -> str | None:
        """Without reading: "eof" or "reset" if the client has closed its side, else None."""
        how = left(self.fd)
        return "reset" if how and self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else how

    def set_receive_window(self, window: int) -> None:
        _set_receive_window(self._sock, window)

    # -- the end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """close(2)."""
        self.fd = -1
        self._sock.close()

    def reset(self) -> None:
        """Close with RST. (On a UNIX socket the client reads EOF, or ECONNRESET if it has sent bytes that were not
        read.)"""
        close_means_reset(self.fd)
        self.close()


class TLSClientSocket(ClientSocket):
    """The server's side of TLS 1.2 or 1.3, through memory BIOs: each step can be observed, and the handshake can stop
    at any. Until `do_handshake` is done, `recv` returns ciphertext and `send` sends nothing."""

    is_tls = True

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._ciphertext = bytearray()  # the kernel has not accepted it yet
        self._read: deque[bytes] = deque()
        self.secured = False
        self._notified = False

    @property
    def pending(self) -> int:  # type: ignore[override]
        return len(self._ciphertext) + self._outgoing.pending

    @property
    def has_buffered(self) -> bool:
        return bool(self._read) or self._incoming.pending > 0 or (self.secured and self._tls.pending() > 0)

    def version(self) -> str:
        return self._tls.version() or ""

    def do_handshake(self, answer: bool) -> str:
        """Take a step of the handshake.

        Returns:
            "done"; "more", to be continued when bytes arrive; or, without `answer`, "hello": the ClientHello has
            arrived, and is not answered.

        Raises:
            ssl.SSLError: the handshake has failed.
        """
        while True:
            try:
                self._tls.do_handshake()
            except AlertPending as pending:
                self.flush()
                raise pending.__cause__ or pending from None
            except ssl.SSLWantReadError:
                if self._outgoing.pending and not answer:
                    return "hello"
                self.flush()
                if not self._fill():
                    return "more"
            except ssl.SSLError:
                self.flush()  # the alert
                raise
            else:
                self.secured = True
                self.flush()
                return "done"

    def recv(self, most: int) -> bytes | None:
        if not self.secured:
            return self._recv(most)
        if self._read:
            return self._read.popleft()
        while (data := self._decrypt(most)) is None:
            if not self._fill():
                break
        if not self._notified and self._outgoing.pending:  # the answer to a key update
            self.flush()
        return data

    def send(self, data: memoryview) -> int:
        if self.pending and not self.flush():
            return 0
        try:
            taken = self._tls.write(data[:_MOST_ENCRYPTED])
        except ssl.SSLWantReadError:
            return 0
        self.flush()
        return taken

    def discard_pending(self) -> None:
        """Do not send what is pending."""
        self._outgoing.read()
        self._ciphertext.clear()

    def flush(self) -> bool:
        if self._outgoing.pending:
            self._ciphertext += self._outgoing.read()
        while self._ciphertext:
            taken = self._send(self._ciphertext)
            if not taken:
                return False
            del self._ciphertext[:taken]
        return True

    def close_notify(self) -> None:
        if self._notified or not self.secured:
            return
        # unwrap() also reads up to the client's close_notify, and fails at data before it.
        while data := self._decrypt(_MOST_RAW):
            self._read.append(data)
        if data == b"":
            self._read.append(data)
        self._notified = True
        with contextlib.suppress(ssl.SSLError):  # the client's close_notify has not arrived yet
            self._tls.unwrap()
        self.flush()

    def _decrypt(self, most: int) -> bytes | None:
        try:
            return self._tls.read(most)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def _fill(self) -> bool:
        """Read ciphertext; whether there was any, or EOF."""
        raw = self._recv(_MOST_RAW)
        if raw is None:
            return False
        if raw:
            self._incoming.write(raw)
        else:
            self._incoming.write_eof()
        return True


def _set_receive_window(sock: socket.socket, window: int) -> None:
    """Let a client that sends to `sock`, which is not read, block after about `window` bytes.

    Linux doubles the value and counts its bookkeeping in it, so half of `window` admits about `window` bytes,
    those in a small SO_SNDBUF of the client included (Linux 6.18, window 9216, SO_SNDBUF of the client 4096: it blocks
    after 14 to 15 KB, 5 to 7 KB of them on this side).

    The size is kept only if it is set before the handshake: on the *listening* socket, from which accepted sockets
    inherit it. On an accepted socket the handshake has promised up to 64 KiB already, and TCP does not take back what
    it promised (RFC 9293, 3.8.6): the client blocks after 32 to 100 KB. Still not after megabytes, since the window
    does not grow any more. In both cases what the client's own send buffer holds comes on top: 4 MB, where its size
    was not set. The SO_SNDBUF of this side plays no part. A UNIX socket has no window: there only the client's send
    buffer counts.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, max(1, window // 2))


class Windows:
    """Sets the receive windows of some listeners while a `stop_reading` is armed. All clients that connect meanwhile
    get them: which connection a fault is for is known only after the handshake."""

    def __init__(self) -> None:
        self._before: dict[socket.socket, int] = {}

    def apply(self, listeners: Sequence[socket.socket], faults: Iterable[Fault]) -> None:
        """Set the smallest window of these faults, or restore the sizes from before."""
        wanted = min((fault.get("window") for fault in faults if fault.kind == "stop_reading"), default=None)
        if wanted is None:
            for listener in self._before:
                self._restore(listener)
            self._before.clear()
            return
        for listener in listeners:
            if listener not in self._before:
                self._before[listener] = listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            _set_receive_window(listener, wanted)

    def _restore(self, listener: socket.socket) -> None:
        if listener.fileno() < 0:
            return
        size = self._before[listener]
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size // 2 if sys.platform == "linux" else size)
        with contextlib.suppress(OSError):  # the size grows again by itself; kernels before 5.16 keep it
            listener.setsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK, 0)
