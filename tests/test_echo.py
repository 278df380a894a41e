"""Echo, terminators and half-close over sockets, on both loops."""

import asyncio
import logging
import random
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastecho
import reference
from clients import Client, echo_once
from cuts import streams, terminators
from patience import until


@pytest.fixture
def quiet(caplog):
    """Nothing above DEBUG from the sessions: a peer that goes away is no event."""
    caplog.set_level(logging.DEBUG, "fastecho")
    yield caplog
    loud = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not loud, [record.getMessage() for record in loud]


@pytest.mark.parametrize("size", [1, 2, 511, 512, 513, 65535, 65536, 65537, 131072, 1_000_003])
def test_messages_of_each_size_are_echoed(run, pinned, size):
    async def body():
        data = random.Random(size).randbytes(size)
        async with fastecho.EchoServer(port=0, terminator=None, pin_buffers=pinned) as server:
            assert await echo_once(server.address, data) == data
            await until(lambda: server.stats.active == 0, "the session is closed")
            assert server.stats.bytes_in == server.stats.bytes_out == size
            assert server.stats.ends["eof"] == 1

    run(body())


@pytest.mark.parametrize("buffer_size", [512, 4096, 65536, 1 << 20])
def test_buffers_of_each_size_echo_the_same(run, pinned, buffer_size):
    async def body():
        data = random.Random(1).randbytes(3_000_000)
        options = {"terminator": None, "buffer_size": buffer_size, "buffers": 2, "pin_buffers": pinned}
        async with fastecho.EchoServer(port=0, **options) as server:
            assert await echo_once(server.address, data) == data

    run(body())


def test_half_close_gets_its_echo_and_a_fin(run, pinned, quiet):
    """`printf x | nc` gets its `x`."""

    async def body():
        async with fastecho.EchoServer(port=0, pin_buffers=pinned) as server:
            async with Client.to(server.address) as client:
                await client.send(b"x")
                client.eof()
                assert await client.rest() == b"x"
            await until(lambda: server.stats.ends["eof"] == 1, "the end by FIN is counted")

    run(body())


def test_half_close_at_once(run, pinned):
    async def body():
        async with fastecho.EchoServer(port=0, pin_buffers=pinned) as server:
            async with Client.to(server.address) as client:
                client.eof()
                assert await client.rest() == b""
            await until(lambda: server.stats.active == 0, "the session is closed")

    run(body())


def test_half_close_with_megabytes_under_way(run, pinned):
    """Returning None from eof_received flushes, then closes: every byte of 3,000,000."""

    async def body():
        data = random.Random(2).randbytes(3_000_000)
        async with fastecho.EchoServer(port=0, terminator=None, pin_buffers=pinned) as server:
            async with Client.to(server.address) as client:
                sending = asyncio.ensure_future(client.send(data))
                first = await client.receive(1000)
                got = await client.receive(len(data) - 500_000)
                await sending
                client.eof()
                assert first + got + await client.rest() == data

    run(body())


def test_nul_at_the_end_of_a_read_ends_the_session(run, pinned):
    async def body():
        async with fastecho.EchoServer(port=0, pin_buffers=pinned) as server:
            async with Client.to(server.address) as client:
                assert await client.ask(b"hello") == b"hello"
                await client.send(b"bye\0")
                assert await client.rest() == b"bye\0"
            await until(lambda: server.stats.ends["terminator"] == 1, "the terminator's end is counted")

    run(body())


def test_nul_inside_a_read_does_not(run, pinned):
    async def body():
        async with fastecho.EchoServer(port=0, pin_buffers=pinned) as server:
            async with Client.to(server.address) as client:
                assert await client.ask(b"hello\0more") == b"hello\0more"
                assert await client.ask(b"still") == b"still"
                client.eof()
                assert await client.rest() == b""
            await until(lambda: server.stats.ends["eof"] == 1, "ended by FIN, not by the NUL")

    run(body())


def test_anywhere_echoes_nothing_after_the_terminator(run, pinned):
    async def body():
        async with fastecho.EchoServer(port=0, match="anywhere", pin_buffers=pinned) as server:
            async with Client.to(server.address) as client:
                await client.send(b"hello\0more")
                assert await client.rest() == b"hello\0"
                client.eof()
            await until(lambda: server.stats.active == 0, "the session is closed")
            assert server.stats.bytes_discarded == 4
            assert server.stats.ends["terminator"] == 1

    run(body())


@pytest.mark.parametrize("match", ["tail", "anywhere"])
def test_a_terminator_of_64_bytes_in_64_reads(run, match):
    async def body():
        value = bytes(range(64))
        async with fastecho.EchoServer(port=0, terminator=value, match=match) as server:
            async with Client.to(server.address) as client:
                for at in range(63):
                    assert await client.ask(value[at : at + 1]) == value[at : at + 1]
                await client.send(value[63:])
                assert await client.rest() == value[63:]

    run(body())


