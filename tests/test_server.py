"""EchoServer: addresses, life cycle, errors, statistics."""

import asyncio
import dataclasses
import logging
import socket
from pathlib import Path

import pytest

import fastecho
from clients import Client, connect_blocking, echo_once, read_exactly
from fastecho import ServerConfig
from fastecho.errors import AddressError, AddressInUseError, ConfigError
from fastecho.server import SweepTimer
from patience import UNIT, until


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def test_address_is_host_and_port(run):
    async def body():
        async with fastecho.EchoServer(port=0) as server:
            host, port = server.address
            assert host == "127.0.0.1"
            assert 1 <= port <= 65535
            assert server.addresses == (f"tcp://127.0.0.1:{port}",)
            assert await echo_once(server.address, b"x") == b"x"

    run(body())


@needs_ipv6
def test_a_server_listens_on_ipv6(run):
    async def body():
        async with fastecho.EchoServer(host="::1", port=0) as server:
            assert server.address[0] == "::1"
            assert server.addresses == (f"tcp://[::1]:{server.address[1]}",)
            assert await echo_once(tuple(server.address[:2]), b"x") == b"x"

    run(body())


@needs_ipv6
def test_both_families_on_one_port(run):
    """Hazard 20: port 0 gives each its own unless they are bound one after the other."""

    async def body():
        async with fastecho.EchoServer(host="127.0.0.1,::1", port=0) as server:
            port = server.address[1]
            assert server.addresses == (f"tcp://127.0.0.1:{port}", f"tcp://[::1]:{port}")
            assert await echo_once(("127.0.0.1", port), b"4") == b"4"
            assert await echo_once(("::1", port), b"6") == b"6"
            assert server.stats.accepted == 2

    run(body())


def test_a_server_takes_a_config_object(run):
    async def body():
        config = ServerConfig(port=0, terminator=b"END")
        async with fastecho.EchoServer(config) as server:
            async with Client.to(server.address) as client:
                await client.send(b"the END")
                assert await client.rest() == b"the END"

    run(body())


def test_a_port_in_use_is_one_clear_error(run):
    async def body():
        async with fastecho.EchoServer(port=0) as server:
            rival = fastecho.EchoServer(port=server.address[1])
            with pytest.raises(AddressInUseError) as caught:
                await rival.start()
            assert str(server.address[1]) in str(caught.value)
            assert "\n" not in str(caught.value)
            assert await echo_once(server.address, b"x") == b"x"

    run(body())


def test_an_address_of_another_machine(run):
    async def body():
        with pytest.raises(AddressError):
            await fastecho.EchoServer(host="192.0.2.1", port=0).start()

    run(body())


@pytest.mark.parametrize(
    "options",
    [{"port": 70000}, {"buffer_size": 7}, {"terminator": b""}, {"terminator": b"x" * 65}, {"match": "head"}],
    ids=repr,
)
def test_bad_options_name_themselves(options):
    with pytest.raises(ConfigError) as caught:
        fastecho.EchoServer(**options)
    assert next(iter(options)) in str(caught.value)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError):
        fastecho.EchoServer(prot=0)


def test_a_config_and_options_are_refused_together():
    with pytest.raises(TypeError, match=r"^give either config or options, not both: port, terminator$"):
        fastecho.EchoServer(ServerConfig(port=0), port=1, terminator=None)


def test_a_server_is_started_once(run):
    async def body():
        async with fastecho.EchoServer(port=0) as server:
            with pytest.raises(RuntimeError, match=r"^the server was started before$"):
                await server.start()
            assert await echo_once(server.address, b"x") == b"x"

    run(body())


@pytest.mark.parametrize("name", ["address", "sessions", "stats", "new_session"])
def test_a_server_that_was_not_started_says_so(run, name):
    async def body():
        server = fastecho.EchoServer(port=0)
        assert (server.addresses, server.is_accepting) == ((), False)
        with pytest.raises(RuntimeError, match=r"^the server has not been started$"):
            getattr(server, name)()

    run(body())


