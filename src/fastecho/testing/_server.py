"""`echo_server` and `aecho_server`: what tests start."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from types import TracebackType
from typing import Any

from ..config import ServerConfig
from ._base import Base
from ._leaks import held_up
from ._options import Options, settle
from ._reply import Reply
from ._scope import AsyncCapture, AsyncScope, Capture, Scope
from ._session import AsyncSession, Session

__all__ = ["AsyncServer", "Server", "aecho_server", "echo_server"]

class Server(Scope, Base[Session]):
    """A running server, for synchronous tests, and for those of trio."""

    def start(self) -> Server:
        """Bind and listen: whoever connects from now on is served. `with` does it."""
        self._start()
        return self

    def stop(self, timeout: float | None = None) -> tuple[Session, ...]:
        """Stop, in `timeout` (default `teardown_timeout`) seconds at most: the port is free, connections are closed.

        Returns the connections whose clients had not closed them, and which were reset. Does nothing the second time.

        Raises:
            TeardownError: the loop's thread is held up by a test's own function; or, with `leak="error"`, somebody is
                left.
        """
        return self._stop(timeout)

    def reset(self) -> None:
        """As it was after the start: connections reset and forgotten, no faults armed but those of `faults=`."""
        self._serving().finish_soon(self._peer.start_over())
        self._armed = tuple(self._peer.armory.armed)

    def capture(self) -> Capture:
        """`with server.capture() as captured:` waits and asserts for the connections made inside the block only."""
        return Capture(self._live())

    def __enter__(self) -> Server:
        return self if self._running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._excused = error is not None
        self.stop()
        if error is None:
            self.check_failures()


class AsyncServer(AsyncScope, Base[AsyncSession]):
    """A running server, for asyncio tests: what waits is awaited. (It runs in its thread all the same.)"""

    async def start(self) -> AsyncServer:
        """Bind and listen: whoever connects from now on is served. `async with` does it. RuntimeError where no loop of
        asyncio runs: other libraries take `echo_server`."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("aecho_server is for asyncio, and none runs here: use echo_server") from None
        return self.start_here()

    def start_here(self) -> AsyncServer:
        """The same, for who has no loop yet: nothing is waited for."""
        self._start()
        return self

    def stop_here(self, timeout: float | None = None) -> tuple[AsyncSession, ...]:
        """`stop`, for who has no loop any more."""
        return self._stop(timeout)

    async def stop(self, timeout: float | None = None) -> tuple[AsyncSession, ...]:
        """Like `Server.stop`, awaited."""
        if not self._may_stop():
            return self._left
        patience = self._patience(timeout)
        try:
            left = await self._peer.finishing_soon(self._shut(patience), patience - self.timeout)
        except TimeoutError:
            self._peer.listening.refuse()
            raise held_up(patience, tuple(self._peer.open)) from None
        return self._stopped(left)

    async def reset(self) -> None:
        """Like `Server.reset`, awaited."""
        await self._serving().finishing_soon(self._peer.start_over())
        self._armed = tuple(self._peer.armory.armed)

    def capture(self) -> AsyncCapture:
        """`with server.capture() as captured:` waits and asserts for the connections made inside the block only."""
        return AsyncCapture(self._live())

    async def __aenter__(self) -> AsyncServer:
        return self if self._running else await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._excused = error is not None
        await self.stop()
        if error is None:
            self.check_failures()


def echo_server(
    config: ServerConfig | None = None,
    *,
    family: str = "tcp",
    tls: Any = None,
    reply: Reply = "echo",
    faults: Any = (),
    timeout: float = 5.0,
    teardown_timeout: float = 1.0,
    record_limit: int = 1 << 20,
    leak: str = "ignore",
    **options: Any,
) -> Server:
    """A server for a test: `with echo_server() as server:`. It listens when the block begins.

    Args:
        config: the options of the server; made from `options` if it is not given.
        family: "tcp" (127.0.0.1), "tcp6" (::1), "dual" (both, on one port), or "unix" (in a folder of its own).
        tls: True, a kind of certificate ("valid", "expired", "wrong_host", "self_signed", "client": asks for one of the
            client too), or one of `certificates()`. Default None: plain.
        reply: "echo", "discard", bytes (sent first, then echo), or a function of the bytes that a read brought, which
            returns the answer; it is called on the server's thread, and must not wait.
        faults: those armed from the start: `Fault`s, or their text.
        timeout: seconds that any wait or assertion may take. Default 5.
        teardown_timeout: seconds that `stop` may take. Default 1.
        record_limit: bytes kept of each direction of each connection. Default 1 MiB; 0 keeps none.
        leak: what becomes of a connection that its client has not closed when the server stops: "ignore" (default),
            "warn" (LeakWarning) or "error" (TeardownError). It is reset in any case.
        options: those of `ServerConfig`; here `port` is 0 and `terminator` None (plain echo) unless given. Those of the
            command's process (workers, ready_fd, stats, log_*, busy_poll) must be left out; in `config` they are
            passed over.

    Raises:
        ConfigError: an option is wrong.
        AddressInUseError, AddressError, PermissionDeniedError, TLSError: it cannot listen.
    """
    settled = (family, tls, reply, faults, timeout, teardown_timeout, record_limit, leak)
    if config is None and not options and not faults and not callable(reply):
        with contextlib.suppress(TypeError):  # what will not do may not do as a key either
            return Server(_usual(*settled))
    return Server(settle(config, options, *settled))


def aecho_server(config: ServerConfig | None = None, **options: Any) -> AsyncServer:
    """The same for asyncio: `async with aecho_server() as server:`. Arguments and errors as of `echo_server`."""
    return AsyncServer(echo_server(config, **options)._options)


@functools.lru_cache(maxsize=64, typed=True)
def _usual(*settled: Any) -> Options:
    """Most tests ask for the same; to check it again takes a quarter of the time of a start."""
    return settle(None, {}, *settled)
