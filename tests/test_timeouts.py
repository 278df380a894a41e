"""Idle, write and linger time-outs: by sweeps at chosen moments, and over sockets."""

import asyncio
import contextlib
import time

import pytest

import fastecho
from clients import Client, pinned_listener
from driven import Driven, Wire
from fastecho import ServerConfig
from fastecho._session import Sessions
from patience import UNIT, until


@contextlib.contextmanager
def group_of(loop, **options):
    config = ServerConfig(buffer_size=512, **{"buffers": 2, "terminator": None, **options})
    group = Sessions(config, loop)
    try:
        yield group, config
    finally:
        group.close()


def sweep(group, driven, start, seconds):
    """One sweep a second, as the server does it; the second after which the session was closed."""
    for second in range(1, seconds + 1):
        group.sweep(start + second)
        driven.turn(2)
        if driven.wire.closing or driven.wire.eof_asked:
            return second
    return None


def test_an_idle_session_is_closed_after_idle_timeout(loop, pinned):
    with group_of(loop, idle_timeout=5, pin_buffers=pinned) as (group, config):
        driven = Driven(group, config, loop)
        driven.read(b"x")
        ended = sweep(group, driven, time.monotonic(), 20)
        assert ended is not None
        assert 5 <= ended <= 7
        assert not driven.wire.aborted, "an idle session gets a FIN, not a reset"
        assert bytes(driven.wire.sent) == b"x"
        driven.eof()
        driven.finish()
        assert group.stats()["ends"]["idle"] == 1
        assert not driven.wire.violations


def test_idle_from_the_accept(loop, pinned):
    """Who never says a word is idle too."""
    with group_of(loop, idle_timeout=3, pin_buffers=pinned) as (group, config):
        driven = Driven(group, config, loop)
        ended = sweep(group, driven, time.monotonic(), 20)
        assert ended is not None
        assert 3 <= ended <= 5
        driven.eof()
        driven.finish()
        assert group.stats()["ends"]["idle"] == 1


def test_idle_is_off_by_default(loop, pinned):
    with group_of(loop, pin_buffers=pinned) as (group, config):
        driven = Driven(group, config, loop)
        driven.read(b"x")
        assert sweep(group, driven, time.monotonic(), 500) is None
        driven.lose(None)


def test_a_peer_that_takes_nothing(loop, pinned):
    with group_of(loop, write_timeout=4, pin_buffers=pinned) as (group, config):
        driven = Driven(group, config, loop, Wire([1]))
        driven.read(b"abc")
        assert driven.wire.reading_paused
        ended = sweep(group, driven, time.monotonic(), 20)
        assert ended is not None, "no time-out on a session whose reading is paused (hazard 12)"
        assert 4 <= ended <= 6
        assert driven.wire.aborted
        driven.lose_if_flushed()
        assert group.stats()["ends"]["write_timeout"] == 1
        assert group.stats()["buffers_in_use"] == 0
        assert not driven.wire.violations


def test_a_peer_that_takes_a_byte_now_and_then(loop, pinned):
    """Progress is a fall of what is queued, however small (hazard 9)."""
    with group_of(loop, write_timeout=4, pin_buffers=pinned) as (group, config):
        driven = Driven(group, config, loop, Wire([0]))
        driven.read(b"x" * 100)
        start = time.monotonic()
        for second in range(1, 90):
            if second % 3 == 0:
                driven.wire.flush(1)
            group.sweep(start + second)
            driven.turn()
            assert not driven.wire.closing, f"ended after {second} s though bytes were taken"
        driven.lose(None)


def test_no_write_time_out_while_nothing_is_due(loop, pinned):
    with group_of(loop, write_timeout=2, pin_buffers=pinned) as (group, config):
        driven = Driven(group, config, loop)
        driven.read(b"x")
        assert sweep(group, driven, time.monotonic(), 100) is None
        driven.lose(None)


def test_write_time_out_of_a_session_that_has_seen_eof(loop, pinned):
    """Hazard 10: the flush after the peer's FIN is bounded as well."""
    with group_of(loop, write_timeout=4, pin_buffers=pinned) as (group, config):
        driven = Driven(group, config, loop, Wire([0]))
        driven.read(b"abc")
        driven.eof()
        start = time.monotonic()
        for second in range(1, 10):
            group.sweep(start + second)
            driven.turn()
        assert driven.lost, "its unsent bytes hold it for ever"
        assert group.stats()["buffers_in_use"] == 0
        assert group.stats()["ends"]["write_timeout"] == 1



def test_idle_over_a_socket(run):
    async def body():
        async with fastecho.EchoServer(port=0, idle_timeout=1.2 * UNIT) as server:
            async with Client.to(server.address) as silent, Client.to(server.address) as talker:
                silence = asyncio.ensure_future(silent.rest())
                while not silence.done():
                    assert await talker.ask(b"still here") == b"still here"
                    await asyncio.sleep(0.1 * UNIT)
                assert silence.result() == b"", "FIN, not RST"
                silent.close()
                assert await talker.ask(b"x") == b"x", "a talker was taken for idle"
                await until(lambda: server.stats.ends["idle"] == 1, "the idle end is counted")
                talker.eof()
                assert await talker.rest() == b""

    run(body())


def test_idle_session_lingers_on_silent_peers(run):
    """The peer of an idle session never answers the FIN: linger_timeout ends it."""

    async def body():
        options = {"idle_timeout": 1 * UNIT, "linger_timeout": 0.5 * UNIT}
        async with fastecho.EchoServer(port=0, **options) as server:
            async with Client.to(server.address) as client:
                assert await client.rest() == b""
                await until(lambda: server.stats.active == 0, "the session of a silent peer is closed")

    run(body())


