"""What a test asks of a connection that has not begun: in its TLS handshake, or waiting for a place."""

from __future__ import annotations

import socket

from fastecho.testing import echo_server


def connect(server) -> socket.socket:
    sock = socket.create_connection(server.address)
    sock.settimeout(10)
    return sock


def test_sent_before_the_session_has_begun() -> None:
    with echo_server() as server:
        for number in range(50):
            with connect(server) as sock:
                server.connections[number].send(b"early")
                assert sock.recv(9) == b"early"


def test_a_client_beyond_the_limit_is_accepted_when_another_has_left() -> None:
    """Until then it waits in the backlog, and what it has sent is kept by the kernel."""
    with echo_server(max_connections=1, reply=b"hello ") as server, connect(server) as first:
        assert first.recv(9) == b"hello "
        with connect(server) as second:
            second.sendall(b"echo")
            assert server.connection_count == 1
            first.close()
            server.wait_connections(2)
            got = b""
            while len(got) < 10:
                got += second.recv(99)
            assert got == b"hello echo"
            assert server.connections[1].received == b"echo"


def test_a_handshake_that_never_comes_does_not_hold_up_the_stop() -> None:
    server = echo_server(tls="valid").start()
    with connect(server):
        server.wait_connections(1)
        assert [session.index for session in server.stop()] == [0]
        assert server.connections[0].close_reason == "server_stopped"


def test_reset_while_a_handshake_is_under_way() -> None:
    with echo_server(tls="valid") as server, connect(server):
        server.wait_connections(1)
        server.reset()
        assert server.connections == ()
