"""close(): what the kernel has accepted is echoed, who is quiet gets a FIN, who will not end is reset."""

import asyncio
import random

import pytest

import fastecho
from clients import Client, connect_blocking, pinned_listener
from descriptors import open_descriptors
from patience import UNIT, until


def test_a_quiet_session_gets_its_fin(run, pinned):
    async def body():
        server = fastecho.EchoServer(port=0, drain_grace=0.1, pin_buffers=pinned)
        await server.start()
        async with Client.to(server.address) as client:
            assert await client.ask(b"x") == b"x"
            closing = asyncio.ensure_future(server.close())
            assert await client.rest() == b"", "FIN, not RST"
            client.close()
            await closing
        assert server.stats.active == 0
        assert server.stats.ends["drain"] == 1

    run(body())


def test_bytes_the_kernel_has_accepted_are_echoed(run, pinned):
    async def body():
        data = random.Random(5).randbytes(400_000)
        server = fastecho.EchoServer(port=0, terminator=None, drain_grace=0.1, pin_buffers=pinned)
        await server.start()
        async with Client.to(server.address) as client:
            assert await client.ask(b"x") == b"x"
            sent = 0
            while sent < len(data):
                # No turn of the loop: all of this is in the kernel, none of it read, when close() begins.
                try:
                    sent += client.sock.send(data[sent:])
                except BlockingIOError:
                    break
            closing = asyncio.ensure_future(server.close())
            assert await client.rest() == data[:sent]
            client.close()
            await closing

    run(body())


def test_clients_in_the_accept_queue_are_served(run):
    """Connected, not accepted yet, when close() begins: not one is reset."""

    async def body():
        server = fastecho.EchoServer(port=0, drain_grace=0.2)
        await server.start()
        socks = [connect_blocking(server.address) for _ in range(50)]
        clients = []
        for number, sock in enumerate(socks):
            sock.setblocking(False)
            sock.send(b"hello %d" % number)
            client = Client.__new__(Client)
            client.sock = sock
            clients.append(client)
        closing = asyncio.ensure_future(server.close())
        for number, client in enumerate(clients):
            assert await client.rest() == b"hello %d" % number
            client.close()
        await closing
        assert server.stats.accepted == 50
        assert server.stats.ends["drain"] == 50

    run(body())


def test_a_busy_session_is_served_while_it_talks(run):
    """FIN at once to a client that was silent a moment ago would lose its next request."""

    async def body():
        server = fastecho.EchoServer(port=0, drain_grace=1 * UNIT)
        await server.start()
        async with Client.to(server.address) as client:
            assert await client.ask(b"x") == b"x"
            closing = asyncio.ensure_future(server.close())
            for _ in range(20):
                await asyncio.sleep(0.1 * UNIT)
                assert await client.ask(b"still talking") == b"still talking"
            client.eof()
            assert await client.rest() == b""
            await closing

    run(body())


def test_what_is_left_after_the_drain_time_out_is_reset(run, pinned):
    async def body():
        options = {"terminator": None, "drain_timeout": 0.7 * UNIT, "pin_buffers": pinned}
        server = fastecho.EchoServer(sockets=[pinned_listener()], **options)
        await server.start()
        async with Client.to(server.address, rcvbuf=4096, sndbuf=4096) as stuck:
            await stuck.fill(quiet=0.1)
            await server.close()
            assert server.stats.active == 0
            assert server.stats.ends["drain_timeout"] == 1
            assert server.stats.buffers_in_use == 0
            with pytest.raises(ConnectionResetError):
                await stuck.rest()

    run(body())


def test_a_talker_without_end_is_reset_after_the_drain_time_out(run):
    async def chatter(client):
        while True:
            await client.ask(b"and another thing")
            await asyncio.sleep(0.01)

    async def body():
        server = fastecho.EchoServer(port=0, terminator=None, drain_timeout=0.7 * UNIT)
        await server.start()
        async with Client.to(server.address) as client:
            closing = asyncio.ensure_future(server.close())
            with pytest.raises((ConnectionResetError, BrokenPipeError, EOFError)):
                await chatter(client)
            await closing
            assert server.stats.ends["drain_timeout"] == 1

    run(body())