def test_a_server_accepts_after_a_lack_of_memory(run):
    """`revive` opens the listeners again, which a lack of memory may have silenced."""

    async def body():
        server = fastecho.EchoServer(port=0, drain_grace=0.1)
        server.revive()
        async with server, Client.to(server.address) as client:
            assert await client.ask(b"before") == b"before"
            for _ in range(2):
                server.revive()
                assert await echo_once(server.address, b"new") == b"new"
            assert await client.ask(b"after") == b"after"

    run(body())


def test_a_server_sweeps_after_a_lack_of_memory(run, monkeypatch):
    """A loop that has no memory for the timer, or to call it, loses it."""
    timers = []

    class Kept(SweepTimer):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            timers.append(self)

    monkeypatch.setattr("fastecho.server.SweepTimer", Kept)

    async def body():
        async with fastecho.EchoServer(port=0, idle_timeout=0.2) as server, Client.to(server.address) as client:
            timers[0].cancel()
            server.revive()
            assert await client.ask(b"before") == b"before"
            await until(lambda: server.stats.ends["idle"] == 1, "the idle time-out")

    run(body())


def test_close_twice_and_close_before_start(run):
    async def body():
        server = fastecho.EchoServer(port=0)
        await server.close()
        server = fastecho.EchoServer(port=0)
        await server.start()
        await server.close()
        await server.close()
        await server.close(drain=False)

    run(body())


def test_close_twice_at_once(run):
    async def body():
        server = fastecho.EchoServer(port=0, drain_grace=0.2)
        await server.start()
        async with Client.to(server.address) as client:
            assert await client.ask(b"x") == b"x"
            closing = [asyncio.ensure_future(server.close()) for _ in range(2)]
            assert await client.rest() == b""
            client.close()
            await asyncio.gather(*closing)

    run(body())


def test_an_exception_inside_the_block_comes_through(run):
    async def body():
        server = fastecho.EchoServer(port=0, drain_grace=0.1)
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with server:
                address = server.address
                raise ZeroDivisionError
        with pytest.raises(ConnectionRefusedError):
            connect_blocking(address)

    run(body())


def test_serve_forever_serves_until_it_is_cancelled(run):
    async def body():
        server = fastecho.EchoServer(port=0, drain_grace=0.1)
        await server.start()
        address = server.address
        serving = asyncio.ensure_future(server.serve_forever())
        assert await echo_once(address, b"x") == b"x"
        assert not serving.done()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        await server.close()
        with pytest.raises(ConnectionRefusedError):
            connect_blocking(address)

    run(body())


def test_serve_forever_starts_the_server(run):
    async def body():
        server = fastecho.EchoServer(port=0, drain_grace=0.1)
        serving = asyncio.ensure_future(server.serve_forever())
        await until(lambda: server.is_accepting, "the server is started")
        assert await echo_once(server.address, b"x") == b"x"
        await server.close()
        await serving
        with pytest.raises(ConnectionRefusedError):
            connect_blocking(server.address)

    run(body())


def test_cancelled_while_it_drains(run):
    """The caller's time-out around close() leaves nothing open behind it."""

    async def body():
        server = fastecho.EchoServer(port=0, drain_grace=1000, drain_timeout=2000)
        await server.start()
        async with Client.to(server.address) as client:
            assert await client.ask(b"x") == b"x"
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(server.close(), 0.3)
            await asyncio.wait_for(server.close(drain=False), 3 * UNIT)
            await until(lambda: server.stats.active == 0, "nothing is left")
            with pytest.raises((ConnectionResetError, EOFError)):
                await client.receive(1)

    run(body())


def test_two_servers_in_one_loop(run):
    async def body():
        async with fastecho.EchoServer(port=0) as one, fastecho.EchoServer(port=0, terminator=b"q") as two:
            assert one.address != two.address
            assert await echo_once(one.address, b"a") == b"a"
            assert await echo_once(two.address, b"b\0") == b"b\0"
            assert (one.stats.accepted, two.stats.accepted) == (1, 1)

    run(body())


