"""A client of TLS whose records are made before they are sent, thousands at a time."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Sequence


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

    def records(self, contents: Sequence[bytes]) -> bytes:
        """A record for each of the contents. They must be sent in the order in which they were made."""
        for content in contents:
            self._tls.write(content)
        return self._outgoing.read()

    def exchange(self, contents: Sequence[bytes]) -> bytes:
        """Send a record for each of the contents, and read as many bytes meanwhile."""
        sender = threading.Thread(target=self.sock.sendall, args=(self.records(contents),))
        sender.start()
        got = self.read_exactly(sum(map(len, contents)))
        sender.join()
        return got

    def read_exactly(self, count: int) -> bytes:
        got = bytearray()
        while len(got) < count:
            data = self._read(count - len(got))
            assert data, f"{len(got)} of {count} bytes, then close_notify"
            got += data
        return bytes(got)

    def read_close_notify(self) -> None:
        """AssertionError: data comes before it, or a bare FIN."""
        assert self._read(1) == b""

    def _read(self, most: int) -> bytes:
        """Some bytes of data; none after close_notify."""
        while True:
            try:
                return self._tls.read(most)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                arrived = self.sock.recv(65536)
                assert arrived, "FIN without close_notify"
                self._incoming.write(arrived)
