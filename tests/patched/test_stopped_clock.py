"""Under freezegun, which stops `time.monotonic`, time passes for the server: delays, pauses and time-outs."""

from __future__ import annotations

import pytest

FREEZE = """
import asyncio, socket, sys, time
import freezegun
import fastecho
from fastecho.testing import Fault, async_echo_server, blackhole_address, echo_server

DEADLINE = 10

def ask(address, data):
    with socket.create_connection(address, timeout=DEADLINE) as sock:
        sock.sendall(data)
        got = b""
        while len(got) < len(data) and (part := sock.recv(4096)):
            got += part
        return got

def until_end(address):
    with socket.create_connection(address, timeout=DEADLINE) as sock:
        return sock.recv(1)

real_asyncio = len(sys.argv) > 1 and sys.argv[1] == "real_asyncio"
with freezegun.freeze_time("2020-01-01", real_asyncio=real_asyncio):
    assert time.monotonic() == time.monotonic(), "the clock is stopped"
"""


def frozen(body: str) -> str:
    return FREEZE + "".join(f"    {line}\n" for line in body.strip().splitlines())


FAULTS = ["latency(0.02)", "latency(0.02, jitter=0.01)", "slice(1)", "slice([3, 5], interval=0.01)",
          "bandwidth(500, burst=5)", "slow_accept(0.02)",
          "latency(0.01); slice(2); bandwidth(1000, burst=4)"]  # fmt: skip


@pytest.mark.parametrize("mode", ["", "real_asyncio"])
def test_faults_that_take_time_take_it_while_the_clock_is_stopped(alone, mode):
    body = f"""
for faults in {FAULTS!r}:
    with echo_server(faults=faults.split("; ")) as server:
        assert ask(server.address, bytes(20)) == bytes(20), faults
        server.assert_all_closed()
    with fastecho.serve(port=0, terminator=None, fault=faults) as server:
        assert ask(server.address, bytes(20)) == bytes(20), faults
"""
    alone(frozen(body), mode)


@pytest.mark.parametrize("mode", ["", "real_asyncio"])
def test_time_outs_come_while_the_clock_is_stopped(alone, mode):
    body = """
for options in ({}, {"fault": "latency(0.01)"}):
    with fastecho.serve(port=0, idle_timeout=0.05, **options) as server:
        assert until_end(server.address) == b""
    with echo_server(idle_timeout=0.05, **options) as server:
        assert until_end(server.address) == b""
        server.wait_closed()
        assert server.connections[0].close_reason == "idle"
with fastecho.serve(port=0, linger_timeout=0.05) as server:
    with socket.create_connection(server.address) as sock:
        sock.settimeout(DEADLINE)
        sock.sendall(bytes(1))
        assert sock.recv(1) == bytes(1)
        assert sock.recv(1) == b""
        while server.stats.linger_timeouts == 0:
            pass
"""
    alone(frozen(body), mode)


def test_waits_of_the_fixture_end_while_the_clock_is_stopped(alone):
    body = """
with echo_server(timeout=0.05, faults=["stall()"]) as server:
    with socket.create_connection(server.address):
        for late in (lambda: server.wait_connections(2), lambda: server.wait_received(1), server.wait_closed,
                     server.assert_all_closed, lambda: server.assert_connections(2)):
            try:
                late()
            except (TimeoutError, AssertionError):
                continue
            raise SystemExit(f"{late} did not end with an error")
"""
    alone(frozen(body))


def test_waits_of_the_async_fixture_end_while_the_clock_is_stopped(alone):
    body = """
async def test():
    async with async_echo_server(timeout=0.05, faults=["latency(0.02)"]) as server:
        try:
            await server.wait_connections(1)
        except TimeoutError:
            pass
        else:
            raise SystemExit("no error")
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await server.wait_closed()
asyncio.run(test())
"""
    alone(frozen(body))


def test_events_have_the_real_time_while_the_clock_is_stopped(alone):
    body = """
with echo_server(faults=["latency(0.02)"]) as server:
    assert ask(server.address, b"hello") == b"hello"
    server.wait_closed()
    (session,) = server.connections
    events = server.events()
    assert [event.what.split()[0] for event in events][:2] == ["opened", "received"], events
    assert events[-1].what.startswith("closed"), events
    assert events[-1].time - events[0].time >= 0.02, events
"""
    alone(frozen(body))


def test_a_server_in_the_loop_of_a_test_uses_the_clock_of_that_loop(alone, loop_name):
    """Where freezegun stops asyncio's own loop too, nothing that waits can go on: `real_asyncio` lets it."""
    factory = {"uvloop": "__import__('uvloop').new_event_loop()", "asyncio": "asyncio.new_event_loop()"}[loop_name]
    body = f"""
async def test():
    async with fastecho.EchoServer(port=0, idle_timeout=0.05, fault="latency(0.02).nth(1)") as server:
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*server.address)
            writer.write(b"hello")
            assert await asyncio.wait_for(reader.readexactly(5), DEADLINE) == b"hello"
            assert await asyncio.wait_for(reader.read(1), DEADLINE) == b""
            writer.close()
loop = {factory}
loop.run_until_complete(test())
loop.close()
"""
    alone(frozen(body), "real_asyncio")
