"""The session: drives a transport with buffers and the terminator. The only module that calls a transport."""

import asyncio
from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from ._sessions import SessionBase, SessionRegistry

@disjoint_base
class EchoSession(SessionBase, asyncio.BufferedProtocol):
    """One connection. Made by `Sessions.new_session`, driven by a transport of asyncio or uvloop."""

    data_received: None
    @property
    def get_buffer(self) -> Callable[[int], memoryview]:
        """What a loop calls before each read: the pool's method, the same for all sessions, or one of the two below."""
    def get_pinned_buffer(self, sizehint: int, /) -> memoryview:
        """The session's own buffer, or the ready buffer while its own holds a tail."""
    def get_tls_buffer(self, sizehint: int, /) -> memoryview:
        """The same, at the start of reads that end after a time; see `_net.tls`."""
    def buffer_updated(self, nbytes: int, /) -> None:
        """Echo what was read. Raises ValueError without a get_buffer before, or for more bytes than its buffer has."""
    def eof_received(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_made(self, transport: Any, /) -> None: ...
    def connection_lost(self, exception: Exception | None, /) -> None: ...
    def never_connected(self) -> None:
        """The TLS handshake failed: the session is no longer pending. (A session that is collected does this by
        itself.)"""
    client: str | None
    """The address of the client, where a proxy named it."""
    def refuse(self, reason: str, /) -> None:
        """Count and log a connection that is closed before it has its transport."""
    def end_yield(self) -> None:
        """Read again: other sessions had their turn."""

@disjoint_base
class Sessions(SessionRegistry):
    """The registry of `EchoSession`s."""

    def new_session(self) -> EchoSession:
        """The protocol factory for `create_server`. It cannot fail: a factory that raises leaves uvloop deaf."""
