"""max_connections and descriptors: the excess waits and is served, it is never refused."""

import asyncio
import contextlib
import json
import resource
import socket
import subprocess
import sys

import pytest
from benchmarks.procfs import descriptors

import fastecho
from clients import Client, connect_blocking
from patience import DEADLINE, UNIT, until, wait_until
from processes import Service


def test_the_excess_waits_and_is_served(run, pinned):
    async def body():
        async with fastecho.EchoServer(port=0, max_connections=2, pin_buffers=pinned) as server:
            first, second = [await Client.to(server.address).connect() for _ in range(2)]
            assert await first.ask(b"1") == b"1"
            assert await second.ask(b"2") == b"2"
            third = await Client.to(server.address).connect()
            await third.send(b"3")
            assert await second.ask(b"still") == b"still"
            assert server.stats.active == 2
            answer = asyncio.ensure_future(third.receive(1))
            done, _ = await asyncio.wait([answer], timeout=0.3 * UNIT)
            assert not done, "the third was served beside the two"
            first.close()
            assert await answer == b"3"
            assert server.stats.active == 2
            second.close()
            third.close()
            await until(lambda: server.stats.active == 0, "all sessions are closed")
            assert server.stats.ends["refused"] == 0

    run(body())


def test_one_connection_at_a_time(run):
    """The mark is met and left at every single connection."""

    async def one(address, number):
        async with Client.to(address) as client:
            await client.send(b"%d\0" % number)
            return await client.rest()

    async def body():
        async with fastecho.EchoServer(port=0, max_connections=1) as server:
            got = await asyncio.gather(*(one(server.address, number) for number in range(60)))
            assert got == [b"%d\0" % number for number in range(60)]
            assert server.stats.ends["refused"] == 0

    run(body())


def test_never_more_than_the_mark(run):
    """Hazard 25: stock asyncio accepts up to its backlog in one go past the mark."""

    async def one(address, seen, server):
        async with Client.to(address) as client:
            await client.send(b"x")
            assert await client.receive(1) == b"x"
            seen.append(server.stats.active)
            await client.send(b"\0")
            assert await client.rest() == b"\0"

    async def body():
        async with fastecho.EchoServer(port=0, max_connections=10) as server:
            seen = []
            # All are in the accept queue before the loop sees the first.
            early = [connect_blocking(server.address) for _ in range(200)]
            await until(lambda: server.stats.active == 10, "ten sessions")
            for sock in early:
                seen.append(server.stats.active)
                sock.close()
            await asyncio.gather(*(one(server.address, seen, server) for _ in range(100)))
            await until(lambda: server.stats.active == 0, "all sessions are closed")
            assert max(seen) <= 10
            assert server.stats.accepted == 300
            assert server.stats.ends["refused"] == 0

    run(body(), limit=30 * UNIT)


def test_waiting_clients_get_their_turn_on_every_address(run):
    """Accepting is paused and resumed on all listeners together."""

    async def body():
        try:
            server = await fastecho.EchoServer(host="127.0.0.1,::1", port=0, max_connections=1).__aenter__()
        except fastecho.FastechoError:
            pytest.skip("this machine has no IPv6")
        port = server.address[1]
        four = await Client.to(("127.0.0.1", port)).connect()
        assert await four.ask(b"4") == b"4"
        six = await Client.to(("::1", port)).connect()
        await six.send(b"6")
        four.close()
        assert await six.receive(1) == b"6"
        again = await Client.to(("127.0.0.1", port)).connect()
        await again.send(b"4")
        six.close()
        assert await again.receive(1) == b"4"
        again.close()
        await server.close()

    run(body())


def test_close_while_clients_wait(run):
    """Draining frees room; who waits in the backlog was accepted by the kernel and gets its echo, or at least
    an end: no client hangs."""

    async def body():
        server = fastecho.EchoServer(port=0, max_connections=1, drain_grace=0.1, drain_timeout=3 * UNIT)
        await server.start()
        async with Client.to(server.address) as first, Client.to(server.address) as second:
            assert await first.ask(b"1") == b"1"
            await second.send(b"2")
            closing = asyncio.ensure_future(server.close())
            assert await first.rest() == b""
            first.close()
            with contextlib.suppress(ConnectionResetError):
                await second.rest()
            second.close()
            await closing
            assert server.stats.active == 0

    run(body())


