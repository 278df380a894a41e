"""A client of TLS whose records are made before they are sent, thousands at a time."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable


class RecordClient:
    """A client on a connected blocking socket, after its handshake."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        while not self._is_connected():
            sock.sendall(self._outgoing.read())
            self._incoming.write(sock.recv(65536))
        sock.sendall(self._outgoing.read())

    def _is_connected(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def records(self, contents: Iterable[bytes]) -> bytes:
        """A record for each of the contents. They must be sent in the order in which they were made."""
        for content in contents:
            self._tls.write(content)
        return self._outgoing.read()

    def read_exactly(self, count: int) -> bytes:
        got = bytearray()
        while len(got) < count:
            try:
                got += self._tls.read(count - len(got))
            except ssl.SSLWantReadError:
                data = self.sock.recv(65536)
                assert data, f"{len(got)} of {count} bytes, then EOF"
                self._incoming.write(data)
        return bytes(got)

    def read_close_notify(self) -> None:
        """Read until the server's close_notify. AssertionError: data comes, or a bare FIN."""
        while True:
            try:
                data = self._tls.read(65536)
            except ssl.SSLWantReadError:
                arrived = self.sock.recv(65536)
                assert arrived, "FIN without close_notify"
                self._incoming.write(arrived)
            except ssl.SSLZeroReturnError:
                return
            else:
                assert not data, f"{len(data)} bytes came"
                return
