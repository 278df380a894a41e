"""The faults of `ServerConfig.fault`, armed when a server starts."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from .._session import EchoSession, Sessions
from ._armed import Armed, ArmedFaults
from ._session import FaultySession
from ._socket import Windows

__all__ = ["ConfiguredFaults"]

_log = logging.getLogger("fastecho.session")


class ConfiguredConnection:
    """The argument of a `where`, and the observer that logs what happens on the connection."""

    tls: str | None = None

    def __init__(self, index: int, peer: Any) -> None:
        self.index = index
        self.peer = peer

    def received(self, data: bytes) -> None:
        """Counted by the session."""

    def sent(self, data: bytes) -> None:
        """Counted by the session."""

    def client_closed(self) -> None:
        """Logged with the end."""

    def secured(self, version: str) -> None:
        self.tls = version

    def fired(self, armed: Armed, offset: int, direction: str, count: int) -> None:
        _log.info("connection %d: fault %s at byte %d %s", self.index, armed.fault, offset, direction)

    def failed(self, error: BaseException) -> None:
        _log.error("connection %d: %s: %s", self.index, type(error).__name__, error)

    def closed(self, cause: str) -> None:
        _log.debug("connection %d ended: %s", self.index, cause)


class ConfiguredFaults:
    """An `on_connection` handler: connections that `config.fault` selects get a `FaultySession`, the others a plain
    one.

    Connections are numbered over all workers of the service, in the order of accept.
    """

    def __init__(
        self, sessions: Sessions, context: ssl.SSLContext | None, listeners: Sequence[socket.socket]
    ) -> None:
        self._sessions, self._context = sessions, context
        self._armed = ArmedFaults(sessions.config.seed)
        for fault in sessions.config.fault:
            self._armed.arm(fault, 0)
        Windows().apply(listeners, sessions.config.fault)

    def __call__(self, server: Any, connection: socket.socket, peer: Any, /) -> EchoSession | None:
        ticket = self._sessions.counters.shared.next_connection_number()
        seen = ConfiguredConnection(ticket - 1, peer)
        try:
            chosen = self._armed.choose(ticket, seen)
        except Exception as error:  # raised by a `where`
            seen.failed(error)
            chosen = []
        if not chosen:
            return self._sessions.new_session()
        FaultySession(connection, chosen, self._sessions, context=self._context, observer=seen).start()
        return None
