"""async_echo_server(): the same for asyncio; what waits is awaited, and the loop goes on turning."""

import asyncio
import contextlib
import random
import threading

import pytest

from clients import Client
from fastecho.errors import ConfigError
from fastecho.testing import AsyncServer, FaultNotFired, TeardownError, async_echo_server
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


def test_a_session_says_what_it_is(run):
    async def body():
        async with async_echo_server(faults=["slice(3)"]) as server:
            async with Client.to(server.address) as client:
                (session,) = await server.wait_connections(1)
                assert (session.closed, session.half_closed) == (None, False)
                assert await client.ask(b"hello") == b"hello"
                client.eof()
                assert await client.rest() == b""
            await session.wait_closed()
            assert session.half_closed
            assert session.opened <= session.chunks[0].time <= session.sent_chunks[0].time <= session.closed
            assert [(chunk.offset, chunk.size) for chunk in session.chunks] == [(0, 5)]
            assert [(chunk.offset, chunk.size) for chunk in session.sent_chunks] == [(0, 3), (3, 2)]
            assert session.faults_fired == ("slice(3)",)

    run(body())


def test_sessions_are_equal_that_are_of_one_connection(run):
    async def body():
        async with async_echo_server() as server:
            async with Client.to(server.address), Client.to(server.address):
                first, second = await server.wait_connections(2)
                assert server.connections == (first, second)
                assert first != second
                assert first != "connection 0"
                assert set(server.connections) == {first, second}

    run(body())


def test_a_session_is_closed_by_the_test(run):
    async def body():
        async with async_echo_server() as server, Client.to(server.address) as client:
            (session,) = await server.wait_connections(1)
            session.send(b"bye")
            session.close()
            assert await client.rest() == b"bye"
            client.close()
            await session.wait_closed()
            assert session.close_reason == "test"
            with pytest.raises(BrokenPipeError, match=r"^connection 0 is closed$"):
                session.send(b"more")
            session.close()

    run(body())


def test_a_server_says_what_it_is(run):
    async def body():
        server = async_echo_server(timeout=DEADLINE, idle_timeout=1000)
        assert (server.timeout, server.config.idle_timeout, server.config.port) == (DEADLINE, 1000, 0)
        assert repr(server) == "<AsyncServer not started>"
        async with server:
            assert server.config.idle_timeout == 1000
            assert (server.host, server.port) == server.address
            assert server.url == f"tcp://127.0.0.1:{server.port}"
            with pytest.raises(RuntimeError, match=r"^the server was started before$"):
                await server.start()
            assert await server.stop(timeout=DEADLINE) == ()
            with pytest.raises(RuntimeError, match=r"^the server was stopped$"):
                server.down()

    run(body())


def test_a_unix_socket_has_neither_port_nor_rst(run):
    async def body():
        async with async_echo_server(family="unix") as server, Client.to(server.address) as client:
            (session,) = await server.wait_connections(1)
            assert server.host == server.address
            with pytest.raises(AttributeError, match=r"^a UNIX socket has no port$"):
                server.port  # noqa: B018
            with pytest.raises(RuntimeError, match=r"^a UNIX socket has no RST: use close\(\), or TCP$"):
                session.reset()
            with pytest.raises(ConfigError, match="how reset: must be fin on a UNIX socket"):
                server.close_all("reset")
            assert await client.ask(b"x") == b"x"

    run(body())


def test_faults_are_armed_and_disarmed(run):
    async def body():
        async with async_echo_server() as server:
            armed = server.arm("close(after_sent=1)")
            with pytest.raises(FaultNotFired, match=r"close\(after_sent=1\): armed and never fired"):
                server.check_fired()
            optional = server.arm("latency(0)", must_fire=False)
            server.disarm(optional)
            async with Client.to(server.address) as client:
                await client.send(b"xy")
                assert await client.rest() == b"x"
            server.check_fired()
            server.disarm(armed)
            async with Client.to(server.address) as client:
                assert await client.ask(b"xy") == b"xy"
            assert (armed.fired, optional.fired) == (1, 0)

    run(body())


def test_a_fault_that_never_fired_is_told_at_the_end_of_an_async_block(run):
    async def body():
        async with async_echo_server() as server:
            with pytest.raises(FaultNotFired, match="did not get as far as after_sent=3"):  # noqa: PT012
                async with server.fault("close(after_sent=3)"):
                    async with Client.to(server.address) as client:
                        assert await client.ask(b"xy") == b"xy"
            async with server.fault("latency(0)") as armed:
                client = await Client.to(server.address).connect()
                await client.send(b"read at the end of the block")
            assert armed.fired == 1
            client.close()

    run(body())


def test_a_loop_that_is_held_up_is_named(run):
    entered, free = threading.Event(), threading.Event()

    def block(data):
        entered.set()
        free.wait(4 * DEADLINE)
        return data

    async def body():
        server = await async_echo_server(reply=block, timeout=0.05).start()
        async with Client.to(server.address) as client:
            await client.send(b"x")
            assert await asyncio.to_thread(entered.wait, DEADLINE)
            try:
                with pytest.raises(TimeoutError, match=r"^the loop's thread is held up: a reply, a where\(\)"):
                    await server.wait_received(2)
                with pytest.raises(TeardownError, match=r"^not stopped within 0.1 s: the loop's thread is held up: .*"):
                    await server.stop(timeout=0.1)
                with pytest.raises(ConnectionRefusedError):
                    async with Client.to(server.address):
                        pass
            finally:
                free.set()
            with contextlib.suppress(ConnectionResetError):
                await client.rest()
        async with async_echo_server() as another, Client.to(another.address) as client:
            assert await client.ask(b"x") == b"x"

    run(body())
