"""TLS on the fixture, with the `ssl` module of the client's side."""

import asyncio
import os
import socket
import ssl

import pytest

from clients import connect_blocking, read_exactly, read_to_eof, reset_socket
from fastecho.testing import async_echo_server, certificates, echo_server
from patience import DEADLINE
from records import RecordClient


def secure(server, context=None, name="localhost", timeout=10.0):
    """A TLS client that takes an end without close_notify for what it is."""
    raw = connect_blocking(server.address, timeout)
    try:
        return (context or certificates().client_context()).wrap_socket(
            raw, server_hostname=name, suppress_ragged_eofs=False
        )
    except BaseException:
        raw.close()
        raise


def echo(sock, data=b"hello"):
    sock.sendall(data)
    assert read_exactly(sock, len(data)) == data


@pytest.mark.parametrize("tls", [True, "valid", "certificate"])
@pytest.mark.parametrize("family", ["tcp", "tcp6", "dual", "unix"])
def test_a_valid_certificate(family, tls):
    with echo_server(family=family, tls=certificates().valid if tls == "certificate" else tls) as server:
        with secure(server) as sock:
            echo(sock)
            echo(sock, b"bye\0")
            (session,) = server.connections
            assert session.tls == sock.version() == "TLSv1.3"
            assert session.received == session.sent == b"hellobye\0"
            assert [(chunk.offset, chunk.size) for chunk in session.chunks] == [(0, 5), (5, 4)]
        server.assert_all_closed()
        server.assert_connections(1)


@pytest.mark.parametrize(("family", "host"), [("tcp", "127.0.0.1"), ("tcp6", "::1")])
def test_the_certificate_is_that_of_the_address(family, host):
    with echo_server(family=family, tls=True) as server, secure(server, name=host) as sock:
        echo(sock)


def test_the_url_begins_with_tls():
    with echo_server(tls=True) as server:
        assert server.url == f"tls://127.0.0.1:{server.port}"


