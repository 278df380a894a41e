"""The option `fault`: what the language says happens to connections of a real server, of one process or of several."""

from __future__ import annotations

import asyncio
import signal
import ssl

import pytest
import trustme

import fastecho
from clients import Client, connect_blocking, echo_once
from fastecho.faults import Fault
from patience import until
from processes import Service


async def read_all(client: Client) -> tuple[bytes, str]:
    """What came, and how it ended."""
    got = bytearray()
    while True:
        try:
            part = await client.some()
        except ConnectionResetError:
            return bytes(got), "reset"
        if not part:
            return bytes(got), "fin"
        got += part


def test_the_chosen_connections_misbehave_and_the_others_do_not(run):
    async def body():
        async with fastecho.EchoServer(port=0, terminator=None, fault="reset(after_sent=5).first(2)") as server:
            ends = []
            for _ in range(3):
                async with Client.to(server.address) as client:
                    await client.send(b"hello world")
                    client.eof()
                    ends.append(await read_all(client))
            assert ends == [(b"hello", "reset"), (b"hello", "reset"), (b"hello world", "fin")]
            await until(lambda: server.stats.active == 0, "all sessions have ended")
            assert server.stats.accepted == 3
            assert server.stats.ends["fault"] == 2
            assert server.stats.ends["eof"] == 1

    run(body())


def test_a_faulty_session_ends_by_the_terminator_like_a_plain_one(run):
    async def body():
        async with fastecho.EchoServer(port=0, fault=Fault.slice(2)) as server:
            assert await echo_once(server.address, b"bye\0") == b"bye\0"
            await until(lambda: server.stats.active == 0, "the session has ended")
            assert server.stats.ends["terminator"] == 1

    run(body())


def test_a_configured_fault_strikes_in_tls_too(run, tmp_path):
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")

    async def body():
        context = ssl.create_default_context()
        authority.configure_trust(context)
        options = {"tls_cert": str(tmp_path / "both.pem"), "tls_key": str(tmp_path / "both.pem")}
        async with fastecho.EchoServer(port=0, terminator=None, fault="reset(after_sent=5)", **options) as server:
            reader, writer = await asyncio.open_connection(*server.address, ssl=context, server_hostname="localhost")
            writer.write(b"hello world")
            assert await reader.readexactly(5) == b"hello"
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            await until(lambda: server.stats.ends["fault"] == 1, "the fault")

    run(body())


def test_places_are_counted_over_both_kinds_of_session(run):
    async def body():
        async with fastecho.EchoServer(port=0, terminator=None, max_connections=2, fault="stall().nth(1)") as server:
            stalled, plain, waiting = [Client.to(server.address) for _ in range(3)]
            async with stalled, plain, waiting:
                assert await plain.ask(b"x") == b"x"
                await waiting.send(b"y")
                await until(lambda: server.stats.active == 2, "both places are taken")
                stalled.reset()
                assert await waiting.receive(1) == b"y"

    run(body())


def test_a_drain_ends_faulty_sessions_too(run):
    async def body():
        server = fastecho.EchoServer(port=0, terminator=None, fault="latency(0.001)", drain_grace=0.02)
        await server.start()
        async with Client.to(server.address) as client:
            assert await client.ask(b"before") == b"before"
            await server.close()
            assert await read_all(client) == (b"", "fin")
        assert server.stats.ends["drain"] == 1

    run(body())


def test_a_where_that_raises_is_logged_and_the_connection_served(run, caplog):
    def raises(session):
        raise ZeroDivisionError(f"connection {session.index}")

    async def body():
        async with fastecho.EchoServer(port=0, fault=Fault.reset().where(raises)) as server:
            assert await echo_once(server.address, b"all the same") == b"all the same"

    run(body())
    assert "connection 0: ZeroDivisionError: connection 0" in caplog.text


def test_beside_synchronous_code():
    with fastecho.serve(port=0, fault="close(after_sent=3)") as server, connect_blocking(server.address) as sock:
        sock.sendall(b"abcdef")
        assert sock.makefile("rb").read() == b"abc"


@pytest.mark.parametrize("workers", [1, 3])
def test_the_command_counts_connections_over_all_workers(workers):
    faults = ["--fault", "reset(after_sent=1).first(4)", "--fault", "latency(0.001)", "--seed", "7"]
    with Service("--workers", str(workers), "--terminator", "none", *faults) as service:
        assert "faults: reset(after_sent=1).first(4); latency(0.001), seed 7" in service.errors
        resets = 0
        for _ in range(12):
            with connect_blocking(service.address) as sock:
                sock.sendall(b"hello")
                try:
                    resets += sock.recv(1, 0) == b"h" and sock.recv(4) != b"ello"
                except ConnectionResetError:
                    resets += 1
        assert resets == 4
        service.wait_for("fault reset(after_sent=1).first(4) at byte 1 out", 4)
        assert service.stop() == 0


def test_a_service_with_faults_stops_although_a_client_is_stalled():
    with Service("--fault", "stall()", "--drain-timeout", "200ms") as service:
        with connect_blocking(service.address) as sock:
            sock.sendall(b"x")
            service.wait_for("fault stall()")
            assert service.stop(signal.SIGTERM) == 0
