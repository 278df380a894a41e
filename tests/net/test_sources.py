"""`max_per_source`: connections of one client address beyond the limit are reset, and no others."""

import asyncio
import contextlib
import socket

import pytest

import fastecho
from clients import Client
from fastecho._net.sources import source_of
from fastecho.testing import echo_server
from patience import until


@pytest.mark.parametrize(
    ("address", "source"),
    [
        (("192.0.2.7", 4711), "192.0.2.7"),
        ("192.0.2.7:4711", "192.0.2.7"),
        (("2001:db8:0:1::7", 4711, 0, 0), "2001:db8:0:1::/64"),
        ("[2001:db8:0:1:ffff::8]:4711", "2001:db8:0:1::/64"),
        (("2001:db8:0:2::7", 4711, 0, 0), "2001:db8:0:2::/64"),
        (("::ffff:192.0.2.7", 4711, 0, 0), "192.0.2.7"),
        (("fe80::1%lo", 4711, 0, 1), "fe80::/64"),
        ("", None),
        (None, None),
        ("unix:/run/a.sock", None),
        ("/run/a.sock", None),
    ],
)
def test_an_address_belongs_to_a_source(address, source):
    assert source_of(address) == source


def of(number, server):
    """A client with the address 127.0.0.`number`."""
    return socket.create_connection(server.address, timeout=10, source_address=(f"127.0.0.{number}", 0))


def test_the_excess_of_one_source_is_reset_and_others_are_served(run, pinned):
    async def body():
        loop = asyncio.get_running_loop()
        async with fastecho.EchoServer(port=0, max_per_source=2, pin_buffers=pinned) as server:
            async with contextlib.AsyncExitStack() as stack:
                own = [await stack.enter_async_context(Client.to(server.address)) for _ in range(2)]
                for client in own:
                    assert await client.ask(b"hello") == b"hello"
                with pytest.raises(ConnectionResetError):   # the reset may come while it connects
                    async with Client.to(server.address) as third:
                        await third.rest()
                with of(2, server) as other:
                    other.setblocking(False)
                    await loop.sock_sendall(other, b"other")
                    assert await loop.sock_recv(other, 5) == b"other"
                assert await own[0].ask(b"still") == b"still"
                own[1].close()
                await until(lambda: server.stats.active == 1, "its place is free")
                fourth = await stack.enter_async_context(Client.to(server.address))
                assert await fourth.ask(b"hello") == b"hello"
                assert server.stats.ends["refused"] == 1

    run(body())


@pytest.mark.parametrize("cause", ["terminator", "reset", "eof"])
def test_each_end_of_a_connection_frees_its_place(run, cause):
    async def body():
        async with fastecho.EchoServer(port=0, max_per_source=1) as server:
            for count in range(1, 6):
                async with Client.to(server.address) as client:
                    assert await client.ask(b"hello") == b"hello"
                    if cause == "terminator":
                        await client.send(b"\0")
                        assert await client.rest() == b"\0"
                    elif cause == "reset":
                        client.reset()
                await until(lambda count=count: server.stats.ends[cause] == count, "its end is counted")
            assert server.stats.ends["refused"] == 0

    run(body())


def test_the_client_that_a_proxy_names_counts(run):
    async def body():
        async with fastecho.EchoServer(port=0, max_per_source=1, proxy_protocol=True) as server:
            async with contextlib.AsyncExitStack() as stack:
                for host in ("192.0.2.1", "192.0.2.2"):
                    client = await stack.enter_async_context(Client.to(server.address))
                    await client.send(f"PROXY TCP4 {host} 192.0.2.9 1 2\r\nhello".encode())
                    assert await client.receive(5) == b"hello"
                client = await stack.enter_async_context(Client.to(server.address))
                await client.send(b"PROXY TCP4 192.0.2.1 192.0.2.9 3 2\r\nhello")
                with pytest.raises(ConnectionResetError):
                    await client.rest()

    run(body())


def test_it_does_not_limit_a_unix_socket():
    with echo_server(family="unix", max_per_source=1) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(server.address)
                client.sendall(b"hello")
                assert client.recv(5) == b"hello"


def test_it_counts_connections_with_a_fault_too():
    with echo_server(max_per_source=1) as server, server.fault("latency(0)", must_fire=False):
        with of(3, server) as first, of(4, server) as other:
            first.sendall(b"hello")
            assert first.recv(5) == b"hello"
            with pytest.raises(ConnectionResetError), of(3, server) as second:
                second.recv(1)
            other.sendall(b"hello")
            assert other.recv(5) == b"hello"
