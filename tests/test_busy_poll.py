"""--busy-poll: the loop spins after a byte, and an idle server sleeps."""

import fastecho
from clients import Client
from patience import until


def test_echo_while_spinning(run):
    async def body():
        async with fastecho.EchoServer(port=0, busy_poll=2000) as server:
            async with Client.to(server.address) as client:
                for size in (1, 64, 5000):
                    await client.send(b"x" * size)
                    assert await client.receive(size) == b"x" * size
                await client.send(b"\0")
                assert await client.rest() == b"\0"

    run(body())


def test_a_byte_keeps_the_loop_awake(run):
    async def body():
        async with fastecho.EchoServer(port=0, busy_poll=1_000_000, terminator=None) as server:
            assert not server._group.spinning, "nothing has happened yet"
            async with Client.to(server.address) as client:
                await client.send(b"x")
                assert await client.receive(1) == b"x"
                assert server._group.spinning

    run(body())


def test_an_idle_server_sleeps(run):
    async def body():
        async with fastecho.EchoServer(port=0, busy_poll=1000, terminator=None) as server:
            async with Client.to(server.address) as client:
                for _ in range(2):  # it wakes again
                    await client.send(b"x")
                    assert await client.receive(1) == b"x"
                    await until(lambda: not server._group.spinning, "the loop sleeps again")

    run(body())


def test_a_server_that_closes_while_spinning(run):
    async def body():
        server = fastecho.EchoServer(port=0, busy_poll=1_000_000, terminator=None)
        await server.start()
        async with Client.to(server.address) as client:
            await client.send(b"x")
            assert await client.receive(1) == b"x"
            await server.close(drain=False)
        await until(lambda: not server._group.spinning, "the loop may sleep after a close")

    run(body())


def test_off_by_default():
    assert fastecho.ServerConfig().busy_poll is None
    with fastecho.serve(port=0) as server:
        assert server.stats.accepted == 0
