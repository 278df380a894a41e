"""`EchoServer(on_connection=...)`: a handler sees each accepted socket first."""

import logging
import socket

import pytest

import fastecho
from clients import Client
from fastecho.errors import ConfigError
from patience import until


class EveryOther:
    """Keeps the sockets with an even number; the server's session drives the others."""

    def __init__(self):
        self.kept: list[socket.socket] = []
        self.clients = []

    def __call__(self, server, connection, client):
        self.clients.append(client)
        if len(self.clients) % 2:
            self.kept.append(connection)
            return None
        return server.new_session()


def test_a_handler_keeps_a_socket_or_leaves_it_to_a_session(run):
    async def body():
        handler = EveryOther()
        async with fastecho.EchoServer(port=0, on_connection=handler) as server:
            async with Client.to(server.address) as first, Client.to(server.address) as second:
                await second.send(b"hello")
                assert await second.receive(5) == b"hello"
                await until(lambda: len(handler.clients) == 2, "both accepted")
                assert handler.clients[0] == first.sock.getsockname()
                handler.kept[0].send(b"by the handler")
                assert await first.receive(14) == b"by the handler"
                assert server.stats.accepted == 1, "a kept socket is no session"
        handler.kept[0].close()

    run(body())


def test_a_handler_that_raises_costs_one_connection_and_is_logged(run, caplog):
    calls = []

    def handler(server, connection, client):
        calls.append(client)
        if len(calls) == 1:
            raise ZeroDivisionError("of the handler")
        return server.new_session()

    async def body():
        async with fastecho.EchoServer(port=0, on_connection=handler) as server:
            async with Client.to(server.address) as client:
                assert await client.rest() == b""
            async with Client.to(server.address) as client:
                await client.send(b"hello")
                assert await client.receive(5) == b"hello"

    with caplog.at_level(logging.ERROR, "fastecho"):
        run(body())
    assert [record.getMessage() for record in caplog.records] == [
        "on_connection: ZeroDivisionError: of the handler; the connection is closed"
    ]


def test_max_connections_counts_the_sessions_of_a_handler(run):
    async def body():
        def handler(server, connection, client):
            return server.new_session()

        async with fastecho.EchoServer(port=0, max_connections=1, on_connection=handler) as server:
            async with Client.to(server.address) as first:
                await first.send(b"a")
                assert await first.receive(1) == b"a"
                async with Client.to(server.address) as second:
                    await until(lambda: not server.is_accepting, "the limit")
                    first.sock.close()
                    await second.send(b"b")
                    assert await second.receive(1) == b"b"

    run(body())


def test_faults_beside_a_handler_are_refused():
    with pytest.raises(ConfigError, match=r"fault .*must be left out beside on_connection"):
        fastecho.EchoServer(port=0, fault="reset(after_sent=1)", on_connection=EveryOther())


def test_a_server_that_was_not_started_has_no_sessions():
    with pytest.raises(RuntimeError, match="has not been started"):
        fastecho.EchoServer(port=0).new_session()
