"""`EchoServer`: one process, one loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Protocol

from ._busy_poll import BusyPollSessions
from ._counters import Counters
from ._datagrams import DatagramEcho
from ._net.acceptor import Acceptor
from ._net.handshakes import wait_for_handshakes
from ._net.limits import connection_limit, describe_shortage, descriptor_limit
from ._net.listeners import EXPOSED, Listeners, beyond_loopback, bind, socket_address
from ._net.loops import runs_on_uvloop
from ._net.sources import source_of
from ._net.tls import HANDSHAKE_TIMEOUT, server_context
from ._session import EchoSession, Sessions
from .config import ServerConfig
from .errors import ConfigError
from .stats import Stats

__all__ = ["ConnectionHandler", "EchoServer"]

_log = logging.getLogger("fastecho")

_HANDSHAKES = 1.0  # seconds at most for pending handshakes when the listeners close: a round trip
_FAILED_HANDSHAKE = 0.05  # seconds after which a handshake of TLS that has failed is noticed
_RESET_SECONDS = 1.0  # for the loop to report the end of connections that were reset


class ConnectionHandler(Protocol):
    """The type of `EchoServer(on_connection=...)`: a callable that sees each accepted socket first."""

    def __call__(self, server: EchoServer, connection: socket.socket, client: Any, /) -> EchoSession | None:
        """Called on the server's loop, before anything is read.

        Args:
            server: which server has accepted the connection.
            connection: the non-blocking socket.
            client: the address of the client, as `socket.accept` returns it.

        Returns:
            The session that drives the connection, from `server.new_session()`; or None when the handler keeps the
            socket, and closes it in the end. If it raises, the connection is closed and the error is logged.
        """


class EchoServer:
    """An echo server inside your event loop: uvloop, for speed, or stock asyncio.

    Args:
        config: the options; made from `options` if it is not given.
        listeners: sockets from `fastecho._net.listeners.bind`, closed with the server; bound in `start` if not given.
        sockets: listening sockets, and bound sockets of UDP, to serve; closed with the server. It then does not bind,
            and logs its start at DEBUG: a worker's supervisor logs it.
        counters: where to count; private memory by default.
        tls_context: made from the same configuration beforehand; by default, `start` makes it.
        on_connection: sees each accepted socket first; see `ConnectionHandler`. By default each connection gets an echo
            session, and those that `config.fault` selects get a session with that fault.
        options: those of `ServerConfig`, as keywords. `workers`, `user`, `group`, `pid_file`, `stats`, `metrics`,
            `shutdown_delay`, `ready_fd`, `exit_fd` and `log_*` mean nothing here.

    Raises:
        ConfigError: an option is wrong.

    Examples:
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
        tls_context: ssl.SSLContext | None = None,
        on_connection: ConnectionHandler | None = None,
        **options: Any,
    ) -> None:
        if config is not None and options:
            raise TypeError(f"give either config or options, not both: {', '.join(options)}")
        self.config = config if config is not None else ServerConfig(**options)
        self._listeners = listeners
        self._sockets = list(sockets) if sockets is not None else None
        self._counters = counters
        self._tls_context = tls_context
        self._on_connection = on_connection
        if on_connection is not None and self.config.fault:
            raise ConfigError("fault", self.config.fault, "must be left out beside on_connection")
        self._level = logging.DEBUG if sockets is not None else logging.INFO  # of a worker: its supervisor logs it
        self._limit = 0
        self._warned_of_limit = False
        self._sessions: Sessions | None = None
        self._acceptor: Acceptor | None = None
        self._datagrams: DatagramEcho | None = None
        self._sweep_timer: SweepTimer | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closed: asyncio.Event = asyncio.Event()
        self._emptied: set[asyncio.Event] = set()
        self._addresses: tuple[str, ...] = ()
        self._names: list[Any] = []

    # -- start and stop ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind, unless sockets were given, and serve.

        Raises:
            AddressInUseError, AddressError, PermissionDeniedError: the address cannot be had.
            TLSError: the certificate cannot be loaded.
            RuntimeError: the server was started before.
        """
        if self._sessions is not None:
            raise RuntimeError("the server was started before")
        wanted = self.config.max_connections
        if self._sockets is None and wanted is not None and (shortage := describe_shortage(wanted)):
            _log.warning(shortage)
        context = self._tls_context if self._tls_context is not None else server_context(self.config)
        acceptor = self.prepare(asyncio.get_running_loop(), context)
        assert self._sockets is not None
        await acceptor.add(sock for sock in self._sockets if sock.type == socket.SOCK_STREAM)
        self.start_datagrams()
        _log.log(self._level, "serving on %s", ", ".join(self._addresses))
        if self._level == logging.INFO and (exposed := beyond_loopback(self._addresses)):
            _log.warning(EXPOSED, ", ".join(exposed))

    def prepare(self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext | None) -> Acceptor:
        """Do everything that `start` does except accepting, and answering datagrams: bind, unless sockets were given,
        and make the acceptor.

        Args:
            loop: the running loop.
            context: of TLS, or None.
        """
        self._limit = connection_limit(self.config.max_connections)
        if self._sockets is None:
            if self._listeners is None:
                self._listeners = bind(self.config)
            self._sockets = self._listeners.sockets[0]
        self._addresses = tuple(map(socket_address, self._sockets))
        self._names = [sock.getsockname() for sock in self._sockets]
        registry = BusyPollSessions if self.config.busy_poll else Sessions
        sessions = self._sessions = registry(
            self.config,
            loop,
            direct=runs_on_uvloop(loop),
            tls=context is not None,
            counters=self._counters,
            limit=self._limit,
        )
        sessions.over_unix = any(sock.family == socket.AF_UNIX for sock in self._sockets)
        sessions.on_capacity = self._on_capacity
        sessions.source_of = source_of if self.config.max_per_source is not None else None
        if udp := [sock for sock in self._sockets if sock.type == socket.SOCK_DGRAM]:
            self._datagrams = DatagramEcho(loop, udp, sessions.counters, self.config.udp_rate)
        handler = self._on_connection
        if handler is None and self.config.fault:
            from ._injection import ConfiguredFaults

            streams = [sock for sock in self._sockets if sock.type == socket.SOCK_STREAM]
            handler = ConfiguredFaults(sessions, context, streams)
        limited = handler is not None or self.config.max_connections is not None
        # The sweep ends a TLS shutdown after 2 s without progress. This time-out must be longer: it also runs while
        # bytes are still being flushed.
        acceptor = self._acceptor = Acceptor(
            loop,
            sessions.new_session,
            backlog=self.config.backlog,
            context=context,
            on_connection=functools.partial(handler, self) if handler is not None else None,
            at_capacity=(lambda: sessions.at_capacity) if limited else None,
            shutdown_timeout=self.config.write_timeout + self.config.linger_timeout,
            proxy_protocol=self.config.proxy_protocol,
        )
        self._sweep_timer = SweepTimer(loop, sessions)
        return acceptor

    def start_datagrams(self) -> None:
        """Answer datagrams from now on; after `prepare`."""
        if self._datagrams is not None:
            self._datagrams.start()

    def close_datagrams(self, answer: bool = False) -> None:
        """Close the sockets of UDP. `answer`: first answer what is queued."""
        if self._datagrams is not None:
            self._datagrams.close(answer)

    def new_session(self) -> EchoSession:
        """A session that echoes, for a connection of an `on_connection` handler. RuntimeError before the start."""
        return self.sessions.new_session()

    @property
    def sessions(self) -> Sessions:
        """The session registry: all sessions of this server. RuntimeError before the start."""
        if self._sessions is None:
            raise RuntimeError("the server has not been started")
        return self._sessions

    async def close(self, drain: bool = True) -> None:
        """Stop accepting, and end all sessions. A second call waits for the first.

        Args:
            drain: echo what was received, and give sessions up to `drain_timeout` to end. Default True. Without it,
                reset them.
        """
        if self._sessions is None:
            self._release()
            self._closed.set()
        else:
            if self._closing is None:
                self._closing = asyncio.ensure_future(self._close(drain))
            elif not drain:
                self._sessions.abort_all()
            await asyncio.shield(self._closing)

    async def _close(self, drain: bool) -> None:
        assert self._sessions is not None
        await self.stop_accepting(accept_backlog=drain)
        if drain:
            await self.drain()
        self._sessions.closed = True
        self._sessions.abort_all()
        await self._until_empty(_RESET_SECONDS)
        self.close_now()

    def close_now(self) -> None:
        """End a server that has stopped accepting, without waiting: sessions that are left are forgotten."""
        if self._sweep_timer is not None and self._sessions is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
            self._sessions.close()
        _log.log(self._level, "closed")
        self._closed.set()

    async def serve_forever(self) -> None:
        """Start, unless started, and wait until `close` was called. If cancelled, close the server first."""
        if self._sessions is None:
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

    # -- state ---------------------------------------------------------------------------------------

    @property
    def address(self) -> Any:
        """(host, port) of the first listener, or the path of the UNIX socket. What `socket.connect` takes."""
        if not self._names:
            raise RuntimeError("the server has not been started")
        if self._addresses[0].startswith("unix:"):
            path = self._addresses[0].removeprefix("unix:")
            return path.replace("@", "\0", 1) if path.startswith("@") else path
        return self._names[0][:2]

    @property
    def addresses(self) -> tuple[str, ...]:
        """All listeners, like `tcp://127.0.0.1:8007` or `unix:/run/echo.sock`; empty before `start`."""
        return self._addresses

    @property
    def is_accepting(self) -> bool:
        """Whether connections are accepted: started, not closing, and below `max_connections`."""
        return self._acceptor is not None and self._acceptor.is_accepting

    @property
    def stats(self) -> Stats:
        """A snapshot of the counters of this process."""
        return Stats(**self.sessions.stats())

    # -- the steps of a stop ---------------------------------------------------------------------------------

    async def stop_accepting(self, accept_backlog: bool) -> None:
        """Close the listeners and the UDP sockets of this process. A second call does nothing.

        Args:
            accept_backlog: let pending handshakes end (for 1 s at most), accept the clients in the backlog and answer
                the datagrams that are queued first. Closing at once resets those clients.
        """
        assert self._acceptor is not None
        assert self._sessions is not None
        assert self._sockets is not None
        if not self._sockets:
            return
        if self._listeners is not None:
            self._listeners.unlink()
        if accept_backlog:
            self._sessions.limit = connection_limit(None)  # clients in the backlog are connected: they get their echo
            if self._listeners is not None:
                self._listeners.drop_syns()
            await wait_for_handshakes(self._sockets, _HANDSHAKES)
            self._acceptor.pause("closing")
            await self._acceptor.accept_all_and_wait()
        self._acceptor.pause("closing")
        self.close_datagrams(answer=accept_backlog)
        self._sockets = []
        sockets = self._acceptor.release()
        self._release()
        for sock in sockets:
            sock.close()

    async def wait_until_empty(self) -> None:
        """After `stop_accepting`: wait until all sessions have ended by themselves, for at most `drain_timeout`."""
        assert self._acceptor is not None
        await self._acceptor.wait_for_sessions()
        await self._until_empty(self.config.drain_timeout)

    async def drain(self) -> None:
        """End each session that has received nothing for `drain_grace`; return when none is left, or after
        `drain_timeout`. For a server that was started; once it is closed, there is none."""
        assert self._sessions is not None
        if self._sweep_timer is None:
            return
        self._sessions.interval = min(self._sessions.interval, max(self.config.drain_grace / 4, 0.01))
        self._sweep_timer.tick()
        self._sessions.draining_since = self._sweep_timer.now
        await self._until_empty(self.config.drain_timeout)

    def revive(self) -> None:
        """After a lack of memory: accept again, if a listener has fallen silent; sweep again, if the timer was lost."""
        if self._acceptor is not None:
            self._acceptor.revive()
        if self._sweep_timer is not None:
            self._sweep_timer.tick()

    def close_copies(self) -> None:
        """In a forked child: close the child's copies of the listening sockets, which would keep the port open."""
        if self._acceptor is not None:
            self._acceptor.close_copies()
        if self._datagrams is not None:
            self._datagrams.close_copies()

    # -- underneath ------------------------------------------------------------------------------------------

    async def _until_empty(self, timeout: float) -> None:
        """Wait until there is neither a session nor a handshake under way, for at most `timeout` seconds."""
        assert self._sessions is not None
        loop = asyncio.get_running_loop()
        latest = loop.time() + timeout
        handshakes = min(latest, loop.time() + HANDSHAKE_TIMEOUT)
        empty = asyncio.Event()
        self._emptied.add(empty)
        self._sessions.on_empty = self._set_emptied
        try:
            while (now := loop.time()) < latest:
                pending = self._sessions.pending and now < handshakes
                if not (self._sessions.count or pending):
                    break
                # No event reports a handshake that has failed: check again.
                empty.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(empty.wait(), min(latest - now, _FAILED_HANDSHAKE if pending else timeout))
        finally:
            self._emptied.discard(empty)

    def _set_emptied(self) -> None:
        for empty in self._emptied:
            empty.set()

    def _release(self) -> None:
        if self._listeners is not None:
            self._listeners.unlink()
            self._listeners.close()

    def _on_capacity(self, reached: bool) -> None:
        assert self._acceptor is not None
        (self._acceptor.pause if reached else self._acceptor.resume)("capacity")
        if reached:
            self._warn_of_descriptors()

    def _warn_of_descriptors(self) -> None:
        """Log once that clients wait because descriptors are short: no other line would say why."""
        if not self._warned_of_limit and self._limit != self.config.max_connections:
            self._warned_of_limit = True
            _log.warning(
                "%d connections are open, the most that the limit of open files (%d) allows: further clients wait",
                self._limit, descriptor_limit(),
            )  # fmt: skip


class SweepTimer:
    """Sweeps the sessions every `sessions.interval` seconds, for their time-outs.

    Time during which the loop was held up counts for no session: it has not read meanwhile.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sessions: Sessions) -> None:
        self._loop, self._sessions = loop, sessions
        self.now = self._looked_at = loop.time()
        self._next = loop.call_later(sessions.interval, self.tick)

    def tick(self) -> None:
        """Sweep now, and every `interval` from now on."""
        self._next.cancel()
        now = self._loop.time()
        self.now += min(now - self._looked_at, self._sessions.interval)
        self._looked_at = now
        try:
            self._sessions.sweep(self.now)
        finally:
            self._next = self._loop.call_later(self._sessions.interval, self.tick)

    def cancel(self) -> None:
        self._next.cancel()
