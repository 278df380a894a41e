"""A client for line protocols: a pool, time-outs, retries and TLS; and the asyncio variant.

docs/bugs.md plants bugs in it, and shows the test that finds each.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator

import fastecho

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
CUT_SHORT = "the server closed the connection before the end of its answer"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class IncompleteAnswer(ConnectionError):
    """The server closed the connection before the end of its answer."""


def tls_context(ca_file: str | None) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=ca_file) if ca_file else None


class Client:
    """Sends lines to a server, and returns the line that answers each.

    Args:
        address: host and port.
        timeout: seconds that an attempt of a request may take.
        connect_timeout: seconds that connecting may take, and the TLS handshake.
        attempts: how often an idempotent request is tried.
        ca_file: for TLS: the file with the certificates to trust.

    Raises:
        TimeoutError: the server did not answer in time.
        ConnectionError: the connection failed.
        ssl.SSLError: the handshake failed.
    """

    RETRIED: tuple[type[Exception], ...] = (ConnectionError,)

    def __init__(
        self,
        address: tuple[str, int],
        *,
        timeout: float = 30,
        connect_timeout: float = 30,
        attempts: int = 3,
        ca_file: str | None = None,
    ) -> None:
        self.address, self.timeout, self.connect_timeout, self.attempts = address, timeout, connect_timeout, attempts
        self._tls = self._context(ca_file)
        self._open: set[socket.socket] = set()
        self._idle: list[socket.socket] = []

    def request(self, line: bytes, *, idempotent: bool = False, timeout: float | None = None) -> bytes:
        """Send a line and return the answer. An idempotent request is sent again when its connection fails."""
        attempts = self.attempts if idempotent else 1
        while True:
            attempts -= 1
            try:
                with self._borrow() as sock:
                    return self._exchange(sock, line + b"\n", timeout or self.timeout)
            except self.RETRIED:
                if not attempts:
                    raise

    def notify(self, line: bytes) -> None:
        """Send a line that has no answer."""
        with self._borrow() as sock:
            self._exchange(sock, line + b"\n", self.timeout, answered=False)

    def close(self) -> None:
        for sock in self._idle:
            self._finish(sock)
        for sock in list(self._open):
            self._discard(sock)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- one exchange ------------------------------------------------------------------------------------------

    def _exchange(self, sock: socket.socket, data: bytes, timeout: float, answered: bool = True) -> bytes:
        """Send and receive at the same time: the server may stop reading until its answer is read."""
        end = time.monotonic() + timeout
        unsent, received, complete = memoryview(data), bytearray(), False
        while not complete and (unsent or answered):
            blocked = True
            if unsent:
                with contextlib.suppress(*WOULD_BLOCK):
                    unsent = self._send(sock, unsent, answered)
                    blocked = False
            if answered:
                with contextlib.suppress(*WOULD_BLOCK):
                    received += (part := self._receive(sock))
                    complete, blocked = b"\n" in part, False
            if blocked:
                self._wait(sock, bool(unsent), end)
        answer, _, surplus = received.partition(b"\n")
        if unsent or surplus:  # what is left of this request must not become part of the next one
            self._discard(sock)
        return bytes(answer)

    def _send(self, sock: socket.socket, unsent: memoryview, answered: bool) -> memoryview:
        """Send what the kernel takes, and return the rest."""
        try:
            return unsent[sock.send(unsent) :]
        except ConnectionError:
            if not answered:
                raise
            return unsent[:0]  # the server may have answered before it closed: read on

    def _receive(self, sock: socket.socket) -> bytes:
        if data := sock.recv(65536):
            return data
        raise IncompleteAnswer(CUT_SHORT)

    def _wait(self, sock: socket.socket, to_send: bool, end: float) -> None:
        poll = select.poll()
        poll.register(sock, select.POLLIN | (select.POLLOUT if to_send else 0))
        if not poll.poll(max(0, end - time.monotonic()) * 1000):
            raise TimeoutError("the server did not answer in time")

    # -- the pool ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _borrow(self) -> Iterator[socket.socket]:
        """A connection for one request. After an error its state is unknown, and it is closed."""
        sock = self._take()
        try:
            yield sock
        except BaseException:
            self._discard(sock)
            raise
        self._put_back(sock)

    def _take(self) -> socket.socket:
        while self._idle:
            sock = self._idle.pop()
            if self._is_alive(sock):
                return sock
            self._discard(sock)
        sock = self._connect()
        self._open.add(sock)
        return sock

    def _put_back(self, sock: socket.socket) -> None:
        if sock in self._open:
            self._idle.append(sock)

    def _finish(self, sock: socket.socket) -> None:
        """Wait until the server has read all, and closes: a close with bytes unread would drop what is unsent."""
        end = time.monotonic() + self.timeout
        with contextlib.suppress(OSError):  # TimeoutError is one
            sock.shutdown(socket.SHUT_WR)
            while True:
                try:
                    if not sock.recv(65536):
                        return
                except WOULD_BLOCK:
                    self._wait(sock, False, end)

    def _discard(self, sock: socket.socket) -> None:
        self._open.discard(sock)
        sock.close()

    def _is_alive(self, sock: socket.socket) -> bool:
        """An idle connection has nothing to read, not even an end."""
        try:
            sock.recv(1)  # and not poll: what TLS sends by itself is readable, too
        except WOULD_BLOCK:
            return True
        except OSError:
            return False
        return False

    # -- connecting --------------------------------------------------------------------------------------------

    def _context(self, ca_file: str | None) -> ssl.SSLContext | None:
        return tls_context(ca_file)

    def _dial(self) -> socket.socket:
        return socket.create_connection(self.address, self.connect_timeout)

    def _connect(self) -> socket.socket:
        sock = self._dial()
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_hostname=self.address[0])
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock


class AsyncClient:
    """`Client` for asyncio, without retries. The arguments and the errors are the same."""

    def __init__(
        self, address: tuple[str, int], *, timeout: float = 30, connect_timeout: float = 30, ca_file: str | None = None
    ) -> None:
        self.address, self.timeout, self.connect_timeout = address, timeout, connect_timeout
        self._tls = tls_context(ca_file)
        self._open: set[Streams] = set()
        self._idle: list[Streams] = []

    async def request(self, line: bytes, *, timeout: float | None = None) -> bytes:
        """Send a line and return the answer."""
        async with self._borrow() as streams:
            try:
                return await asyncio.wait_for(self._exchange(streams, line + b"\n"), timeout or self.timeout)
            except asyncio.TimeoutError:
                raise TimeoutError("the server did not answer in time") from None

    async def _exchange(self, streams: Streams, data: bytes) -> bytes:
        reader, writer = streams
        writer.write(data)  # without drain: the data is in memory anyway, and the answer is read meanwhile
        received = bytearray()
        while b"\n" not in received:
            if not (part := await reader.read(65536)):
                raise IncompleteAnswer(CUT_SHORT)
            received += part
        answer, _, surplus = received.partition(b"\n")
        if surplus or writer.transport.get_write_buffer_size():
            self._discard(streams)
        return bytes(answer)

    async def close(self) -> None:
        for streams in list(self._open):
            self._discard(streams)
            with contextlib.suppress(ConnectionError):
                await streams[1].wait_closed()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def _borrow(self) -> AsyncIterator[Streams]:
        """A connection for one request. After an error or a cancellation its state is unknown, and it is closed."""
        streams = await self._take()
        try:
            yield streams
        except BaseException:
            self._discard(streams)
            raise
        self._put_back(streams)

    async def _take(self) -> Streams:
        while self._idle:
            reader, writer = streams = self._idle.pop()
            if not (reader.at_eof() or reader.exception() or writer.is_closing()):
                return streams
            self._discard(streams)
        host, port = self.address
        dial = asyncio.open_connection(host, port, ssl=self._tls)
        try:
            streams = await asyncio.wait_for(dial, self.connect_timeout)
        except asyncio.TimeoutError:
            raise TimeoutError("the server did not accept the connection in time") from None
        self._open.add(streams)
        return streams

    def _put_back(self, streams: Streams) -> None:
        if streams in self._open:
            self._idle.append(streams)

    def _discard(self, streams: Streams) -> None:
        self._open.discard(streams)
        streams[1].transport.abort()


def main() -> None:
    with fastecho.serve(port=0, terminator=None) as server:
        with Client(server.address) as client:
            print("answer:", client.request(b"one").decode())

        async def ask() -> bytes:
            async with AsyncClient(server.address) as client:
                return await client.request(b"two")

        print("answer for asyncio:", asyncio.run(ask()).decode())


if __name__ == "__main__":
    main()
