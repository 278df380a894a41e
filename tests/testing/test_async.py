"""async_echo_server(): the same for asyncio; what waits is awaited, and the loop goes on turning."""

import asyncio
import random

import pytest

from clients import Client
from fastecho.testing import AsyncServer, FaultNotFired, async_echo_server
from patience import DEADLINE


def test_a_conversation_is_recorded_for_asyncio_tests(run):
    async def body():
        async with async_echo_server() as server:
            assert isinstance(server, AsyncServer)
            async with Client.to(server.address) as client:
                assert await client.ask(b"hello\0") == b"hello\0"
            await server.assert_connections(1)
            await server.assert_all_closed()
            await server.assert_received(b"hello\0")
            await server.assert_sent_in(chunks=1)
            assert await server.wait_received(6) == b"hello\0"
            assert (server.connection_count, server.bytes_in, server.bytes_out) == (1, 6, 6)
            address = server.address
        with pytest.raises(ConnectionRefusedError):
            async with Client.to(address):
                pass

    run(body())


def test_waits_are_awaited_while_the_loop_turns(run):
    async def body():
        async with async_echo_server() as server:
            waiting = [
                asyncio.ensure_future(server.wait_connections(1)),
                asyncio.ensure_future(server.wait_received(b"hello")),
                asyncio.ensure_future(server.wait_received(lambda data: data == b"hello")),
            ]
            await asyncio.sleep(0)
            assert not any(wait.done() for wait in waiting)
            async with Client.to(server.address) as client:
                await client.send(b"hello")
                sessions, *received = await asyncio.gather(*waiting)
                assert [session.index for session in sessions] == [0]
                assert received == [b"hello", b"hello"]
                closing = asyncio.ensure_future(server.wait_closed())
                await asyncio.sleep(0)
                assert not closing.done()
            await closing
            await server.wait_idle()

    run(body())


def test_waits_in_vain(run):
    async def body():
        async with async_echo_server(timeout=0.05) as server:
            await server.assert_no_connections()
            with pytest.raises(TimeoutError, match=r"within 0.05 s"):
                await server.wait_connections(1)
            async with Client.to(server.address) as client:
                await client.ask(b"hello")
                with pytest.raises(TimeoutError, match="5 bytes came"):
                    await server.wait_received(6)
                with pytest.raises(AssertionError, match="1 connection still open"):
                    await server.assert_all_closed()
                with pytest.raises(AssertionError, match="offset 1"):
                    await server.assert_received(b"hallo")
                with pytest.raises(AssertionError, match="expected none"):
                    await server.assert_no_connections()
                with pytest.raises(TimeoutError):
                    await server.connections[0].wait_closed()

    run(body())


def test_a_wait_can_be_cancelled(run):
    async def body():
        async with async_echo_server(timeout=1000) as server:
            waiting = asyncio.ensure_future(server.wait_connections(1))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            with pytest.raises((TimeoutError, asyncio.TimeoutError)):
                await asyncio.wait_for(server.wait_received(b"x"), 0.02)
            async with Client.to(server.address) as client:
                assert await client.ask(b"hello") == b"hello"
            await server.assert_connections(1)

    run(body())


def test_a_session_is_steered(run):
    async def body():
        async with async_echo_server() as server, Client.to(server.address) as client:
            (session,) = await server.wait_connections(1)
            session.send(b"hello")
            assert await client.receive(5) == b"hello"
            session.pause()
            session.resume()
            await client.ask(b"abc")
            assert await session.wait_received(b"abc") == b"abc"
            await session.assert_received(b"abc")
            await session.assert_sent_in(chunks=2)
            session.shutdown_write()
            assert await client.rest() == b""
            session.reset()
            await session.wait_closed()
            assert session.close_reason == "test"

    run(body())


def test_faults_are_armed_in_an_async_block(run):
    async def body():
        async with async_echo_server() as server:
            with server.fault("close(after_sent=3)") as armed:
                async with Client.to(server.address) as client:
                    await client.send(b"hello")
                    assert await client.rest() == b"hel"
            assert armed.fired == 1
            with pytest.raises(FaultNotFired):
                with server.fault("reset(after_sent=3)"):
                    pass
            assert server.fault_log == ("connection 0: close(after_sent=3) at out 3",)

    run(body())


def test_a_capture_counts_the_connections_of_its_block(run):
    async def body():
        async with async_echo_server() as server:
            async with Client.to(server.address) as client:
                await client.ask(b"outside")
            with server.capture() as captured:
                async with Client.to(server.address) as client:
                    await client.ask(b"inside")
                await captured.assert_connections(1)
                await captured.assert_received(b"inside")
                await captured.assert_all_closed()

    run(body())


def test_down_and_up(run):
    async def body():
        async with async_echo_server() as server:
            server.down()
            with pytest.raises(ConnectionRefusedError):
                async with Client.to(server.address):
                    pass
            server.up()
            async with Client.to(server.address) as client:
                await client.ask(b"x")
            await server.reset()
            assert server.connections == ()

    run(body())


def test_stop_says_who_was_left(run):
    async def body():
        server = async_echo_server()
        assert await server.start() is server
        async with Client.to(server.address) as client:
            await client.ask(b"x")
            assert [session.index for session in await server.stop()] == [0]
            await server.stop()
            with pytest.raises(ConnectionResetError):
                await client.rest()

    run(body())


def test_an_exception_inside_the_block_comes_through(run):
    async def body():
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with async_echo_server(leak="error") as server:
                client = await Client.to(server.address).connect()
                raise ZeroDivisionError
        client.close()

    run(body())


def test_many_clients_at_once(run):
    data = [random.Random(n).randbytes(20_000) for n in range(50)]

    async def one(server, payload):
        async with Client.to(server.address) as client:
            assert await client.ask(payload) == payload

    async def body():
        async with async_echo_server(timeout=DEADLINE) as server:
            await asyncio.gather(*(one(server, payload) for payload in data))
            await server.assert_connections(50)
            await server.assert_all_closed()
            assert sorted(session.received for session in server.connections) == sorted(data)

    run(body())


def test_servers_on_loops_one_after_another():
    """The server's thread outlives the test's loop."""

    async def body():
        async with async_echo_server() as server, Client.to(server.address) as client:
            return await client.ask(b"hello")

    assert [asyncio.run(body()) for _ in range(20)] == [b"hello"] * 20