def test_an_older_version():
    context = ssl.create_default_context(cafile=certificates().ca_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with echo_server(tls=True) as server, secure(server, context) as sock:
        echo(sock)
        assert server.connections[0].tls == "TLSv1.2"


def test_the_oldest_version_of_a_server():
    context = ssl.create_default_context(cafile=certificates().ca_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with echo_server(tls=True, tls_min_version="1.3") as server:
        with pytest.raises(ssl.SSLError, match=r"(?i)alert protocol version"):
            secure(server, context)
        with secure(server) as sock:
            echo(sock)
            assert server.connections[-1].tls == "TLSv1.3"


@pytest.mark.parametrize("tickets", [0, 1])
def test_a_client_resumes_if_the_server_gives_tickets(tickets):
    context, session = certificates().client_context(), None
    with echo_server(tls=True, tls_tickets=tickets) as server:
        for resumed in (False, tickets > 0):
            raw = connect_blocking(server.address)
            with context.wrap_socket(raw, server_hostname="localhost", session=session) as sock:
                echo(sock)
                assert sock.session_reused == resumed
                session = sock.session


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [("expired", 10, "expired"), ("wrong_host", 62, "mismatch"), ("self_signed", 18, "self.signed")],
)
def test_a_certificate_that_will_not_do(kind, code, reason):
    """Each for its own reason: OpenSSL's number and words."""
    with echo_server(tls=kind) as server:
        with pytest.raises(ssl.SSLCertVerificationError, match=f"(?i){reason}") as caught:
            secure(server)
        assert caught.value.verify_code == code
        server.assert_all_closed()
        server.assert_received(b"")
        server.assert_connections(1)
        assert server.connections[0].close_reason is not None


@pytest.mark.parametrize("kind", ["expired", "wrong_host", "self_signed"])
def test_a_client_that_does_not_look_is_served(kind):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with echo_server(tls=kind) as server, secure(server, context) as sock:
        echo(sock)


def test_a_certificate_of_the_client_is_asked_for():
    with echo_server(tls="client") as server:
        with secure(server, certificates().client_context(with_certificate=True)) as sock:
            echo(sock)
        server.assert_received(b"hello")
        # TLS 1.3: the client learns of it with its first read.
        with pytest.raises((ssl.SSLError, ConnectionResetError)), secure(server) as sock:  # noqa: PT012
            sock.sendall(b"let me in")
            sock.recv(1)
        server.assert_received(b"hello")
        server.assert_all_closed()


def test_certificates_of_ones_own():
    valid = certificates().valid
    with echo_server(tls_cert=valid.cert_path, tls_key=valid.key_path) as server, secure(server) as sock:
        echo(sock)
        assert server.url.startswith("tls://")


def test_a_client_that_speaks_no_tls():
    with echo_server(tls=True) as server:
        with connect_blocking(server.address) as sock:
            try:
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                got = read_to_eof(sock)
            except ConnectionResetError:
                got = b""
            assert b"GET" not in got
        server.assert_all_closed()
        server.assert_received(b"")
        with secure(server) as sock:
            echo(sock)


def test_a_client_that_is_reset_in_the_handshake():
    with echo_server(tls=True) as server:
        for _ in range(20):
            reset_socket(connect_blocking(server.address))
        with secure(server) as sock:
            echo(sock)
        server.assert_all_closed()


def test_large_data_both_ways(run):
    data = os.urandom(3 << 20)

    async def body():
        async with async_echo_server(tls=True, record_limit=1000) as server:
            reader, writer = await asyncio.open_connection(
                *server.address, ssl=certificates().client_context(), server_hostname="localhost"
            )
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
            (session,) = server.connections
            assert (session.bytes_in, session.bytes_out) == (len(data), len(data))
            assert session.received == session.sent == data[:1000]
            assert session.truncated
            writer.close()
            await writer.wait_closed()

    run(body())


def test_a_close_is_a_close_notify():
    with echo_server(tls=True) as server, secure(server) as sock:
        echo(sock)
        server.connections[0].close()
        assert sock.recv(1) == b""


def test_close_sends_what_is_due_first():
    data = os.urandom(1 << 20)
    with echo_server(tls=True) as server, secure(server) as sock:
        echo(sock)
        server.connections[0].send(data)
        server.connections[0].close()
        assert read_to_eof(sock) == data


def test_a_test_controls_a_tls_connection():
    with echo_server(tls=True) as server, secure(server) as sock:
        echo(sock)
        (session,) = server.connections
        session.send(b"unasked")
        assert read_exactly(sock, 7) == b"unasked"
        session.pause()
        sock.sendall(b"while paused")
        with secure(server) as other:
            echo(other)
        assert session.received == b"hello"
        session.resume()
        assert read_exactly(sock, 12) == b"while paused"
        session.reset()
        with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
            sock.recv(1)
        session.wait_closed()
        assert session.close_reason == "test"


def test_steering_waits_for_no_handshake():
    """A client that has not begun its handshake, and is closed by the test."""
    with echo_server(tls=True) as server, connect_blocking(server.address) as sock:
        server.connections[0].reset()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_a_wait_for_idle_waits_for_no_handshake():
    with echo_server(tls=True) as server, connect_blocking(server.address):
        server.wait_connections(1)
        server.wait_idle()
        assert [session.tls for session in server.open_connections] == [None]


@pytest.mark.parametrize("reply", [b"220 ready\r\n", lambda data: data.upper(), "discard"])
def test_replies_work_over_tls(reply):
    with echo_server(tls=True, reply=reply) as server, secure(server) as sock:
        if isinstance(reply, bytes):
            assert read_exactly(sock, len(reply)) == reply
            echo(sock)
        elif callable(reply):
            sock.sendall(b"hello")
            assert read_exactly(sock, 5) == b"HELLO"
        else:
            sock.sendall(b"hello")
            server.assert_received(b"hello")
            server.wait_idle()
            assert server.bytes_out == 0


def test_a_stop_names_those_that_were_left():
    server = echo_server(tls=True).start()
    with secure(server) as sock, connect_blocking(server.address):
        echo(sock)
        assert [session.index for session in server.stop()] == [0, 1]


def test_a_client_that_closes_properly_is_not_left():
    for _ in range(20):
        server = echo_server(tls=True, leak="error").start()
        with secure(server) as sock:
            echo(sock)
        assert server.stop() == ()


def test_the_clients_close_notify_is_its_fin():
    with echo_server(tls=True) as server:
        sock = secure(server)
        echo(sock)
        sock.unwrap().close()
        server.wait_closed()
        assert server.connections[0].half_closed
        assert server.connections[0].close_reason == "eof"


def test_an_asyncio_client():
    async def body():
        async with async_echo_server(tls=True) as server:
            reader, writer = await asyncio.open_connection(
                *server.address, ssl=certificates().client_context(), server_hostname="localhost"
            )
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            await server.assert_received(b"hello")
            assert server.connections[0].tls == "TLSv1.3"
            writer.close()
            await writer.wait_closed()
            await server.assert_all_closed()

    asyncio.run(body())


def test_a_blackhole_freezes_a_tls_connection():
    with echo_server(tls=True) as server, secure(server, timeout=0.1) as sock:
        echo(sock)
        server.blackhole()
        sock.sendall(b"dark")
        with pytest.raises((TimeoutError, socket.timeout)):
            sock.recv(1)
        server.up()
        sock.settimeout(DEADLINE)
        assert read_exactly(sock, 4) == b"dark"


@pytest.mark.parametrize("reply", ["echo", lambda data: data.upper()], ids=["echo", "function"])
def test_thousands_of_records_are_answered_whole(reply):
    """The server reads on after it has served others in between."""
    count = 20_000
    with echo_server(tls=True, reply=reply, terminator=None) as server:
        with connect_blocking(server.address, DEADLINE) as sock:
            client = RecordClient(sock, certificates().client_context())
            assert client.exchange([b"x"] * count) == (b"x" if reply == "echo" else b"X") * count
