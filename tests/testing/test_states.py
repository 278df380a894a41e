"""Down, black hole, pauses, places, resets and captures, one into the other."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading

import pytest

from clients import connect_blocking, read_exactly
from fastecho.testing import Fault, echo_server
from patience import DEADLINE, until
from unprivileged import command


def nothing_comes(sock: socket.socket) -> bool:
    sock.settimeout(0.2)
    try:
        sock.recv(1)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(DEADLINE)
    return False


@pytest.mark.parametrize("state", ["down", "blackhole"])
def test_a_state_ends_with_its_block(state) -> None:
    with echo_server() as server:
        with getattr(server, state)():
            with socket.socket() as sock:
                sock.settimeout(0.2)
                with pytest.raises((ConnectionRefusedError, TimeoutError)):
                    sock.connect(server.address)
        with connect_blocking(server.address) as sock:
            sock.sendall(b"x")
            assert read_exactly(sock, 1) == b"x"


def test_armed_and_disarmed_while_down() -> None:
    with echo_server() as server:
        with server.down():
            armed = server.arm(Fault.stop_reading(), must_fire=False)
            server.disarm(armed)
            armed = server.arm(Fault.stop_reading(after_received=1))
        with connect_blocking(server.address) as sock:
            sock.sendall(b"x")
            assert read_exactly(sock, 1) == b"x"
        server.wait_closed()
        assert armed.fired == 1


def test_a_black_hole_serves_no_client_although_a_place_is_free() -> None:
    with echo_server(family="unix", max_connections=1) as server:
        first, second = connect_blocking(server.address), connect_blocking(server.address)
        with first, second:
            first.sendall(b"1")
            assert read_exactly(first, 1) == b"1"
            with server.blackhole():
                second.sendall(b"2")
                first.close()
                assert nothing_comes(second)
            assert read_exactly(second, 1) == b"2"


BLACKHOLE = """
import socket
from fastecho.testing import echo_server

with echo_server(family={family!r}) as server:
    with socket.create_connection(server.address, 5) as open, socket.create_connection(server.address, 5) as queued:
        with server.blackhole():
            with socket.socket(open.family) as late:
                late.settimeout(0.1)
                try:
                    late.connect(server.address)
                except TimeoutError:
                    print("no answer")
            queued.sendall(b"x")
        open.sendall(b"x")
        for sock in (open, queued):
            assert sock.recv(1) == b"x"
    with socket.create_connection(server.address, 5) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what Linux does")
@pytest.mark.parametrize("family", ["tcp", "tcp6"])
def test_a_blackhole_answers_no_syn_without_a_privilege(family) -> None:
    done = subprocess.run(command("-c", BLACKHOLE.format(family=family)), capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("no answer\n", "")


@pytest.mark.parametrize("states", [("down",), ("blackhole",), ("down", "blackhole")])
def test_up_keeps_to_the_places(states) -> None:
    with echo_server(max_connections=1) as server, connect_blocking(server.address) as first:
        first.sendall(b"1")
        assert read_exactly(first, 1) == b"1"
        for state in states:
            getattr(server, state)()
        server.up()
        with contextlib.ExitStack() as others:
            for _ in range(5):
                others.enter_context(connect_blocking(server.address))
            with connect_blocking(server.address) as last:
                last.sendall(b"2")
                assert nothing_comes(last)
                assert server.stats.active == 1
                assert server.stats.accepted == 1


def test_up_leaves_a_pause_of_the_test_alone() -> None:
    with echo_server() as server, connect_blocking(server.address) as sock:
        sock.sendall(b"1")
        assert read_exactly(sock, 1) == b"1"
        (session,) = server.connections
        session.pause()
        server.blackhole()
        server.up()
        sock.sendall(b"2")
        assert nothing_comes(sock)
        session.resume()
        assert read_exactly(sock, 1) == b"2"


@pytest.mark.parametrize("faults", [(), [Fault.latency(0.0)]], ids=["plain", "faulty"])
def test_a_close_after_a_half_close_ends_it(faults) -> None:
    with echo_server(faults=faults, linger_timeout=0.05) as server, connect_blocking(server.address) as sock:
        sock.sendall(b"1")
        assert read_exactly(sock, 1) == b"1"
        (session,) = server.connections
        session.shutdown_write()
        assert sock.recv(1) == b""
        session.close()
        session.wait_closed()
        assert session.close_reason == "test"


def test_reset_while_clients_come_again_and_again() -> None:
    """A client that connects meanwhile is a connection after the reset, numbered from 0."""
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), connect_blocking(server.address) as sock:
                sock.sendall(b"x")
                while sock.recv(1) and not stop.is_set():
                    sock.sendall(b"x")

    with echo_server() as server:
        threads = [threading.Thread(target=client) for _ in range(5)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                server.wait_connections(3)
                server.reset()
                indexes = [session.index for session in server.connections]
                assert indexes == list(range(len(indexes)))
        finally:
            stop.set()
            for thread in threads:
                thread.join(DEADLINE)


def test_a_capture_goes_on_over_a_reset() -> None:
    with echo_server() as server, server.capture() as captured:
        for data in (b"before", b"after"):
            with connect_blocking(server.address) as sock:
                sock.sendall(data)
                assert read_exactly(sock, len(data)) == data
            server.wait_closed()
            if data == b"before":
                captured.assert_received(b"before")
                server.reset()
        captured.assert_received(b"after")


def test_a_where_may_look_at_the_connections() -> None:
    def is_third(session) -> bool:
        return server.connection_count >= 3 and session.index == 2

    with echo_server() as server, contextlib.ExitStack() as clients:
        with server.fault(Fault.close(after_sent=1).where(is_third)):
            socks = [clients.enter_context(connect_blocking(server.address)) for _ in range(40)]
            socks[2].sendall(b"abc")
            assert read_exactly(socks[2], 1) == b"a"
            assert socks[2].recv(1) == b""
        assert server.connection_count == 40


def test_a_reply_may_ask_for_the_session() -> None:
    lines: dict[int, bytes] = {}

    def by_line(data, session):
        lines[session.index] = lines.get(session.index, b"") + data
        if not lines[session.index].endswith(b"\n"):
            return None
        return lines.pop(session.index).upper()

    with echo_server(reply=by_line) as server:
        with connect_blocking(server.address) as one, connect_blocking(server.address) as two:
            one.sendall(b"from one ")
            server.wait_received(b"from one ")
            two.sendall(b"from two\n")
            assert read_exactly(two, 9) == b"FROM TWO\n"
            one.sendall(b"at last\n")
            assert read_exactly(one, 17) == b"FROM ONE AT LAST\n"


@pytest.mark.parametrize("faults", [(), [Fault.latency(0.0)]], ids=["plain", "faulty"])
def test_handshakes_are_events(faults) -> None:
    from fastecho.testing import certificates

    with echo_server(tls=True, faults=faults) as server:
        with connect_blocking(server.address) as sock:
            sock.sendall(b"this is no ClientHello")
            server.wait_closed()
        context = certificates().client_context()
        with context.wrap_socket(connect_blocking(server.address), server_hostname="localhost") as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        server.wait_closed()
        what = [event.what for event in server.events()]
        assert any(each.startswith("TLS handshake done: TLSv1.") for each in what)
        if not faults:
            assert server.connections[0].close_reason == "tls_handshake"


def test_a_wait_that_blocked_its_own_loop_says_so(run) -> None:
    async def body() -> None:
        with echo_server(timeout=0.1) as server:
            with pytest.raises(TimeoutError, match="an event loop runs in this thread"):
                server.wait_connections(1)
        await until(lambda: True, "nothing")

    run(body())
