"""What the fixture answers: the echo, nothing, a greeting, or what a function makes of what came."""

import random
import socket
import threading

import pytest

from clients import connect_blocking, read_exactly, read_to_eof, reset_socket
from fastecho.testing import echo_server
from patience import DEADLINE

FAMILIES = ["tcp", "unix"]
pytestmark = pytest.mark.parametrize("family", FAMILIES)


def ask(sock, data, count):
    sock.sendall(data)
    return read_exactly(sock, count)


def converse(server, data=b"hello"):
    with connect_blocking(server.address) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return read_to_eof(sock)


def test_the_default_reply_is_the_echo(family):
    with echo_server(family=family, reply="echo") as server:
        assert server.reply == "echo"
        assert converse(server) == b"hello"


def test_echo_is_the_default(family):
    with echo_server(family=family) as server:
        assert server.reply == "echo"


def test_discard_answers_nothing(family):
    """Everything is read and recorded (RFC 863)."""
    data = random.Random(1).randbytes(500_000)
    with echo_server(family=family, reply="discard") as server:
        assert converse(server, data) == b""
        server.assert_received(data)
        assert (server.bytes_in, server.bytes_out) == (len(data), 0)
        assert server.connections[0].sent == b""


@pytest.mark.parametrize("greeting", [b"220 ready\r\n", b"\0", bytes(100_000)], ids=["line", "nul", "large"])
def test_a_greeting_is_sent_first_and_then_the_echo(family, greeting):
    with echo_server(family=family, reply=greeting) as server:
        assert server.reply == greeting
        for _ in range(3):
            with connect_blocking(server.address) as sock:
                assert read_exactly(sock, len(greeting)) == greeting
                assert ask(sock, b"hello", 5) == b"hello"
        assert server.connections[0].sent == greeting + b"hello"
        server.assert_received(b"hellohellohello")


def test_a_banner_comes_before_the_echo_of_one_who_speaks_first(family):
    with echo_server(family=family, reply=b"220 ") as server:
        for _ in range(50):
            assert converse(server) == b"220 hello"


def test_an_empty_banner(family):
    with echo_server(family=family, reply=b"") as server:
        assert converse(server) == b"hello"


def test_a_function_makes_the_answer(family):
    with echo_server(family=family, reply=lambda data: data.upper() + b"!") as server:
        assert converse(server) == b"HELLO!"
        assert server.connections[0].received == b"hello"
        assert server.connections[0].sent == b"HELLO!"


def test_a_function_is_called_with_what_one_read_brought(family):
    seen = []

    def reply(data):
        seen.append(data)
        return b"%d" % len(data)

    with echo_server(family=family, reply=reply) as server, connect_blocking(server.address) as sock:
        assert ask(sock, b"one", 1) == b"3"
        assert ask(sock, b"three", 1) == b"5"
        assert seen == [b"one", b"three"]
        assert {type(data) for data in seen} == {bytes}
        assert [chunk.size for chunk in server.connections[0].chunks] == [3, 5]


def test_a_function_that_answers_nothing(family):
    with echo_server(family=family, reply=lambda data: b"") as server, connect_blocking(server.address) as sock:
        sock.sendall(b"hello")
        server.assert_received(b"hello")
        server.wait_idle()
        assert server.bytes_out == 0


def test_a_function_that_answers_much(family):
    """More than any buffer, to a client that reads when it likes."""
    answer = random.Random(2).randbytes(5 << 20)
    with echo_server(family=family, reply=lambda data: answer) as server, connect_blocking(server.address) as sock:
        sock.sendall(b"x")
        server.wait_received(b"x")
        assert read_exactly(sock, len(answer)) == answer
        assert ask(sock, b"y", len(answer)) == answer


def test_a_function_runs_on_a_thread_of_the_server(family):
    threads = set()

    def reply(data):
        threads.add(threading.current_thread())
        return data

    with echo_server(family=family, reply=reply) as server:
        assert [converse(server) for _ in range(3)] == [b"hello"] * 3
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_a_function_may_look_at_the_server(family):
    """It is called on the loop's thread: what it reads there must not wait for that thread."""
    with echo_server(family=family) as server:
        server.reply = lambda data: b"%d %d" % (server.connection_count, len(server.connections))
        assert converse(server) == b"1 1"
        assert converse(server) == b"2 2"


