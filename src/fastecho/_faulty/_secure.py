"""TLS under a session, by memory BIOs: so the session sees each step of it, and can stop in the middle."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections import deque

from ._wire import Wire

__all__ = ["SecureWire"]

_MOST_ENCRYPTED = 65536  # before the kernel is asked again whether it takes any
_MOST_RAW = 65536


class SecureWire(Wire):
    """The server's side of TLS 1.2 or 1.3. Before `shake` is done it receives ciphertext and sends nothing."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._ciphertext = bytearray()  # what the kernel has not taken yet
        self._read: deque[bytes] = deque()
        self.secured = False
        self._notified = False

    @property
    def pending(self) -> int:  # type: ignore[override]
        return len(self._ciphertext) + self._outgoing.pending

    @property
    def held(self) -> bool:
        return bool(self._read) or self._incoming.pending > 0 or (self.secured and self._tls.pending() > 0)

    def version(self) -> str:
        return self._tls.version() or ""

    def shake(self, answer: bool) -> str:
        """A step of the handshake: "done", "more" (wait for the peer), or, when not to `answer`, "hello": the
        ClientHello is here, and the answer to it is kept. Raises ssl.SSLError for a handshake that failed."""
        while True:
            try:
                self._tls.do_handshake()
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
            return self._take(most)
        if self._read:
            return self._read.popleft()
        while (data := self._decrypt(most)) is None:
            if not self._fill():
                break
        if not self._notified and self._outgoing.pending:  # a key update wants its answer
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

    def forget(self) -> None:
        """Whatever is pending will never be sent."""
        self._outgoing.read()
        self._ciphertext.clear()

    def flush(self) -> bool:
        if self._outgoing.pending:
            self._ciphertext += self._outgoing.read()
        while self._ciphertext:
            taken = self._give(self._ciphertext)
            if not taken:
                return False
            del self._ciphertext[:taken]
        return True

    def notify(self) -> None:
        if self._notified or not self.secured:
            return
        # unwrap() looks for the peer's close_notify too, and would stumble over data before it.
        while data := self._decrypt(_MOST_RAW):
            self._read.append(data)
        if data == b"":
            self._read.append(data)
        self._notified = True
        with contextlib.suppress(ssl.SSLError):  # the peer's close_notify is not here yet
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
        """Read ciphertext; whether there was any, or the end of it."""
        raw = self._take(_MOST_RAW)
        if raw is None:
            return False
        if raw:
            self._incoming.write(raw)
        else:
            self._incoming.write_eof()
        return True
