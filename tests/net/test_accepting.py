"""The acceptor at the end of a listener: it accepts the clients that wait, and does not go on for ever."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from fastecho._net.acceptor import Acceptor


class Endless:
    """A listening socket on which another client waits whenever one was accepted."""

    def __init__(self) -> None:
        self.accepted = 0
        self._clients: list[socket.socket] = []
        self._pair = socket.socketpair()

    def accept(self) -> tuple[socket.socket, tuple[()]]:
        self.accepted += 1
        assert self.accepted <= 1000, "it goes on for ever"
        server, client = socket.socketpair()
        self._clients.append(client)
        return server, ()

    def listen(self, backlog: int) -> None:
        """It listens already."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pair[0], name)

    def close(self) -> None:
        for sock in (*self._clients, *self._pair):
            sock.close()


def test_a_storm_of_clients_does_not_keep_a_listener_from_its_end(run: Any) -> None:
    """As many as the backlog holds may have connected before. Those after them have no end."""

    def refuse(connection: socket.socket, client: Any) -> None:
        connection.close()

    async def body() -> None:
        loop = asyncio.get_running_loop()
        endless = Endless()
        acceptor = Acceptor(
            loop, lambda: None, backlog=16, context=None, shutdown_timeout=1.0, on_connection=refuse
        )  # type: ignore[arg-type, return-value]
        await acceptor.add([endless])  # type: ignore[list-item]
        acceptor.pause("closing")
        endless.accepted = 0
        await acceptor.accept_all_and_wait()
        assert endless.accepted == 17
        acceptor.release()
        endless.close()

    run(body())
