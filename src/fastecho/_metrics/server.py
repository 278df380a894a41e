"""The HTTP server of a WSGI application on sockets that listen already: a thread for each request, within bounds.

No client holds it up. A request has `REQUEST_SECONDS` from its accept until its connection is closed, and there are at
most `MOST_REQUESTS` at a time; further ones are closed at once.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

REQUEST_SECONDS: Final = 10.0
MOST_REQUESTS: Final = 64

_POLL: Final = 0.5
_DISCARD: Final = 65536

_log = logging.getLogger("fastecho")


def serve(sockets: Sequence[socket.socket], application: Any, on_poll: Callable[[], None]) -> None:
    """Serve `application` on the listening sockets for ever. `on_poll` is called twice a second at least."""
    servers = [_Server(sock, application, on_poll) for sock in sockets]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, args=(_POLL,), daemon=True).start()
    servers[0].serve_forever(_POLL)


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        _log.debug("metrics: %s " + format, self.client_address[0], *args)

    def finish(self) -> None:
        super().finish()
        # Closing with unread input, such as the body of a POST, would reset the connection and lose the answer.
        self.connection.shutdown(socket.SHUT_WR)
        while self.connection.recv(_DISCARD):
            pass


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, sock: socket.socket, application: Any, on_poll: Callable[[], None]) -> None:
        super().__init__(sock.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        self.server_name, self.server_port = sock.getsockname()[:2]
        self.setup_environ()
        self.set_app(application)
        self._on_poll = on_poll
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        with self._lock:
            if len(self._open) >= MOST_REQUESTS:
                return False
            self._open[request] = time.monotonic() + REQUEST_SECONDS
        return True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
            request.close()

    def service_actions(self) -> None:
        now = time.monotonic()
        with self._lock:
            for request, latest in self._open.items():
                if latest <= now:
                    # Its thread reads end of file, or fails to write, and closes it.
                    _shut(request)
        self._on_poll()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has left, or a request that took too long, is no error of ours."""
        _log.debug("metrics: a request failed", exc_info=True)


def _shut(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