def test_close_without_drain_ends_everything_at_once(run, pinned):
    async def body():
        options = {"terminator": None, "drain_timeout": 1000, "pin_buffers": pinned}
        server = fastecho.EchoServer(sockets=[pinned_listener()], **options)
        await server.start()
        async with Client.to(server.address, rcvbuf=4096, sndbuf=4096) as stuck:
            async with Client.to(server.address) as silent:
                await stuck.fill(quiet=0.1)
                await asyncio.wait_for(server.close(drain=False), 2 * UNIT)
                assert server.stats.active == 0
                for client in (stuck, silent):
                    with pytest.raises((ConnectionResetError, EOFError)):
                        await client.receive(1 << 30)

    run(body())


def test_no_client_connects_after_close(run):
    async def body():
        server = fastecho.EchoServer(port=0)
        await server.start()
        address = server.address
        await server.close()
        with pytest.raises(ConnectionRefusedError):
            connect_blocking(address)

    run(body())


def test_drain_of_a_session_that_lingers(run):
    """It has had its FIN; it is not reset before its peer has read everything."""

    async def body():
        server = fastecho.EchoServer(sockets=[pinned_listener(1 << 20, 1 << 20)], match="anywhere")
        await server.start()
        async with Client.to(server.address, rcvbuf=8192) as client:
            data = b"x" * 300_000 + b"\0"
            await client.send(data + b"more")
            await until(lambda: server.stats.bytes_in == len(data) + 4, "all of it was read")
            closing = asyncio.ensure_future(server.close())
            await asyncio.sleep(0.3)
            assert await client.rest() == data
            client.close()
            await closing
            assert server.stats.ends["terminator"] == 1

    run(body())


def test_drain_without_connections_is_immediate(run):
    async def body():
        server = fastecho.EchoServer(port=0, drain_grace=1000, drain_timeout=2000)
        await server.start()
        await asyncio.wait_for(server.close(), 3 * UNIT)

    run(body())


def test_the_port_is_free_after_close(run):
    """TIME_WAIT of the server's own FINs does not hold it (hazard 40)."""

    async def body():
        server = fastecho.EchoServer(port=0)
        await server.start()
        host, port = server.address
        async with Client.to(server.address) as client:
            await client.send(b"x\0")
            assert await client.rest() == b"x\0"
        await server.close()
        async with fastecho.EchoServer(host=host, port=port) as again:
            async with Client.to(again.address) as client:
                assert await client.ask(b"y") == b"y"

    run(body())


def test_descriptors_after_every_kind_of_end(run):
    """Hazard 10: nothing stays open, however a session ended."""

    async def body():
        async with fastecho.EchoServer(port=0):
            pass
        before = open_descriptors()  # with those that the loop opens at its first use
        options = {"idle_timeout": 1 * UNIT, "linger_timeout": 0.3, "drain_grace": 0.1}
        async with fastecho.EchoServer(port=0, **options) as server:
            clients = [await Client.to(server.address).connect() for _ in range(60)]
            for number, client in enumerate(clients):
                if number % 6 == 0:
                    client.reset()
                elif number % 6 == 1:
                    client.eof()
                elif number % 6 == 2:
                    await client.send(b"x\0")
                elif number % 6 == 3:
                    client.close()
                elif number % 6 == 4:
                    await client.ask(b"x")
            await until(lambda: server.stats.active == 0, "every session has ended")
            assert sum(server.stats.ends.values()) == 60
            for client in clients:
                client.close()
        await until(lambda: not open_descriptors() - before, "every descriptor is closed")

    run(body())


def test_a_server_that_was_closed_has_nothing_left_to_drain(run):
    """The message to stop may come to a worker that has just closed."""

    async def body():
        server = fastecho.EchoServer(port=0)
        await server.start()
        await server.close(drain=False)
        await server.stop_accepting(accept_backlog=True)
        await server.drain()
        await server.close(drain=False)

    run(body())