def test_given_sockets_are_served(run):
    async def body():
        sock = socket.create_server(("127.0.0.1", 0))
        address = sock.getsockname()
        async with fastecho.EchoServer(sockets=[sock]) as server:
            assert server.address == address
            assert await echo_once(address, b"x") == b"x"
        with pytest.raises(ConnectionRefusedError):
            connect_blocking(address)
        sock.close()

    run(body())


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="needs TCP_INFO")
def test_the_backlog_is_the_configured_one(run):
    """Hazard 18: create_server(sock=...) listens again with 100 unless it is told."""

    def backlog(sock):
        return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[28:32], "little")

    most = int(Path("/proc/sys/net/core/somaxconn").read_text())

    async def body():
        sock = socket.create_server(("127.0.0.1", 0), backlog=1)
        watch = sock.dup()
        async with fastecho.EchoServer(sockets=[sock], backlog=1234):
            assert backlog(watch) == min(1234, most)
        watch.close()
        sock.close()

    run(body())


def test_stats_are_a_snapshot(run):
    async def body():
        async with fastecho.EchoServer(port=0) as server:
            empty = server.stats
            assert await echo_once(server.address, b"hello") == b"hello"
            await until(lambda: server.stats.active == 0, "the session is closed")
            stats = server.stats
            assert empty.accepted == 0
            assert (stats.accepted, stats.bytes_in, stats.bytes_out) == (1, 5, 5)
            assert stats.reads >= 1
            assert set(stats.ends) == {
                "eof", "terminator", "reset", "idle", "write_timeout",
                "drain", "drain_timeout", "error", "refused", "fault",
            }  # fmt: skip
            with pytest.raises(dataclasses.FrozenInstanceError):
                stats.accepted = 7
        assert server.stats.accepted == 1, "the counters outlive the server"

    run(body())


def test_active_goes_up_and_down(run):
    async def body():
        async with fastecho.EchoServer(port=0) as server:
            clients = [await Client.to(server.address).connect() for _ in range(7)]
            await until(lambda: server.stats.active == 7, "seven sessions")
            for client in clients[:3]:
                client.close()
            await until(lambda: server.stats.active == 4, "four sessions")
            for client in clients[3:]:
                client.close()
            await until(lambda: server.stats.active == 0, "no session")

    run(body())


def test_sessions_tell_their_life_at_debug(run, caplog):
    async def body():
        async with fastecho.EchoServer(port=0) as server:
            async with Client.to(server.address) as client:
                await client.send(b"hello\0")
                assert await client.rest() == b"hello\0"
            await until(lambda: server.stats.active == 0, "the session is closed")

    caplog.set_level(logging.DEBUG, "fastecho.session")
    run(body())
    told = [record for record in caplog.records if record.name == "fastecho.session"]
    assert told
    assert all(record.levelno == logging.DEBUG for record in told)
    assert "terminator" in " ".join(record.getMessage() for record in told)


def test_no_session_speaks_at_info(run, caplog):
    async def body():
        async with fastecho.EchoServer(port=0) as server:
            for _ in range(5):
                await echo_once(server.address, b"x")

    caplog.set_level(logging.INFO, "fastecho")
    run(body())
    assert not [record for record in caplog.records if record.name == "fastecho.session"]


def test_a_server_lives_beside_other_work_of_the_loop(run):
    """It owns no policy, no signal handler and no task that the caller did not start."""

    async def body():
        before = asyncio.all_tasks()
        async with fastecho.EchoServer(port=0) as server:
            sock = await asyncio.to_thread(connect_blocking, server.address)
            await asyncio.to_thread(sock.sendall, b"from a thread")
            assert await asyncio.to_thread(read_exactly, sock, 13) == b"from a thread"
            sock.close()
        await until(lambda: asyncio.all_tasks() <= before, "no task is left behind")

    run(body())