def ends(sock):
    """An end of one kind or the other, with nothing before it."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("wrong", ["text", 3])
def test_a_function_that_does_not_answer_bytes(family, wrong):
    """It ends that connection, not the server; and the end of the block says so."""
    with pytest.raises(RuntimeError, match=f"connection 0: .*{type(wrong).__name__}.*bytes"):  # noqa: PT012
        with echo_server(family=family, reply=lambda data: wrong if data == b"bad" else data) as server:
            with connect_blocking(server.address) as sock:
                sock.sendall(b"bad")
                assert ends(sock)
            assert converse(server) == b"hello"


def test_a_function_that_raises(family):
    def reply(data):
        if data == b"bad":
            raise ZeroDivisionError("of the test")
        return data

    with pytest.raises(RuntimeError, match="ZeroDivisionError on connection 1: of the test") as caught:  # noqa: PT012
        with echo_server(family=family, reply=reply) as server, connect_blocking(server.address) as other:
            assert ask(other, b"before", 6) == b"before"
            with connect_blocking(server.address) as sock:
                sock.sendall(b"bad")
                assert ends(sock)
            assert ask(other, b"after", 5) == b"after"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert server.connections[1].close_reason == "error"


def test_a_wait_says_that_a_function_raised(family):
    """Rather than running into its time-out: what it waits for will not come."""
    server = echo_server(family=family, reply=lambda data: 1 / 0, timeout=1000).start()
    with connect_blocking(server.address) as sock:
        sock.sendall(b"bad")
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            server.wait_received(1000)
    server.stop()


def test_it_may_be_set_for_what_is_received_from_then_on(family):
    with echo_server(family=family) as server, connect_blocking(server.address) as sock:
        assert ask(sock, b"one", 3) == b"one"
        server.reply = lambda data: data.upper()
        assert ask(sock, b"two", 3) == b"TWO"
        server.reply = "discard"
        sock.sendall(b"three")
        server.wait_received(b"three")
        server.wait_idle()
        server.reply = "echo"
        assert ask(sock, b"four", 4) == b"four"
        assert server.connections[0].sent == b"oneTWOfour"


def test_a_greeting_is_for_connections_from_then_on(family):
    with echo_server(family=family) as server, connect_blocking(server.address) as before:
        assert ask(before, b"zero", 4) == b"zero"
        server.reply = b"220 "
        assert ask(before, b"one", 3) == b"one"
        assert converse(server) == b"220 hello"
        server.reply = "echo"
        assert converse(server) == b"hello"


def test_a_greeting_is_not_for_a_client_that_connected_before(family):
    """Even if the loop had no turn in between."""
    with echo_server(family=family) as server:
        for _ in range(50):
            with connect_blocking(server.address) as before:
                server.reply = b"220 "
                assert ask(before, b"one", 3) == b"one"
            server.reply = "echo"


def test_what_cannot_be_answered_is_refused_when_it_is_set(family):
    with echo_server(family=family) as server:
        for wrong in ("shout", 3, None):
            with pytest.raises((ValueError, TypeError)):
                server.reply = wrong
        assert server.reply == "echo"
        assert converse(server) == b"hello"


@pytest.mark.parametrize(
    "reply", ["discard", b"220 ", lambda data: data[::-1]], ids=["discard", "greeting", "function"]
)
def test_replies_go_through_faults(family, reply):
    expected = {"discard": b""}.get(reply, b"220 hello") if not callable(reply) else b"olleh"
    with echo_server(family=family, reply=reply) as server:
        with server.fault("slice(1)", must_fire=False):
            assert converse(server) == expected
        server.assert_sent_in(chunks=len(expected))
        if expected:
            with server.fault("close(after_sent=2)"):
                assert converse(server) == expected[:2]


def test_a_terminator_counts_in_what_is_received(family):
    with echo_server(family=family, reply=lambda data: data.upper(), terminator=b"END") as server:
        with connect_blocking(server.address) as sock:
            sock.sendall(b"the END")
            assert read_to_eof(sock) == b"THE END"


def test_a_client_that_is_gone_before_its_answer_is_made(family):
    entered, go_on = threading.Event(), threading.Event()

    def reply(data):
        entered.set()
        assert go_on.wait(DEADLINE)
        return b"too late"

    with echo_server(family=family, reply=reply) as server:
        sock = connect_blocking(server.address)
        sock.sendall(b"x")
        assert entered.wait(DEADLINE)
        reset_socket(sock)
        go_on.set()
        server.wait_closed()
        (session,) = server.connections
        assert (session.received, session.close_reason) == (b"x", "reset")
        assert converse(server) == b"too late"
