"""`proxy_protocol`: the header that a proxy puts before the first byte is read, checked and taken off."""

import asyncio
import contextlib
import logging
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastecho
from clients import Client
from fastecho._net.proxy_protocol import ProxyHeaderError, parse_header, read_header
from fastecho.errors import ConfigError
from fastecho.testing import certificates, echo_server
from patience import until

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
# Written down from the document, not made by our own code.
LINE4 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
LINE6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n"
BINARY4 = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 198, 51, 100, 1]) + b"\x12\x67\x01\xbb"
BINARY6 = SIGNATURE + bytes.fromhex(f"21210024 20010db8{0:022x}07 20010db8{0:022x}01 126701bb")
WITH_EXTENSION = BINARY4[:15] + bytes([12 + 7]) + BINARY4[16:] + b"\x04\x00\x04abcd"
NAMING = {
    LINE4: "192.0.2.7:4711",
    LINE6: "[2001:db8::7]:4711",
    BINARY4: "192.0.2.7:4711",
    BINARY6: "[2001:db8::7]:4711",
    WITH_EXTENSION: "192.0.2.7:4711",
    SIGNATURE + b"\x21\x31\x00\xd8" + b"/run/a.sock".ljust(108, b"\0") + bytes(108): "unix:/run/a.sock",
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n": None,
    SIGNATURE + b"\x20\x00\x00\x00": None,
    SIGNATURE + b"\x20\x11\x00\x0c" + bytes(12): None,
    SIGNATURE + b"\x21\x00\x00\x05abcde": None,
}
MALFORMED = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 1\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.1 4711 443\r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 04711 443\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 443\r\n",
    b"PROXY TCP6 fe80::1%a fe80::2 4711 443\r\n",
    b"PROXY TCP5 192.0.2.7 198.51.100.1 4711 443\r\n",
    b"PROXY TCP4  192.0.2.7 198.51.100.1 4711 443\r\n",
    b"PROXY TCP4 \xff 198.51.100.1 4711 443\r\n",
    b"PROXY UNKNOWN " + b"x" * 100 + b"\r\n",
    b"proxy TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
    SIGNATURE[:-1] + b"X" + BINARY4[12:],
    SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
    SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
    SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
    SIGNATURE + b"\x21\x21\x00\x0c" + bytes(12),
]


@pytest.mark.parametrize("header", NAMING)
def test_a_header_names_its_client(header):
    assert parse_header(header) == NAMING[header]


@contextlib.asynccontextmanager
async def connected():
    """A blocking socket, and the non-blocking one that a header is read from."""
    proxy, server = socket.socketpair()
    with proxy, server:
        server.setblocking(False)
        yield proxy, server


@pytest.mark.parametrize("header", MALFORMED)
def test_a_malformed_header_is_refused_in_one_line(run, header):
    async def body():
        async with connected() as (proxy, server):
            proxy.sendall(header + b"more")
            with pytest.raises(ProxyHeaderError) as raised:
                await read_header(asyncio.get_running_loop(), server)
            assert len(str(raised.value).splitlines()) == 1

    run(body())


@pytest.mark.parametrize("header", NAMING)
def test_a_header_is_read_in_any_cuts_and_nothing_after_it(run, header):
    @given(cuts=st.lists(st.integers(0, len(header) + 5), max_size=4))
    def any_cuts(cuts):
        async def body():
            stream = header + b"after"
            async with connected() as (proxy, server):
                reading = asyncio.ensure_future(read_header(asyncio.get_running_loop(), server))
                for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(stream)], strict=True):
                    proxy.sendall(stream[start:end])
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                assert await reading == NAMING[header]
                assert server.recv(100) == b"after"

        run(body())

    any_cuts()


@pytest.mark.parametrize("header", [LINE4, BINARY4])
def test_a_connection_that_ends_within_the_header_is_refused(run, header):
    async def body():
        for length in range(len(header)):
            async with connected() as (proxy, server):
                proxy.sendall(header[:length])
                proxy.shutdown(socket.SHUT_WR)
                with pytest.raises(ProxyHeaderError, match="ended after"):
                    await read_header(asyncio.get_running_loop(), server)

    run(body())