def test_out_of_descriptors_is_never_reached(child):
    """Hazard 3: at EMFILE the loop accepts and closes the whole queue. With 256 descriptors and 400 clients
    the server serves what it can, the others wait, and each is served when there is room."""
    server = child(nofile=256)
    socks = [connect_blocking(server.address) for _ in range(400)]
    try:
        for number, sock in enumerate(socks):
            sock.sendall(b"%03d" % number)
        wait_until(lambda: server.stats()["active"] > 100, "the first are served")
        served, waiting = [], set(range(400))
        while waiting:
            answered = wait_until(lambda: answers(socks, waiting), "the next clients are served")
            for number, got in answered.items():
                assert got == b"%03d" % number, f"client {number} got {got!r}"
                served.append(number)
                waiting.discard(number)
                socks[number].close()
        assert len(served) == 400
        assert server.stats()["ends"]["refused"] == 0
        assert descriptors(server.pid) < 256 - 16, "no reserve of descriptors is kept"
    finally:
        for sock in socks:
            sock.close()
    code, err = server.stop()
    assert code == 0
    assert all("the most that the limit of open files (256) allows" in line for line in err.splitlines()), err


def answers(socks, waiting):
    """What has arrived, by client; an EOF shows up as b''."""
    arrived = {}
    for number in waiting:
        socks[number].setblocking(False)
        try:
            arrived[number] = socks[number].recv(16)
        except BlockingIOError:
            continue
        except ConnectionResetError:
            arrived[number] = b"a reset"
    return arrived


def nofile(limit: int, hard: int | None = None):
    """A `preexec_fn` with this limit of open files, soft and (unless given) hard."""
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard or limit))


def test_the_command_raises_the_descriptor_limit_for_itself_and_its_workers():
    """`ulimit -n` of 1,024 is no limit of the service."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with Service("--workers", "2", preexec_fn=nofile(256, hard)) as service:
        for pid in (service.pid, *service.workers()):
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (hard, hard)
        assert "limit of open files" not in service.errors


FEW = "at most {} connections are served at once{}; further clients wait: the limit of open files is {}. "


@pytest.mark.parametrize(
    ("arguments", "limit", "line"),
    [
        ([], 64, FEW.format(32, "", "64")),
        (["--workers", "2"], 256, FEW.format(384, "", "256 in each of 2 workers")),
        (["--max-connections", "5000"], 1024, FEW.format(960, ", not 5000", "1024")),
        (["--max-connections", "200"], 256, FEW.format(192, ", not 200", "256")),
    ],
)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_one_warning_at_the_start_says_how_few_connections_the_descriptor_limit_allows(
    arguments, limit, line, log_format
):
    with Service(*arguments, "--log-format", log_format, preexec_fn=nofile(limit)) as service:
        warnings = [each for each in service.errors.splitlines() if line in each]
        assert len(warnings) == 1, service.errors
        assert service.errors.count("connections are served at once") == 1
        assert "ulimit -n" in warnings[0]
        if log_format == "json":
            assert json.loads(warnings[0])["level"] == "warning"
        else:
            assert warnings[0].split()[1] == "WARNING"


@pytest.mark.parametrize("arguments", [[], ["--max-connections", "100"]])
def test_a_descriptor_limit_that_allows_what_is_wanted_is_no_warning(arguments):
    limit = 256 if arguments else 1024
    with Service(*arguments, "--log-level", "warning", preexec_fn=nofile(limit)) as service:
        assert len(service.errors.splitlines()) == 1, "the ready line"


def test_a_worker_at_its_descriptor_limit_says_once_that_clients_wait():
    with Service("--terminator", "none", preexec_fn=nofile(64)) as service:
        for _ in range(2):
            clients = [connect_blocking(service.address) for _ in range(60)]
            try:
                for sock in clients[:20]:
                    sock.sendall(b"x")
                    assert sock.recv(1) == b"x"
                service.wait_for("connections are open, the most that the limit of open files (64) allows")
            finally:
                for sock in clients:
                    sock.close()
        assert service.stop() == 0
        assert service.errors.count("connections are open, the most that") == 1


@pytest.mark.parametrize("limit", [6, 8, 10, 12, 14])
def test_too_few_descriptors_to_start_are_an_error_without_a_traceback(limit):
    done = subprocess.run(
        [sys.executable, "-m", "fastecho", "--port", "0", "--workers", "2"], preexec_fn=nofile(limit), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=2 * DEADLINE, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("Too many open files")
    assert "Traceback" not in done.stderr


def test_a_library_says_when_max_connections_is_more_than_the_descriptor_limit_allows(child):
    server = child(nofile=256, max_connections=1000)
    code, err = server.stop()
    assert code == 0
    assert "at most 192 connections are served at once, not 1000;" in err


def test_a_connection_storm_of_half_open_clients(run):
    """Connect and leave, faster than the loop accepts: none of it stays."""

    async def body():
        async with fastecho.EchoServer(port=0, max_connections=50) as server:
            for _ in range(5):
                for sock in [connect_blocking(server.address) for _ in range(100)]:
                    sock.close()
                await asyncio.sleep(0)
            await until(lambda: server.stats.accepted == 500, "all were accepted")
            await until(lambda: server.stats.active == 0, "all are gone")
            with socket.create_connection(server.address) as sock:
                sock.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(sock, b"x")
                assert await loop.sock_recv(sock, 1) == b"x"

    run(body())


