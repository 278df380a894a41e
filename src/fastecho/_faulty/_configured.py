"""Faults of a configuration: armed when a server starts, for all the connections of all its processes."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from .._session import EchoSession, SessionGroup
from ._armory import Armed, Armory
from ._session import FaultySession
from ._window import Windows

__all__ = ["ConfiguredFaults"]

_log = logging.getLogger("fastecho.session")


class Connection:
    """What a `where` gets to see of a connection, and who logs what happens on it."""

    tls: str | None = None

    def __init__(self, index: int, peer: Any) -> None:
        self.index = index
        self.peer = peer

    def received(self, data: bytes) -> None:
        """The counters have it."""

    def sent(self, data: bytes) -> None:
        """The counters have it."""

    def peer_closed(self) -> None:
        """The end tells."""

    def secured(self, version: str) -> None:
        self.tls = version

    def fired(self, armed: Armed, offset: int, direction: str, count: int) -> None:
        _log.info("connection %d: fault %s at byte %d %s", self.index, armed.fault, offset, direction)

    def failed(self, error: BaseException) -> None:
        _log.error("connection %d: %s: %s", self.index, type(error).__name__, error)

    def closed(self, cause: str) -> None:
        _log.debug("connection %d ended: %s", self.index, cause)


class ConfiguredFaults:
    """Gives the connections that `config.fault` chooses to sessions that misbehave, the others to plain ones.

    Connections are numbered over all processes of the service, in the order in which they are accepted.
    """

    def __init__(
        self, group: SessionGroup, context: ssl.SSLContext | None, listeners: Sequence[socket.socket]
    ) -> None:
        self._group, self._context = group, context
        self._armory = Armory(group.config.seed)
        for fault in group.config.fault:
            self._armory.arm(fault, 0)
        Windows().fit(listeners, group.config.fault)

    def take(self, connection: socket.socket, peer: Any) -> EchoSession | None:
        """The session for `connection`, or None: it has one that misbehaves."""
        ticket = self._group.counters.shared.ticket()
        seen = Connection(ticket - 1, peer)
        try:
            chosen = self._armory.choose(ticket, seen)
        except Exception as error:  # of a `where` that somebody wrote
            seen.failed(error)
            chosen = []
        if not chosen:
            return self._group.new_session()
        FaultySession(connection, chosen, self._group, context=self._context, observer=seen).start()
        return None
