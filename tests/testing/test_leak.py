"""What a stop leaves behind: nothing; and what it says of those who were left."""

import contextlib
import gc
import socket
import subprocess
import sys
import threading
import warnings

import pytest

from clients import connect_blocking, read_exactly, read_to_eof
from descriptors import open_descriptors
from fastecho.testing import Fault, LeakWarning, TeardownError, echo_server
from patience import DEADLINE, WITHOUT_SLOW_CALLBACKS, wait_until


def echo(sock, data=b"hello"):
    sock.sendall(data)
    assert read_exactly(sock, len(data)) == data


def gone(sock):
    with pytest.raises(ConnectionResetError):  # noqa: PT012
        while sock.recv(65536):
            pass


def test_stop_returns_who_was_left_and_resets_them():
    server = echo_server().start()
    socks = [connect_blocking(server.address) for _ in range(3)]
    for sock in socks:
        echo(sock)
    socks[1].close()
    server.connections[1].wait_closed()
    left = server.stop()
    assert [session.index for session in left] == [0, 2]
    assert {session.close_reason for session in left} == {"server_stopped"}
    assert not any(session.is_open for session in server.connections)
    for sock in (socks[0], socks[2]):
        with sock:
            gone(sock)


def test_one_that_had_just_connected_is_left_too():
    """Whether or not the loop has had a turn since, or has read what it sent."""
    for turn in range(60):
        server = echo_server().start()
        with connect_blocking(server.address) as first:
            if turn % 3:
                echo(first)
            with connect_blocking(server.address) as sock:
                if turn % 2:
                    sock.sendall(b"zz")
                left = server.stop()
                assert [session.index for session in left] == [0, 1]
                assert {session.close_reason for session in left} == {"server_stopped"}


def test_no_connection_is_left():
    server = echo_server().start()
    assert server.stop() == ()
    server = echo_server().start()
    with connect_blocking(server.address) as sock:
        echo(sock)
    assert server.stop() == ()


def test_one_that_has_just_closed_is_not_left():
    """Its FIN is in the kernel: a client that closes before the block ends has done its part."""
    for _ in range(100):
        server = echo_server(leak="error").start()
        with connect_blocking(server.address) as sock:
            echo(sock)
        assert server.stop() == ()


def test_one_that_sent_and_closed_is_not_left():
    for _ in range(100):
        server = echo_server().start()
        with connect_blocking(server.address) as sock:
            sock.sendall(b"last words")
            sock.shutdown(socket.SHUT_WR)
            assert read_to_eof(sock) == b"last words"
        assert server.stop() == ()
        assert server.connections[0].received == b"last words"


def test_a_second_stop_does_nothing():
    server = echo_server().start()
    with connect_blocking(server.address) as sock:
        echo(sock)
        server.stop()
        server.stop()
    assert [session.close_reason for session in server.connections] == ["server_stopped"]


def test_ignored_by_default():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with echo_server() as server:
            sock = connect_blocking(server.address)
            echo(sock)
    sock.close()


def test_a_leak_is_a_warning_with_leak_warn():
    """A line for each: which, whose, how much came and went, and what it waits for."""
    with pytest.warns(LeakWarning) as caught:  # noqa: PT031
        with echo_server(leak="warn") as server:
            socks = [connect_blocking(server.address) for _ in range(3)]
            for sock in socks:
                echo(sock)
            socks[1].close()
            server.connections[1].wait_closed()
    assert len(caught) == 1
    message = str(caught[0].message)
    for text in ("2 connection", "connection 0", "connection 2", "5 B in, 5 B out", str(socks[0].getsockname()[1])):
        assert text in message
    assert "connection 1 " not in message
    assert "not closed" in message
    for sock in socks:
        sock.close()


@pytest.mark.parametrize("how", ["with", "stop"])
def test_a_warning_points_into_the_test(how):
    """The file that left the block or called stop, not one of fastecho."""
    with pytest.warns(LeakWarning) as caught:  # noqa: PT031
        if how == "with":
            with echo_server(leak="warn") as server:
                sock = connect_blocking(server.address)
                echo(sock)
        else:
            server = echo_server(leak="warn").start()
            sock = connect_blocking(server.address)
            echo(sock)
            server.stop()
    sock.close()
    assert caught[0].filename == __file__


def test_a_leak_is_an_error_with_leak_error():
    with pytest.raises(TeardownError, match=r"1 connection(?s:.*)connection 0 .*5 B in, 5 B out"):  # noqa: PT012
        with echo_server(leak="error") as server:
            sock = connect_blocking(server.address)
            echo(sock)
    with sock:
        gone(sock)
    with pytest.raises(ConnectionRefusedError):
        connect_blocking(server.address)


def test_what_it_waits_for_is_said():
    """A client that does not read leaves something else behind than one that only does not close."""
    with pytest.raises(TeardownError) as idle:  # noqa: PT012
        with echo_server(leak="error") as server:
            first = connect_blocking(server.address)
            echo(first)
    with pytest.raises(TeardownError) as full:  # noqa: PT012
        with echo_server(leak="error") as server:
            second = connect_blocking(server.address)
            echo(second)
            server.connections[0].send(bytes(16 << 20))
    first.close()
    second.close()
    why = [str(caught.value).splitlines()[-1].partition(" out")[2] for caught in (idle, full)]
    assert why[0] != why[1]


@pytest.mark.parametrize("how", ["paused", "fault"])
def test_a_close_behind_unread_bytes_is_not_denied(how):
    """The FIN comes after the bytes that the server does not read: it cannot know whether the client has closed."""
    fault = () if how == "paused" else Fault.stop_reading(after_received=5)
    with pytest.raises(TeardownError) as unseen:  # noqa: PT012
        with echo_server(leak="error", faults=fault) as server:
            with connect_blocking(server.address) as sock:
                echo(sock)
                if how == "paused":
                    server.connections[0].pause()
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sock.send(bytes(65536))
    assert "does not read" in str(unseen.value)
    assert "has not closed" not in str(unseen.value)


