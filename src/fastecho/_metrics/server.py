"""The HTTP server of an application on sockets that listen already: a thread for each connection, within bounds.

No client holds it up. A request has `REQUEST_SECONDS` from its first byte until its answer is sent, the first one from
the accept on. Between requests a connection may be idle for `IDLE_SECONDS`: a scraper that keeps its connection costs
half the CPU of one that opens another. Request line and header fields have `_LONGEST_HEAD` bytes; http.client alone
would take a hundred lines of 64 KiB. There are at most `MOST_CONNECTIONS`: a further one takes the place of the one
that has been idle longest, and is closed at once if none is idle.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.client import LineTooLong
from http.server import BaseHTTPRequestHandler
from io import BufferedIOBase
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final

from .application import METHODS, Application

REQUEST_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 300.0
MOST_CONNECTIONS: Final = 64

_POLL: Final = 0.5
_LONGEST_HEAD: Final = 16384
_DISCARD: Final = 8192

_log = logging.getLogger("fastecho")


def serve(sockets: Sequence[socket.socket], application: Application, on_poll: Callable[[], None]) -> None:
    """Serve `application` on the listening sockets for ever. `on_poll` is called twice a second at least."""
    servers = [_Server(sock, application, on_poll) for sock in sockets]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, args=(_POLL,), daemon=True).start()
    servers[0].serve_forever(_POLL)


class _Connections:
    """The open connections, each with the time at which it is shut down. The idle ones stand in the order in which they
    became idle."""

    def __init__(self) -> None:
        self._busy: dict[socket.socket, float] = {}
        self._idle: dict[socket.socket, float] = {}
        self._lock = threading.Lock()

    def add(self, connection: socket.socket) -> bool:
        """Add a connection that has to send a request; False if there are too many."""
        with self._lock:
            if len(self._busy) + len(self._idle) >= MOST_CONNECTIONS:
                if not self._idle:
                    return False
                oldest = next(iter(self._idle))
                self._busy[oldest] = self._idle.pop(oldest)
                _shut_down(oldest)
            self._busy[connection] = time.monotonic() + REQUEST_SECONDS
        return True

    def set_idle(self, connection: socket.socket) -> None:
        with self._lock:
            self._busy.pop(connection, None)
            self._idle[connection] = time.monotonic() + IDLE_SECONDS

    def set_busy(self, connection: socket.socket) -> None:
        with self._lock:
            if self._idle.pop(connection, None) is not None:
                self._busy[connection] = time.monotonic() + REQUEST_SECONDS

    def close(self, connection: socket.socket) -> None:
        with self._lock:
            self._busy.pop(connection, None)
            self._idle.pop(connection, None)
            connection.close()

    def shut_down_overdue(self) -> None:
        now = time.monotonic()
        with self._lock:
            for connection, latest in (*self._busy.items(), *self._idle.items()):
                if latest <= now:
                    _shut_down(connection)


class _Head:
    """The lines of `file` up to so many bytes; http.client answers a line that goes beyond with 431."""

    def __init__(self, file: BufferedIOBase, most: int) -> None:
        self._file = file
        self._left = most

    def readline(self, limit: int) -> bytes:
        line = self._file.readline(min(limit, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise LineTooLong("header")
        return line


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one segment
    server: "_Server"

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(_LONGEST_HEAD + 1)
        if not self.raw_requestline:
            self.close_connection = True
        elif len(self.raw_requestline) > _LONGEST_HEAD:
            self.requestline = self.request_version = self.command = ""
            self.close_connection = True
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
        elif self._parse():
            self._answer()
        self.wfile.flush()
        if not self.close_connection:
            self.server.connections.set_idle(self.connection)
            self.rfile.peek(1)  # type: ignore[attr-defined]  # a BufferedReader
            self.server.connections.set_busy(self.connection)

    def _parse(self) -> bool:
        """`parse_request`, of what the request line has left of the head."""
        file = self.rfile
        self.rfile = _Head(file, _LONGEST_HEAD - len(self.raw_requestline))  # type: ignore[assignment]
        try:
            return self.parse_request()
        finally:
            self.rfile = file

    def _answer(self) -> None:
        answer = self.server.application.answer(self.command, self.path, self.headers.get)
        has_body = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        if has_body or self.command not in METHODS:
            self.close_connection = True  # what follows may be the body, which is not read
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def finish(self) -> None:
        super().finish()
        # Closing with unread input, such as the body of a POST, would reset the connection and lose the answer.
        self.connection.shutdown(socket.SHUT_WR)
        while self.connection.recv(_DISCARD):
            pass

    def version_string(self) -> str:
        return "fastecho"

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug("metrics: " + format, *args)


class _Server(ThreadingMixIn, TCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, sock: socket.socket, application: Application, on_poll: Callable[[], None]) -> None:
        super().__init__(sock.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        self.application = application
        self.connections = _Connections()
        self._on_poll = on_poll

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self.connections.add(request)

    def shutdown_request(self, request: Any) -> None:
        self.connections.close(request)

    def service_actions(self) -> None:
        self.connections.shut_down_overdue()
        self._on_poll()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has left, or a request that took too long, is no error of ours."""
        _log.debug("metrics: a request failed", exc_info=True)


def _shut_down(connection: socket.socket) -> None:
    """Its thread reads end of file, or fails to write, and closes it."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
