"""--busy-poll: the loop spins after a byte, and an idle server sleeps."""

import asyncio
import contextlib

import pytest

import fastecho
from clients import Client
from fastecho._busy_poll import BusyPollSessions
from fastecho._net.loops import runs_on_uvloop
from fastecho._poll_policy import PollPolicy
from patience import until


@pytest.mark.parametrize("busy_poll", [2000, "auto"])
def test_echo_while_spinning(run, busy_poll):
    async def body():
        async with fastecho.EchoServer(port=0, busy_poll=busy_poll) as server:
            async with Client.to(server.address) as client:
                for size in (1, 64, 5000):
                    await client.send(b"x" * size)
                    assert await client.receive(size) == b"x" * size
                await client.send(b"\0")
                assert await client.rest() == b"\0"

    run(body())


def test_echo_through_the_windows_in_which_auto_decides(run):
    async def body():
        async with fastecho.EchoServer(port=0, busy_poll="auto") as server:
            async with Client.to(server.address) as client:
                for number in range(1000):
                    await client.send(b"%04d" % number)
                    assert await client.receive(4) == b"%04d" % number

    run(body())


@contextlib.asynccontextmanager
async def spinning(busy_poll, loop=None, **options):
    """The sessions of a listener with `--busy-poll`, and its address."""
    loop = loop or asyncio.get_running_loop()
    config = fastecho.ServerConfig(port=0, busy_poll=busy_poll, terminator=None)
    sessions = BusyPollSessions(config, loop, direct=runs_on_uvloop(asyncio.get_running_loop()), **options)
    server = await loop.create_server(sessions.new_session, "127.0.0.1", 0)
    try:
        yield sessions, server.sockets[0].getsockname()
    finally:
        server.close()
        sessions.abort_all()
        await until(lambda: sessions.count == 0, "no session is left")
        sessions.close()


def test_a_byte_keeps_the_loop_awake(run):
    async def body():
        async with spinning(1_000_000) as (sessions, address):
            assert not sessions.polling, "nothing has happened yet"
            async with Client.to(address) as client:
                assert await client.ask(b"x") == b"x"
                assert sessions.polling

    run(body())


def test_an_idle_loop_sleeps(run):
    async def body():
        async with spinning(1000) as (sessions, address), Client.to(address) as client:
            for _ in range(2):  # it wakes again
                assert await client.ask(b"x") == b"x"
                await until(lambda: not sessions.polling, "the loop sleeps again")

    run(body())


def test_a_loop_may_sleep_after_its_sessions_are_closed(run):
    async def body():
        async with spinning(1_000_000) as (sessions, address):
            async with Client.to(address) as client:
                assert await client.ask(b"x") == b"x"
        await until(lambda: not sessions.polling, "the loop may sleep after a close")

    run(body())


def test_a_server_closes_while_it_spins(run):
    async def body():
        async with fastecho.EchoServer(port=0, busy_poll=1_000_000, terminator=None) as server:
            async with Client.to(server.address) as client:
                assert await client.ask(b"x") == b"x"
                await server.close(drain=False)
                with pytest.raises(ConnectionResetError):
                    await client.receive(1)

    run(body())


def test_auto_polls_while_it_pays_and_then_sleeps(run):
    """Whether it pays depends on the machine; either way each byte comes back, and the loop sleeps in the end."""

    async def body():
        async with spinning("auto") as (sessions, address):
            for _ in range(2):
                async with Client.to(address) as client:
                    for k in range(2000):
                        assert await client.ask(b"%04d" % k) == b"%04d" % k
                await until(lambda: not sessions.polling, "the loop sleeps")

    run(body())


def test_auto_does_not_poll_before_it_knows_that_it_pays(run):
    async def body():
        async with spinning("auto") as (sessions, address), Client.to(address) as client:
            for _ in range(100):
                assert await client.ask(b"x") == b"x"
                assert not sessions.polling

    run(body())


class CountingLoop:
    """A loop that counts what is scheduled on it with call_soon."""

    def __init__(self, loop):
        self.loop, self.scheduled = loop, 0

    def __getattr__(self, name):
        return getattr(self.loop, name)

    def call_soon(self, *args):
        self.scheduled += 1
        return self.loop.call_soon(*args)


def test_auto_polls_where_it_is_worth_trying(run):
    async def body():
        loop = CountingLoop(asyncio.get_running_loop())
        # As if the thread had slept before each read, and used all of its core.
        policy = PollPolicy(loop.time(), -1e6, -1_000_000, 1_000_000)
        async with spinning("auto", loop=loop, policy=policy) as (sessions, address), Client.to(address) as client:
            for _ in range(policy.reads_asleep - 1):
                assert await client.ask(b"x") == b"x"
            before = loop.scheduled
            assert await client.ask(b"x") == b"x"
            assert loop.scheduled > before
            await until(lambda: not sessions.polling, "the loop sleeps again")

    run(body())


def test_off_by_default():
    assert fastecho.ServerConfig().busy_poll is None
    with fastecho.serve(port=0) as server:
        assert server.stats.accepted == 0
