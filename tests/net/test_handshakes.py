"""Handshakes under way when a listener closes: their clients may take themselves for connected.

TCP_DEFER_ACCEPT keeps a handshake under way until the first byte of the client, as a long way keeps it until the ACK.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fastecho
from clients import connect_blocking
from fastecho._net.handshakes import handshakes_under_way, wait_for_handshakes
from patience import DEADLINE

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_DEFER_ACCEPT"), reason="needs TCP_DEFER_ACCEPT of Linux")

Run = Callable[[Any], Any]


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in request.param else socket.AF_INET) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
        sock.bind((request.param, 0))
        sock.listen()
        sock.setblocking(False)
        yield sock


def pending(listener: socket.socket) -> int:
    found = handshakes_under_way([listener.getsockname()[1]])
    assert found is not None
    return len(found)


def test_the_handshakes_of_a_port_are_listed(listener: socket.socket) -> None:
    assert pending(listener) == 0
    with connect_blocking(listener.getsockname()[:2]) as first:
        with connect_blocking(listener.getsockname()[:2]):
            assert pending(listener) == 2
            first.sendall(b"x")
            assert pending(listener) == 1
            with socket.socket(listener.family) as other:
                other.bind((listener.getsockname()[0], 0))
                other.listen()
                assert pending(other) == 0


def test_a_client_whose_handshake_is_under_way_at_a_close_is_served(run: Run, listener: socket.socket) -> None:
    async def body() -> None:
        server = fastecho.EchoServer(sockets=[listener], terminator=None)
        await server.start()
        with connect_blocking(server.address) as client:
            client.setblocking(False)
            assert pending(listener) == 1
            closing = asyncio.ensure_future(server.close())
            await asyncio.sleep(0.15)  # the rest of the round trip
            client.send(b"late")
            loop = asyncio.get_running_loop()
            assert await asyncio.wait_for(loop.sock_recv(client, 10), DEADLINE) == b"late"
        await closing

    run(body())


def test_a_handshake_that_does_not_end_does_not_hold_up_a_close(run: Run, listener: socket.socket) -> None:
    async def body() -> None:
        server = fastecho.EchoServer(sockets=[listener])
        await server.start()
        with connect_blocking(server.address):
            await asyncio.wait_for(server.close(), DEADLINE)

    run(body())


def test_only_those_that_have_begun_are_waited_for(run: Run, listener: socket.socket) -> None:
    async def body() -> None:
        with connect_blocking(listener.getsockname()[:2]) as before:
            waiting = asyncio.ensure_future(wait_for_handshakes([listener], 1000))
            await asyncio.sleep(0.1)
            with connect_blocking(listener.getsockname()[:2]):
                before.sendall(b"x")
                await asyncio.wait_for(waiting, DEADLINE)
                assert pending(listener) == 1

    run(body())


@pytest.mark.parametrize("way", ["no netlink", "no diagnostics"])
def test_where_they_are_not_listed_a_close_waits_for_a_moment(
    run: Run, listener: socket.socket, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    async def body() -> None:
        waiting = asyncio.ensure_future(wait_for_handshakes([listener], 1000))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await asyncio.wait_for(waiting, DEADLINE)

    with connect_blocking(listener.getsockname()[:2]):
        if way == "no netlink":
            monkeypatch.delattr(socket, "AF_NETLINK")
        else:
            monkeypatch.setattr("fastecho._net.handshakes._NETLINK_SOCK_DIAG", 200)
        assert handshakes_under_way([listener.getsockname()[1]]) is None
        run(body())


def test_an_error_of_the_kernel_is_no_answer(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastecho._net.handshakes._SOCK_DIAG_BY_FAMILY", 99)
    with connect_blocking(listener.getsockname()[:2]):
        assert handshakes_under_way([listener.getsockname()[1]]) is None