@pytest.mark.parametrize("header", [LINE4, BINARY6])
@pytest.mark.parametrize("limit", [None, 10])
def test_the_server_takes_the_header_off_and_logs_the_client(run, caplog, pinned, header, limit):
    async def body():
        config = fastecho.ServerConfig(port=0, proxy_protocol=True, pin_buffers=pinned, max_connections=limit)
        async with fastecho.EchoServer(config) as server, Client.to(server.address) as client:
            await client.send(header + b"hello\0")
            assert await client.rest() == b"hello\0"
            client.close()
            await until(lambda: server.stats.active == 0, "the session has ended")
            assert (server.stats.bytes_in, server.stats.ends["terminator"]) == (6, 1)

    caplog.set_level(logging.DEBUG, "fastecho.session")
    run(body())
    assert f"starts, from {NAMING[header]}" in caplog.text


def test_a_header_that_names_nobody_leaves_the_address_of_the_connection(run, caplog):
    async def body():
        async with fastecho.EchoServer(port=0, proxy_protocol=True) as server, Client.to(server.address) as client:
            await client.send(b"PROXY UNKNOWN\r\nhello\0")
            assert await client.rest() == b"hello\0"

    caplog.set_level(logging.DEBUG, "fastecho.session")
    run(body())
    assert "starts, from ('127.0.0.1', " in caplog.text


def test_a_malformed_header_ends_its_connection_and_no_other(run, caplog):
    async def body():
        async with fastecho.EchoServer(port=0, proxy_protocol=True) as server:
            async with Client.to(server.address) as good, Client.to(server.address) as bad:
                await bad.send(b"hello")
                with contextlib.suppress(ConnectionResetError):
                    assert await bad.rest() == b""
                await good.send(LINE4 + b"hello\0")
                assert await good.rest() == b"hello\0"
            await until(lambda: server.stats.ends["refused"] == 1, "the refusal is counted")
            await until(lambda: server.stats.active == server.stats.pending == 0, "both have ended")
            assert server.stats.accepted == 2 == sum(server.stats.ends.values())

    caplog.set_level(logging.DEBUG, "fastecho.session")
    run(body())
    assert "refused: PROXY header: neither version 1 nor version 2 begins with b'hello'" in caplog.text


def test_a_proxy_that_sends_no_header_holds_one_of_the_limit_until_it_leaves(run):
    async def body():
        config = fastecho.ServerConfig(port=0, proxy_protocol=True, max_connections=1)
        async with fastecho.EchoServer(config) as server:
            async with Client.to(server.address) as silent:
                await until(lambda: server.stats.pending == 1, "it is counted")
                silent.close()
            async with Client.to(server.address) as next_one:
                await next_one.send(LINE4 + b"hello\0")
                assert await next_one.rest() == b"hello\0"

    run(body())


def test_the_header_comes_before_the_tls_handshake():
    certificate = certificates().of("valid")
    with echo_server(tls=certificate, proxy_protocol=True) as server, socket.create_connection(server.address) as raw:
        raw.sendall(BINARY4)
        with certificates().client_context().wrap_socket(raw, server_hostname="localhost") as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"


def test_the_fixture_takes_the_header_off():
    with echo_server(proxy_protocol=True) as server, socket.create_connection(server.address) as client:
        client.sendall(LINE4 + b"hello")
        assert client.recv(100) == b"hello"
        assert server.connections[0].received == b"hello"


def test_a_fault_does_not_go_with_it():
    with pytest.raises(ConfigError, match="must be left out with proxy_protocol"):
        fastecho.ServerConfig(proxy_protocol=True, fault="reset(after_sent=1)")
    with echo_server(proxy_protocol=True) as server, pytest.raises(ConfigError, match="must be left out"):
        server.arm("reset(after_sent=1)")
