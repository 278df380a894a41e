"""`serve()`: an EchoServer in a thread with its own event loop, next to any code: sync, asyncio or trio."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

from ._net.listeners import bind
from ._net.loops import check_threads, new_loop
from .config import ServerConfig
from .server import EchoServer
from .stats import Stats

__all__ = ["ThreadServer", "serve"]

_running: weakref.WeakSet[ThreadServer] = weakref.WeakSet()
_MARGIN = 5.0
"""Seconds beyond the server's own bounds for its thread to end."""


def _leave_to_parent() -> None:
    """In a forked child, which has the listeners but neither the thread nor its loop."""
    for server in _running:
        server._leave_to_parent()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


class ThreadServer:
    """A running server, as returned by `serve`. It may be used from any thread."""

    def __init__(self, config: ServerConfig) -> None:
        check_threads()
        listeners = bind(config)  # in the caller's thread: errors are raised here, and the address is known at once
        try:
            self._loop = new_loop()
        except BaseException:
            listeners.close()
            listeners.unlink()
            raise
        self._server = EchoServer(config, listeners=listeners)
        self._thread = threading.Thread(target=self._run, name="fastecho", daemon=True)
        self._closing = threading.Lock()
        self._open = True
        _running.add(self)
        try:
            self._thread.start()
            self._call(self._server.start())
        except BaseException:
            listeners.close()
            listeners.unlink()
            self._end()
            raise

    @property
    def address(self) -> Any:
        """(host, port) of the first listener, or the path of the UNIX socket."""
        return self._server.address

    @property
    def addresses(self) -> tuple[str, ...]:
        """All listeners, like `tcp://127.0.0.1:8007` or `unix:/run/echo.sock`."""
        return self._server.addresses

    @property
    def stats(self) -> Stats:
        """A snapshot of the counters."""
        return self._server.stats

    def close(self, drain: bool = False) -> None:
        """Stop, and wait for the end. Open sessions are reset, or with `drain` given time to end, for at most
        `drain_timeout`. May be called again. In a forked child it does nothing: the server is the parent's."""
        with self._closing:
            if self._open:
                self._open = False
                try:
                    self._call(self._server.close(drain))
                finally:
                    _running.discard(self)
                    self._end()

    def __enter__(self) -> ThreadServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _leave_to_parent(self) -> None:
        self._closing = threading.Lock()  # another thread may have held it
        self._open = False
        self._server.close_copies()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(self._server.config.drain_timeout + _MARGIN)

    def _end(self) -> None:
        if not self._thread.is_alive():  # it could not be started
            self._loop.close()
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_MARGIN)


def serve(config: ServerConfig | None = None, **options: Any) -> ThreadServer:
    """Start a server in a new thread. It is serving when this returns.

    Args:
        config: the options; made from `options` if it is not given.
        options: those of `ServerConfig`, as keywords.

    Raises:
        ConfigError: an option is wrong.
        AddressInUseError, AddressError, PermissionDeniedError: the address cannot be had.
        TLSError: the certificate cannot be loaded.
        FastechoError: gevent or eventlet has replaced threads.

    Examples:
        >>> with serve(port=0) as server:
        ...     client = socket.create_connection(server.address)
    """
    if config is not None and options:
        raise TypeError(f"give either config or options, not both: {', '.join(options)}")
    return ThreadServer(config if config is not None else ServerConfig(**options))
