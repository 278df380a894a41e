"""`EchoServer`: one process, one loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

from ._accept import Acceptor, Take, runs_on_uvloop
from ._counters import Counters
from ._session import SessionGroup
from ._sockets import Listeners, bind, connection_limit, drop_syns, raise_descriptor_limit, socket_address
from ._spin import SpinningGroup
from ._ticker import Ticker
from ._tls import HANDSHAKE_TIMEOUT, server_context
from .config import ServerConfig
from .stats import Stats

__all__ = ["EchoServer"]

log = logging.getLogger("fastecho")

_HANDSHAKES = 0.05  # seconds for handshakes under way when the listeners close
_LAST_WORDS = 1.0  # seconds for the loop to report the end of connections that were reset


class EchoServer:
    """An echo server inside your event loop: uvloop, for speed, or stock asyncio.

    Args:
        config: the options; made from `options` if it is not given.
        listeners: sockets from `fastecho._sockets.bind`, closed with the server; bound in `start` if not given.
        counters: where to count; memory of its own if not given.
        on_room: called with True when this server takes the last place of `max_connections`, with False when a place
            is free again: for processes that share the limit.
        options: those of `ServerConfig`, as keywords. `workers`, `stats`, `ready_fd` and `log_*` mean nothing here.

    Raises:
        ConfigError: an option is wrong.

        >>> async with EchoServer(port=0) as server:
        ...     reader, writer = await asyncio.open_connection(*server.address)
    """

    def __init__(
        self,
        config: ServerConfig | None = None,
        *,
        listeners: Listeners | None = None,
        sockets: Sequence[socket.socket] | None = None,
        counters: Counters | None = None,
        on_room: Callable[[bool], None] | None = None,
        **options: Any,
    ) -> None:
        if config is not None and options:
            raise TypeError(f"give either config or options, not both: {', '.join(options)}")
        self.config = config if config is not None else ServerConfig(**options)
        self._listeners = listeners
        self._sockets = list(sockets) if sockets is not None else None
        self._counters = counters
        self._level = logging.DEBUG if sockets is not None else logging.INFO  # a worker: its supervisor tells
        self._announce = on_room
        self._told = False
        self._group: SessionGroup | None = None
        self._acceptor: Acceptor | None = None
        self._ticker: Ticker | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closed: asyncio.Event = asyncio.Event()
        self._emptied: set[asyncio.Event] = set()
        self._addresses: tuple[str, ...] = ()
        self._names: list[Any] = []

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind, unless sockets were given, and serve.

        Raises:
            AddressInUseError, AddressError, PermissionDeniedError: the address cannot be had.
            TLSError: the certificate cannot be loaded.
            RuntimeError: the server was started before.
        """
        if self._group is not None:
            raise RuntimeError("the server was started before")
        acceptor = self._set_up(asyncio.get_running_loop(), server_context(self.config))
        assert self._sockets is not None
        await acceptor.add(self._sockets)
        log.log(self._level, "serving on %s", ", ".join(self._addresses))

    def _set_up(self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext | None) -> Acceptor:
        """All of a start but to accept."""
        raise_descriptor_limit()
        if self._sockets is None:
            if self._listeners is None:
                self._listeners = bind(self.config)
            self._sockets = self._listeners.sockets[0]
        self._addresses = tuple(map(socket_address, self._sockets))
        self._names = [sock.getsockname() for sock in self._sockets]
        group = self._group = self._group_class()(
            self.config,
            loop,
            direct=runs_on_uvloop(loop),
            tls=context is not None,
            counters=self._counters,
            own_limit=connection_limit(None),
        )
        group.on_full = lambda: self._accept_while_there_is_room(True)
        group.on_room = lambda: self._accept_while_there_is_room(False)
        # The sweep ends a TLS close after 2 s of silence; the loop's own clock would end one that still flushes.
        acceptor = self._acceptor = Acceptor(
            loop,
            group.new_session,
            backlog=self.config.backlog, context=context, take=self._taker(context), guard=self._guard,
            shutdown_timeout=self.config.write_timeout + self.config.linger_timeout,
        )
        self._ticker = Ticker(loop, group)
        return acceptor

    async def close(self, drain: bool = True) -> None:
        """Stop. With `drain`, whatever was received is echoed and sessions end in peace, for at most `drain_timeout`;
        without it they are reset. Does nothing the second time but wait for the first."""
        if self._group is None:
            self._release()
            self._closed.set()
        else:
            if self._closing is None:
                self._closing = asyncio.ensure_future(self._close(drain))
            elif not drain:
                self._group.expel_all()
            await asyncio.shield(self._closing)

    async def _close(self, drain: bool) -> None:
        assert self._group is not None
        await self.stop_accepting(finish=drain)
        if drain:
            await self.drain()
        self._group.closed = True
        self._group.expel_all()
        await self._until_empty(_LAST_WORDS)
        self._finish()

    def _finish(self) -> None:
        if self._ticker is not None and self._group is not None:
            self._ticker.cancel()
            self._group.close()
        log.log(self._level, "closed")
        self._closed.set()

    async def serve_forever(self) -> None:
        """Start, unless started, and wait until `close` was called. Cancelled, it closes the server first."""
        if self._group is None:
            await self.start()
        try:
            await self._closed.wait()
        finally:
            await self.close()

    async def __aenter__(self) -> EchoServer:
        await self.start()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await self.close(drain=error is None)

    # -- what it shows ---------------------------------------------------------------------------------------

    @property
    def address(self) -> Any:
        """(host, port) of the first listener, or the path of the UNIX socket."""
        if not self._names:
            raise RuntimeError("the server has not been started")
        if self._addresses[0].startswith("unix:"):
            return self._addresses[0].removeprefix("unix:")
        return self._names[0][:2]

    @property
    def addresses(self) -> tuple[str, ...]:
        """All listeners, like `tcp://127.0.0.1:8007` or `unix:/run/echo.sock`; empty before `start`."""
        return self._addresses

    @property
    def stats(self) -> Stats:
        """A snapshot of the counters of this process."""
        if self._group is None:
            raise RuntimeError("the server has not been started")
        return Stats.from_counters(self._group.stats())

    # -- the steps of a stop ---------------------------------------------------------------------------------

    async def stop_accepting(self, finish: bool) -> None:
        """Close this process's listeners. With `finish`, handshakes under way may end, and all who wait are accepted:
        closing at once would reset them."""
        assert self._acceptor is not None
        if self._listeners is not None:
            self._listeners.unlink()
        if finish:
            if self._listeners is not None:
                for sock in self._sockets or ():
                    drop_syns(sock)
            await asyncio.sleep(_HANDSHAKES)
            self._acceptor.pause()
            await self._acceptor.accept_the_rest()
        for sock in self._acceptor.release():
            sock.close()
        self._release()

    async def serve_out(self) -> None:
        """After `stop_accepting`: wait until the last session has ended by itself, for at most `drain_timeout`."""
        assert self._acceptor is not None
        await self._acceptor.handed_over()
        await self._until_empty(self.config.drain_timeout)

    async def drain(self) -> None:
        """End each session once it has been quiet for `drain_grace`; return when none is left, or after
        `drain_timeout`."""
        assert self._group is not None
        assert self._ticker is not None
        self._group.interval = min(self._group.interval, max(self.config.drain_grace / 4, 0.01))
        self._ticker.tick()
        self._group.draining_since = self._ticker.now
        await self._until_empty(self.config.drain_timeout)

    def close_copies(self) -> None:
        """In a forked child: close its copies of the listening sockets, or the port stays open as long as it lives."""
        if self._acceptor is not None:
            self._acceptor.close_copies()

    async def adopt(self, sockets: Sequence[socket.socket]) -> None:
        """Serve further listening sockets, of a sibling that cannot."""
        assert self._acceptor is not None
        await self._acceptor.add(sockets)

    def settle(self) -> None:
        """Another process took the last place, or left one: pause or resume accepting with it."""
        assert self._group is not None
        self._told = True
        try:
            self._group.settle()
        finally:
            self._told = False

    # -- underneath ------------------------------------------------------------------------------------------

    _guard: contextlib.AbstractContextManager[Any] | None = None

    def _group_class(self) -> type[SessionGroup]:
        return SpinningGroup if self.config.busy_poll else SessionGroup

    def _taker(self, context: ssl.SSLContext | None) -> Take | None:
        """Who looks at each connection first; None: nobody, and uvloop may accept by itself."""
        if not self.config.fault:
            return None
        from ._faulty import ConfiguredFaults

        assert self._group is not None
        return ConfiguredFaults(self._group, context, self._sockets or ()).take

    async def _until_empty(self, timeout: float) -> None:
        """Wait until there is neither a session nor a handshake under way, for at most `timeout` seconds."""
        assert self._group is not None
        latest = time.monotonic() + timeout
        handshakes = min(latest, time.monotonic() + HANDSHAKE_TIMEOUT)
        empty = asyncio.Event()
        self._emptied.add(empty)
        self._group.on_empty = self._tell_empty
        try:
            while (now := time.monotonic()) < latest:
                under_way = self._group.pending and now < handshakes
                if not (self._group.sessions or under_way):
                    break
                # Nobody tells of a handshake that failed: look for that.
                empty.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(empty.wait(), min(latest - now, _HANDSHAKES if under_way else timeout))
        finally:
            self._emptied.discard(empty)

    def _tell_empty(self) -> None:
        for empty in self._emptied:
            empty.set()

    def _release(self) -> None:
        if self._listeners is not None:
            self._listeners.unlink()
            self._listeners.close()

    def _accept_while_there_is_room(self, full: bool) -> None:
        assert self._acceptor is not None
        (self._acceptor.pause if full else self._acceptor.resume)()
        if self._announce is not None and not self._told:
            self._announce(full)
