"""A peer that does not read is not read from; nothing it sends is lost, reordered or piled up."""

import asyncio
import random

import pytest

import fastecho
from clients import Client, pinned_listener
from fastecho import ServerConfig
from patience import UNIT, until


@pytest.mark.parametrize("buffer_size", [512, 4096, 65536])
def test_slow_reader_over_small_kernel_buffers(run, pinned, buffer_size):
    """Hazard 5: tails are handed to the transport all the time; every byte is compared."""

    async def body():
        data = random.Random(3).randbytes(2_000_000)
        config = ServerConfig(terminator=None, buffer_size=buffer_size, buffers=2, pin_buffers=pinned)
        async with fastecho.EchoServer(config, sockets=[pinned_listener()]) as server:
            async with Client.to(server.address, rcvbuf=4096, sndbuf=4096) as client:
                sending = asyncio.ensure_future(client.send(data))
                await until(lambda: server.stats.pauses > 0, "reading pauses")
                got = bytearray()
                while len(got) < len(data):
                    got += await client.some(random.Random(len(got)).randint(1, 8192))
                await sending
                assert got == data
                client.eof()
                assert await client.rest() == b""
            await until(lambda: server.stats.active == 0, "the session is closed")
            assert server.stats.buffers_in_use == 0

    run(body(), limit=40 * UNIT)


def test_many_slow_readers_share_the_pool(run, pinned):
    """Tails of many sessions at once; the pool grows by slabs and shrinks again."""

    async def one(address, number):
        data = bytes([number]) * 150_000
        async with Client.to(address, rcvbuf=4096, sndbuf=4096) as client:
            sending = asyncio.ensure_future(client.send(data))
            await asyncio.sleep(0.2)
            assert await client.receive(len(data)) == data
            await sending

    async def body():
        options = {"terminator": None, "buffers": 4, "buffer_size": 8192, "pin_buffers": pinned}
        async with fastecho.EchoServer(sockets=[pinned_listener()], **options) as server:
            clients = asyncio.gather(*(one(server.address, number) for number in range(1, 41)))
            await until(lambda: server.stats.buffers_in_use > 20, "many tails are held")
            assert server.stats.buffers_total >= server.stats.buffers_in_use
            await clients
            await until(lambda: server.stats.active == 0, "all sessions are closed")
            assert server.stats.buffers_in_use == 0
            if not pinned:
                assert server.stats.buffers_total == 4, "empty slabs were kept"

    run(body(), limit=30 * UNIT)


def test_a_peer_that_never_reads_is_not_read_from(run, pinned):
    """Hazard 8: what it sends stays in the kernel; the session holds one buffer."""

    async def body():
        options = {"terminator": None, "buffer_size": 4096, "pin_buffers": pinned}
        async with fastecho.EchoServer(sockets=[pinned_listener()], **options) as server:
            async with Client.to(server.address, rcvbuf=4096, sndbuf=4096) as client:
                sent = await client.fill()
                stats = server.stats
                assert stats.bytes_in < sent <= 1_000_000
                assert stats.bytes_in - stats.bytes_out <= 4096
                assert stats.buffers_in_use == 1
                assert stats.pauses >= 1
                assert len(await client.receive(sent)) == sent, "no deadlock (hazard 6)"

    run(body(), limit=30 * UNIT)


def test_others_are_served_beside_a_hot_connection(run):
    """Hazard 28: one connection that always has more to read yields after its share."""

    async def body():
        async with fastecho.EchoServer(port=0, terminator=None, buffer_size=512) as server:
            async with Client.to(server.address) as hot, Client.to(server.address) as small:
                stop = asyncio.Event()

                async def send():
                    while not stop.is_set():
                        await hot.send(b"x" * 300_000)

                async def receive():
                    while await hot.some():
                        pass

                sending = asyncio.ensure_future(send())
                receiving = asyncio.ensure_future(receive())
                for _ in range(50):
                    assert await small.ask(b"ping") == b"ping"
                await until(lambda: server.stats.yields > 0, "the hot connection yields")
                stop.set()
                await sending
                hot.eof()
                await receiving

    run(body(), limit=30 * UNIT)


def test_reset_while_a_tail_is_queued(run, pinned):
    """Hazard 12: the session's reading is paused when the peer resets."""

    async def body():
        options = {"terminator": None, "write_timeout": 3 * UNIT, "pin_buffers": pinned}
        async with fastecho.EchoServer(sockets=[pinned_listener()], **options) as server:
            for _ in range(5):
                async with Client.to(server.address, rcvbuf=4096, sndbuf=4096) as client:
                    await client.fill(quiet=0.1)
                    client.reset()
            await until(lambda: server.stats.active == 0, "the sessions are gone")
            stats = server.stats
            assert stats.ends["reset"] + stats.ends["write_timeout"] == 5
            assert stats.ends["reset"] >= 1
            assert stats.buffers_in_use == 0

    run(body(), limit=30 * UNIT)


def test_half_close_while_a_tail_is_queued(run, pinned):
    async def body():
        options = {"terminator": None, "pin_buffers": pinned}
        async with fastecho.EchoServer(sockets=[pinned_listener()], **options) as server:
            async with Client.to(server.address, rcvbuf=4096, sndbuf=1 << 20) as client:
                data = random.Random(4).randbytes(200_000)
                await client.send(data)
                client.eof()
                await until(lambda: server.stats.pauses > 0, "reading pauses")
                assert await client.rest() == data
            await until(lambda: server.stats.ends["eof"] == 1, "the end by FIN is counted")

    run(body())


def test_terminator_while_a_tail_is_queued(run, pinned):
    async def body():
        options = {"match": "anywhere", "pin_buffers": pinned}
        async with fastecho.EchoServer(sockets=[pinned_listener()], **options) as server:
            async with Client.to(server.address, rcvbuf=4096, sndbuf=1 << 20) as client:
                data = b"x" * 200_000 + b"\0"
                await client.send(data + b"never echoed")
                await until(lambda: server.stats.pauses > 0, "reading pauses")
                assert await client.rest() == data
            await until(lambda: server.stats.ends["terminator"] == 1, "the terminator's end is counted")

    run(body())