def test_write_time_out_over_a_socket(run):
    async def body():
        options = {"write_timeout": 1.2 * UNIT, "terminator": None}
        async with fastecho.EchoServer(sockets=[pinned_listener()], **options) as server:
            async with Client.to(server.address, rcvbuf=4096, sndbuf=4096) as client:
                assert await client.fill(most=1 << 24) < 1 << 24
                await until(lambda: server.stats.ends["write_timeout"] == 1, "the write time-out")
                await until(lambda: server.stats.active == 0, "the session is gone")
                with pytest.raises(ConnectionResetError):
                    await client.rest()

    run(body())


@pytest.mark.slow
def test_a_slow_reader_outlives_the_write_time_out(run):
    async def body():
        # The window opens again after four of these reads at most: a third of the time-out.
        limit, pace = 3 * UNIT, 0.25 * UNIT
        listener = pinned_listener(sndbuf=16384, rcvbuf=16384)
        async with fastecho.EchoServer(sockets=[listener], write_timeout=limit, terminator=None) as server:
            async with Client.to(server.address, rcvbuf=16384, sndbuf=16384) as client:
                sent = await client.fill(quiet=0.1)
                loop = asyncio.get_running_loop()
                start, got = loop.time(), 0
                while loop.time() - start < 1.5 * limit:
                    got += len(await client.receive(min(4096, sent - got)))
                    assert got < sent, "the test ran out of bytes"
                    await asyncio.sleep(pace)
                assert server.stats.active == 1
                client.eof()
                assert got + len(await client.rest()) == sent

    run(body(), limit=30 * UNIT)


def test_the_linger_clock_starts_when_the_echo_is_acknowledged(run):
    """Hazard 11: the client sleeps longer than linger_timeout with the echo still under way."""

    async def body():
        options = {"linger_timeout": 0.3 * UNIT, "write_timeout": 20 * UNIT, "match": "anywhere"}
        async with fastecho.EchoServer(sockets=[pinned_listener(1 << 20, 1 << 20)], **options) as server:
            async with Client.to(server.address, rcvbuf=8192) as client:
                data = b"x" * 300_000 + b"\0"
                await client.send(data)
                await until(lambda: server.stats.bytes_in == len(data), "the server has it all")
                await asyncio.sleep(2.5 * UNIT)
                await client.send(b"more")
                assert await client.rest() == data

    run(body())


def test_a_silent_peer_does_not_linger_for_ever(run, pinned):
    async def body():
        async with fastecho.EchoServer(port=0, linger_timeout=0.5 * UNIT, pin_buffers=pinned) as server:
            async with Client.to(server.address) as client:
                await client.send(b"x\0")
                assert await client.rest() == b"x\0"
                await until(lambda: server.stats.active == 0, "the linger ends by itself")
                assert server.stats.linger_timeouts == 1
                assert server.stats.ends["terminator"] == 1

    run(body())


def test_a_peer_that_goes_on_sending_does_not_linger_for_ever(run, pinned):
    """The linger clock is not pushed on by what is discarded."""

    async def body():
        async with fastecho.EchoServer(port=0, linger_timeout=0.5 * UNIT, pin_buffers=pinned) as server:
            async with Client.to(server.address) as client:
                await client.send(b"x\0")
                assert await client.receive(2) == b"x\0"
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    while server.stats.active:
                        await client.send(b"y")
                        await asyncio.sleep(0.05)
                await until(lambda: server.stats.active == 0, "the linger ends")
                assert server.stats.bytes_discarded > 0

    run(body())


def test_a_drain_does_not_end_a_session_between_its_flush_and_its_next_read(loop, pinned):
    """While a tail is queued nothing is read: what has come meanwhile waits in the kernel and is still to be echoed."""
    with group_of(loop, pin_buffers=pinned) as (group, config):
        start = time.monotonic()
        group.sweep(start)
        driven = Driven(group, config, loop, Wire([10, None]))
        driven.read(b"x" * 500)
        assert driven.wire.reading_paused
        group.draining_since = start
        group.sweep(start + 1)
        driven.wire.flush()
        group.sweep(start + 1.05)
        assert not driven.wire.eof_asked, "its FIN came before it could read"
        driven.read(b"later")
        driven.lose_if_flushed()
        assert bytes(driven.wire.sent).endswith(b"later")
        driven.eof()
        driven.finish()


def test_a_session_that_cannot_be_looked_at_does_not_stop_the_time_outs_of_others(loop):
    with group_of(loop, idle_timeout=5) as (group, config):
        start = time.monotonic()
        group.sweep(start)
        bad, good = Driven(group, config, loop, Wire()), Driven(group, config, loop, Wire())
        bad.read(b"x")
        bad.wire.get_write_buffer_size = bad.wire.can_write_eof = None  # not callable: the sweep of this one raises
        good.read(b"x")
        group.sweep(start + 1)
        group.sweep(start + 60)
        assert good.wire.eof_asked, "the sweep stopped at the first one"


def test_a_loop_that_was_held_up_ends_no_connection(run):
    """The loop has not read meanwhile, so the lost time does not count as silence."""

    async def body():
        async with fastecho.EchoServer(port=0, terminator=None, idle_timeout=0.4 * UNIT) as server:
            async with Client.to(server.address) as client:
                assert await client.ask(b"x") == b"x"
                time.sleep(1.2 * UNIT)  # noqa: ASYNC251 - what holds it up
                for _ in range(3):
                    assert await client.ask(b"still here") == b"still here"
                assert server.stats.ends["idle"] == 0

    run(body())