@pytest.mark.parametrize("leak", ["warn", "error"])
def test_no_leak_no_complaint(leak):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(30):
            with echo_server(leak=leak) as server, connect_blocking(server.address) as sock:
                echo(sock)


def test_a_failing_test_is_not_covered_by_its_leak():
    """The exception of the block is the one to see."""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        with echo_server(leak="error") as server:
            sock = connect_blocking(server.address)
            echo(sock)
            raise ZeroDivisionError
    sock.close()


@pytest.mark.parametrize("how", ["silent", "full", "paused", "half closed", "lingering"])
def test_a_client_does_not_hold_up_the_stop(how):
    """In any state: neither its answers nor its bytes are waited for."""
    server = echo_server(linger_timeout=1000, write_timeout=1000).start()
    with connect_blocking(server.address) as sock:
        echo(sock)
        (session,) = server.connections
        if how == "full":
            session.send(bytes(16 << 20))
        if how == "paused":
            session.pause()
            sock.sendall(b"unread")
        if how == "half closed":
            session.shutdown_write()
        if how == "lingering":
            session.close()
        done = threading.Thread(target=server.stop, daemon=True)
        done.start()
        done.join(DEADLINE)
        assert not done.is_alive()
    assert not session.is_open


def test_a_stop_with_many_open():
    server = echo_server().start()
    socks = [connect_blocking(server.address) for _ in range(500)]
    server.wait_connections(500)
    assert len(server.stop()) == 500
    for sock in socks:
        sock.close()


def test_a_reply_that_blocks_does_not_hold_up_the_stop():
    """The one thing that can hold up the loop's thread is the test's own code: said, and not waited for."""
    entered, free = threading.Event(), threading.Event()

    def block(data):
        entered.set()
        free.wait(4 * DEADLINE)
        return data

    server = echo_server(reply=block, teardown_timeout=0.1).start()
    with connect_blocking(server.address) as sock:
        sock.sendall(b"x")
        assert entered.wait(DEADLINE)
        raised = []

        def stop():
            try:
                server.stop()
            except TeardownError as error:
                raised.append(str(error))

        thread = threading.Thread(target=stop, daemon=True)
        thread.start()
        thread.join(DEADLINE)
        try:
            assert not thread.is_alive()
            assert len(raised) == 1
            assert "0.1" in raised[0]
        finally:
            free.set()
    with echo_server() as after, connect_blocking(after.address) as sock:
        echo(sock)
    wait_until(lambda: _refuses(server.address), "the port is closed once the loop is free again")


def test_a_time_out_of_the_stop_itself():
    entered, free = threading.Event(), threading.Event()

    def block(data):
        entered.set()
        free.wait(4 * DEADLINE)
        return data

    server = echo_server(reply=block, teardown_timeout=1000).start()
    with connect_blocking(server.address) as sock:
        sock.sendall(b"x")
        assert entered.wait(DEADLINE)
        try:
            with pytest.raises(TeardownError):
                server.stop(timeout=0.05)
        finally:
            free.set()


def _refuses(address):
    try:
        connect_blocking(address).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("family", ["tcp", "dual", "unix"])
def test_two_hundred_starts_and_stops_leave_nothing(family):
    with echo_server() as server, connect_blocking(server.address) as sock:
        echo(sock)
    before, threads = open_descriptors(), set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for turn in range(200):
            with echo_server(family=family) as server:
                if turn % 2:
                    with connect_blocking(server.address) as sock:
                        echo(sock)
    gc.collect()
    wait_until(lambda: not open_descriptors() - before, "no descriptor is left open")
    assert set(threading.enumerate()) <= threads


def test_starts_and_stops_in_development_mode_say_nothing():
    """`-W error -X dev`: no warning, no thread and no descriptor is left, in a separate process."""
    script = """
import gc, os, socket, threading
from fastecho.testing import echo_server
counts = []
for turn in range(300):
    with echo_server(family=("tcp", "unix", "dual")[turn % 3]) as server:
        if turn % 2:
            with socket.socket(socket.AF_UNIX if turn % 3 == 1 else socket.AF_INET) as sock:
                sock.connect(server.address)
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
            server.wait_closed()
    if turn in (50, 299):
        gc.collect()
        counts.append((len(os.listdir("/dev/fd")), threading.active_count()))
assert counts[0] == counts[1], counts
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", WITHOUT_SLOW_CALLBACKS + script],
        capture_output=True, timeout=6 * DEADLINE, text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_server_that_was_never_started_needs_no_stop():
    server = echo_server()
    assert server.stop() == ()


def test_a_start_that_failed_leaves_nothing():
    with echo_server() as holder:
        before = open_descriptors()
        for _ in range(20):
            with pytest.raises(OSError):
                echo_server(port=holder.port).start()
        assert open_descriptors() == before


def test_the_address_is_known_after_the_stop():
    """Also if it was not read before."""
    with echo_server() as server:
        pass
    with pytest.raises(ConnectionRefusedError):
        connect_blocking(server.address)
    assert server.url == f"tcp://{server.host}:{server.port}"


@pytest.mark.parametrize("act", ["down", "up", "blackhole", "arm"])
def test_what_a_stopped_server_is_asked_to_do_is_refused(act):
    """In words: a silence would be taken for success."""
    with echo_server() as server:
        pass
    with pytest.raises(RuntimeError, match=r"stopped|not running"):
        getattr(server, act)(*(["refuse()"] if act == "arm" else []))