@pytest.mark.parametrize("match", ["anywhere", "tail"])
@pytest.mark.parametrize("terminator", [b"\0", b"\r\n", b"abab", None], ids=repr)
def test_any_pieces_over_a_socket(loop, pinned, match, terminator):
    """`tail` depends on the reads, which TCP hides (hazard 41): one piece, then its echo, then the next; so
    each piece is one read, or as many as it takes buffers of 512 bytes."""
    options = {"terminator": terminator, "match": match, "buffer_size": 512, "pin_buffers": pinned}
    server = fastecho.EchoServer(port=0, **options)
    loop.run_until_complete(server.start())

    async def exchange(pieces):
        model = reference.Session(terminator, match)
        async with Client.to(server.address) as client:
            for piece in pieces:
                due = len(model.echo)
                for at in range(0, len(piece), 512):
                    model.read(piece[at : at + 512])
                await client.send(piece)
                assert await client.receive(len(model.echo) - due) == model.echo[due:]
                if model.end:
                    break
            if not model.end:
                client.eof()
            assert await client.rest() == b""

    @settings(max_examples=40)
    @given(st.lists(streams(terminator, most=5).filter(len), max_size=6))
    def examples(pieces):
        loop.run_until_complete(asyncio.wait_for(exchange(pieces), 10))

    try:
        examples()
    finally:
        loop.run_until_complete(server.close())


def test_any_stream_of_any_terminator_anywhere(loop):
    """`anywhere` and no terminator do not depend on the reads: the stream goes out at once."""

    async def exchange(terminator, stream):
        server = fastecho.EchoServer(port=0, terminator=terminator, match="anywhere")
        await server.start()
        async with Client.to(server.address) as client:
            await client.send(stream)
            client.eof()
            assert await client.rest() == reference.echo_of(stream, terminator, "anywhere")
        await server.close(drain=False)

    @settings(max_examples=100)
    @given(data=st.data())
    def examples(data):
        terminator = data.draw(st.one_of(st.none(), terminators))
        stream = data.draw(streams(terminator))
        loop.run_until_complete(asyncio.wait_for(exchange(terminator, stream), 10))

    examples()


def test_many_connections_keep_their_bytes_apart(run, pinned):
    async def one(address, number):
        mark = bytes([1 + number // 200, 1 + number % 200, 255])
        async with Client.to(address) as client:
            for turn in range(8):
                data = mark * (1 + 997 * turn)
                sending = asyncio.ensure_future(client.send(data))
                assert await client.receive(len(data)) == data
                await sending
            if number % 3 == 0:
                client.reset()
            elif number % 3 == 1:
                await client.send(mark + b"\0")
                assert await client.rest() == mark + b"\0"
            else:
                client.eof()
                assert await client.rest() == b""

    async def body():
        options = {"buffers": 2, "buffer_size": 4096, "pin_buffers": pinned}
        async with fastecho.EchoServer(port=0, **options) as server:
            for start in range(0, 300, 100):
                await asyncio.gather(*(one(server.address, start + i) for i in range(100)))
            await until(lambda: server.stats.active == 0, "all sessions are closed")
            stats = server.stats
            assert stats.accepted == 300
            assert sum(stats.ends.values()) == 300
            assert stats.buffers_in_use == 0

    run(body(), limit=40)


def test_reset_by_the_peer_is_counted_and_quiet(run, pinned, quiet):
    async def body():
        async with fastecho.EchoServer(port=0, pin_buffers=pinned) as server:
            for number in range(20):
                async with Client.to(server.address) as client:
                    assert await client.ask(b"x") == b"x"
                    if number % 2:
                        await client.send(b"y" * 100_000)
                    client.reset()
            await until(lambda: server.stats.active == 0, "all sessions are gone")
            assert server.stats.ends["reset"] == 20
            assert await echo_once(server.address, b"alive") == b"alive"

    run(body())


def test_reset_before_the_accept(run, quiet):
    """Hazards 2 and 26: the client is gone, its address unknown, when the session is made; the listener lives on."""

    async def body():
        async with fastecho.EchoServer(port=0) as server:
            for _ in range(30):
                # Blocking connect: the loop has no chance to accept before the reset.
                sock = socket.create_connection(server.address)
                client = Client.__new__(Client)
                client.sock = sock
                client.reset()
            await until(lambda: server.stats.active == 0, "all sessions are gone")
            assert await echo_once(server.address, b"alive") == b"alive"

    run(body())


def test_one_byte_writes(run, pinned):
    async def body():
        data = bytes(range(1, 256)) * 4
        async with fastecho.EchoServer(port=0, pin_buffers=pinned) as server:
            async with Client.to(server.address) as client:
                client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(len(data)):
                    await client.send(data[at : at + 1])
                assert await client.receive(len(data)) == data

    run(body())


def test_echo_of_small_pieces_is_not_delayed(run):
    """TCP_NODELAY is on at the accepted sockets: no echo waits for the peer's delayed acknowledgement."""

    async def body():
        async with fastecho.EchoServer(port=0) as server:
            async with Client.to(server.address) as client:
                loop = asyncio.get_running_loop()
                start = loop.time()
                for _ in range(100):
                    await client.send(b"a")
                    await client.send(b"b")
                    assert await client.receive(2) == b"ab"
                # Nagle with delayed acknowledgements costs 40 ms for each of 100; no measure of speed.
                assert loop.time() - start < 3.5

    run(body())
