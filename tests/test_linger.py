"""A client that sends past its terminator without reading gets all that is due to it and a FIN: hazard 11."""

import asyncio
import random

import pytest

import fastecho
from clients import Client
from patience import UNIT, until

MIB = 1 << 20


def body_of(seed):
    """1 MiB that ends in its only NUL."""
    return random.Random(seed).randbytes(MIB - 1).replace(b"\0", b"\1") + b"\0"


async def pipeline(address, data, wait, everything_read, more=b"more" * 5000):
    """Send all, wait, send more without having read, then read."""
    async with Client.to(address) as client:
        await client.send(data)
        if everything_read is not None:
            await everything_read.wait()
        await asyncio.sleep(wait)
        await client.send(more)
        got = await client.rest()
    return got == data


async def rounds(server, data, plan, tail):
    """Clients with the given waits at once. With `tail` the more is sent once the server has read the NUL as
    the end of a read, which only its counter tells."""
    read = asyncio.Event() if tail else None
    before = server.stats.bytes_in
    clients = [asyncio.ensure_future(pipeline(server.address, data, wait, read)) for wait in plan]
    if read is not None:
        await until(lambda: server.stats.bytes_in - before >= len(data) * len(plan), "all of it was read", 30)
        read.set()
    return sum(await asyncio.gather(*clients))


@pytest.mark.parametrize("match", ["anywhere", "tail"])
def test_more_at_once(run, pinned, match):
    """100 times with no wait, ten at a time."""

    async def body():
        data = body_of(0)
        async with fastecho.EchoServer(port=0, match=match, pin_buffers=pinned) as server:
            complete = 0
            for _ in range(10):
                complete += await rounds(server, data, [0] * 10, match == "tail")
            assert complete == 100
            await until(lambda: server.stats.active == 0, "all sessions are closed")
            assert server.stats.ends["terminator"] == 100
            assert server.stats.bytes_out == 100 * MIB

    run(body(), limit=50 * UNIT)


@pytest.mark.slow
def test_more_after_one_and_three_seconds(run):
    """50 times with 1 s and 50 times with 3 s, which is longer than the linger time-out; each way to match."""

    async def hundred(match):
        data = body_of(1)
        async with fastecho.EchoServer(port=0, match=match) as server:
            complete = 0
            for _ in range(2):
                complete += await rounds(server, data, [1] * 25 + [3] * 25, match == "tail")
            assert complete == 100, match
            await until(lambda: server.stats.active == 0, "all sessions are closed")
            assert server.stats.ends["terminator"] == 100

    async def body():
        await asyncio.gather(hundred("anywhere"), hundred("tail"))

    run(body(), limit=50 * UNIT)


def test_the_more_is_discarded_and_counted(run, pinned):
    async def body():
        async with fastecho.EchoServer(port=0, match="anywhere", pin_buffers=pinned) as server:
            async with Client.to(server.address) as client:
                await client.send(b"ab\0")
                assert await client.receive(3) == b"ab\0"
                await client.send(b"x" * 200_000 + b"\0")
                client.eof()
                assert await client.rest() == b""
            await until(lambda: server.stats.active == 0, "the session is closed")
            assert server.stats.bytes_discarded == 200_001
            assert server.stats.bytes_out == 3
            assert server.stats.ends["terminator"] == 1

    run(body())


def test_the_session_closes_as_soon_as_the_peer_does(run):
    async def body():
        async with fastecho.EchoServer(port=0, linger_timeout=1000) as server:
            async with Client.to(server.address) as client:
                await client.send(b"ab\0")
                assert await client.rest() == b"ab\0"
            await until(lambda: server.stats.active == 0, "the linger ends at the peer's FIN")
            assert server.stats.linger_timeouts == 0

    run(body())


def test_reset_while_lingering(run):
    """Counted once, as what ended it: the terminator."""

    async def body():
        async with fastecho.EchoServer(port=0, linger_timeout=1000) as server:
            async with Client.to(server.address) as client:
                await client.send(b"ab\0")
                assert await client.rest() == b"ab\0"
                client.reset()
            await until(lambda: server.stats.active == 0, "the session is gone")
            assert sum(server.stats.ends.values()) == 1
            assert server.stats.ends["terminator"] == 1

    run(body())
