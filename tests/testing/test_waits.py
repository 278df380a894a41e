"""What a test can wait for and assert: each bounded, each with a message that says what was there instead."""

import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from clients import connect_blocking, read_exactly, read_to_eof
from fastecho.testing import async_echo_server, echo_server
from patience import DEADLINE

SOON = 0.05


@pytest.fixture(params=["tcp", "unix"])
def server(request):
    with echo_server(family=request.param, timeout=DEADLINE) as server:
        yield server


@pytest.fixture(params=["tcp", "unix"])
def impatient(request):
    """A server whose waits give up at once: for what does not come."""
    with echo_server(family=request.param, timeout=SOON) as server:
        yield server


def echo(sock, data):
    sock.sendall(data)
    assert read_exactly(sock, len(data)) == data


def talk(server, *parts):
    with connect_blocking(server.address) as sock:
        for part in parts:
            echo(sock, part)


def later(wait, *arguments):
    """A wait in a separate thread, which has begun when this returns."""
    begun, future = threading.Event(), Future()

    def work():
        begun.set()
        try:
            future.set_result(wait(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    assert begun.wait(DEADLINE)
    return future


# Waits


def test_wait_connections_returns_when_there_are_enough(server):
    waiting = later(server.wait_connections, 2)
    with connect_blocking(server.address):
        assert not waiting.done()
        with connect_blocking(server.address):
            sessions = waiting.result(DEADLINE)
    assert [session.index for session in sessions] == [0, 1]
    assert server.wait_connections(1) == server.connections
    assert server.wait_connections(0) == server.connections


def test_wait_connections_in_vain(impatient):
    with pytest.raises(TimeoutError, match=r"no connection"):
        impatient.wait_connections(1)
    talk(impatient, b"x")
    with pytest.raises(TimeoutError, match=r"1 connection within 0.05 s, not 3"):
        impatient.wait_connections(3)


def test_wait_received_so_many_bytes(server):
    waiting = later(server.wait_received, 6)
    with connect_blocking(server.address) as sock:
        echo(sock, b"hello")
        assert not waiting.done()
        sock.sendall(b"!")
        assert waiting.result(DEADLINE) == b"hello!"
        assert server.wait_received(3) == b"hello!"
        assert server.wait_received(0) == b"hello!"


def test_wait_received_these_bytes(server):
    waiting = later(server.wait_received, b"QUIT\r\n")
    with connect_blocking(server.address) as sock:
        for part in (b"HELO\r\nQU", b"IT\r"):
            echo(sock, part)
            assert not waiting.done()
        sock.sendall(b"\n")
        assert waiting.result(DEADLINE) == b"HELO\r\nQUIT\r\n"


def test_wait_received_a_predicate(server):
    waiting = later(server.wait_received, lambda data: data.count(b"\n") == 2)
    with connect_blocking(server.address) as sock:
        echo(sock, b"one\n")
        assert not waiting.done()
        sock.sendall(b"two\n")
        assert waiting.result(DEADLINE) == b"one\ntwo\n"


def test_a_predicate_that_fails_fails_the_test(server):
    with connect_blocking(server.address) as sock:
        echo(sock, b"x")
        with pytest.raises(ZeroDivisionError):
            server.wait_received(lambda data: 1 / 0)
        echo(sock, b"and the server goes on")


def test_a_predicate_that_fails_later_fails_the_test(server):
    waiting = later(server.wait_received, lambda data: bool(data) and 1 / 0)
    with connect_blocking(server.address) as sock:
        echo(sock, b"x")
        with pytest.raises(ZeroDivisionError):
            waiting.result(DEADLINE)
        echo(sock, b"and the server goes on")


def test_received_on_the_server_is_in_order_of_accept(server):
    with connect_blocking(server.address) as first, connect_blocking(server.address) as second:
        echo(second, b"second")
        echo(first, b"first")
        assert server.wait_received(11) == b"firstsecond"
        server.assert_received(b"firstsecond")


def test_wait_received_on_a_session(server):
    with connect_blocking(server.address) as first, connect_blocking(server.address) as second:
        one, two = server.connections
        waiting = later(two.wait_received, b"for two")
        echo(first, b"for two")
        assert not waiting.done()
        second.sendall(b"also for two")
        assert waiting.result(DEADLINE) == b"also for two"
        assert one.wait_received(7) == b"for two"


@pytest.mark.parametrize(
    ("wanted", "named"),
    [(9, "9 bytes"), (b"helloo", "helloo"), (lambda data: data.endswith(b"x"), "<lambda>")],
    ids=["count", "bytes", "predicate"],
)
@pytest.mark.parametrize("of", ["server", "session"])
def test_wait_received_in_vain(impatient, wanted, named, of):
    """What was wanted, how long, and what came."""
    with connect_blocking(impatient.address) as sock:
        echo(sock, b"hello\0")
        where = impatient if of == "server" else impatient.connections[0]
        with pytest.raises(TimeoutError) as caught:
            where.wait_received(wanted)
    for text in (named, "0.05 s", "6 bytes came", r"hello\x00", "connection 0"):
        assert text in str(caught.value)


@pytest.mark.parametrize("wrong", ["text", None, 1.5])
def test_what_cannot_be_waited_for_is_refused_at_once(server, wrong):
    with pytest.raises((TypeError, ValueError)):
        server.wait_received(wrong)


def test_wait_received_beyond_the_record():
    """What is not kept is counted all the same, and does not stop a wait for a number."""
    with echo_server(record_limit=4, timeout=DEADLINE) as server, connect_blocking(server.address) as sock:
        echo(sock, b"abcdefgh")
        assert server.wait_received(8) == b"abcd"
        assert server.connections[0].wait_received(8) == b"abcd"


def test_wait_closed_returns_when_all_have_ended(server):
    first, second = connect_blocking(server.address), connect_blocking(server.address)
    waiting = later(server.wait_closed)
    with first, second:
        echo(first, b"1")
        first.close()
        server.connections[0].wait_closed()
        assert not waiting.done()
        echo(second, b"2")
        second.close()
        waiting.result(DEADLINE)
    assert server.open_connections == ()


def test_wait_closed_without_connections(server):
    server.wait_closed()


def test_wait_closed_in_vain(impatient):
    with connect_blocking(impatient.address) as sock, connect_blocking(impatient.address) as other:
        echo(sock, b"abc")
        echo(other, b"x")
        other.close()
        impatient.connections[1].wait_closed()
        for wait in (impatient.wait_closed, impatient.connections[0].wait_closed):
            with pytest.raises(TimeoutError) as caught:
                wait()
            for text in ("1 connection still open", "connection 0", "3 B in, 3 B out"):
                assert text in str(caught.value)
            assert "connection 1" not in str(caught.value)


def test_wait_idle_returns_when_nothing_is_in_flight(server):
    """Everything that was sent to it is answered, and the client's kernel has it."""
    data = random.Random(8).randbytes(100_000)
    with connect_blocking(server.address) as sock:
        sock.sendall(data)
        server.wait_idle()
        assert server.bytes_in == server.bytes_out == len(data)
        sock.setblocking(False)
        got = b""
        while len(got) < len(data):
            got += sock.recv(1 << 20)
        assert got == data


def test_wait_idle_waits_for_a_delayed_answer(server):
    with server.fault("latency(0.05)"), connect_blocking(server.address) as sock:
        sock.sendall(b"hello")
        server.wait_idle()
        sock.setblocking(False)
        assert sock.recv(5) == b"hello"


def test_wait_idle_right_after_the_send(server):
    """The loop may not even have accepted."""
    for number in range(1, 101):
        with connect_blocking(server.address) as sock:
            sock.sendall(b"x")
            server.wait_idle()
            assert server.bytes_in == number
            assert sock.recv(1) == b"x"


def test_wait_idle_in_vain():
    """A client that does not read: what is due to it is still there."""
    with echo_server(timeout=SOON) as server, connect_blocking(server.address) as sock:
        echo(sock, b"x")
        server.connections[0].send(bytes(16 << 20))
        with pytest.raises(TimeoutError) as caught:
            server.wait_idle()
        assert "connection 0" in str(caught.value)


def test_a_wait_on_a_stopped_server_is_bounded_too():
    server = echo_server(timeout=SOON).start()
    waiting = later(server.wait_connections, 1)
    server.stop()
    with pytest.raises((TimeoutError, RuntimeError), match=r"connection|stopped"):
        waiting.result(DEADLINE)
    with pytest.raises((TimeoutError, RuntimeError), match=r"connection|stopped"):
        server.wait_connections(1)


def test_many_threads_wait_at_once(server):
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(server.wait_received, n) for n in range(1, 17)]
        with connect_blocking(server.address) as sock:
            echo(sock, bytes(16))
            assert {future.result(DEADLINE) for future in waiting} <= {bytes(n) for n in range(1, 17)}


# Assertions


def test_assert_connections_waits_and_then_fails_for_too_many(server):
    server.assert_connections(0)
    with connect_blocking(server.address), connect_blocking(server.address):
        server.assert_connections(2)
    server.assert_connections(2)


def test_assert_connections_waits_for_those_to_come(server):
    asserting = later(server.assert_connections, 2)
    with connect_blocking(server.address), connect_blocking(server.address):
        asserting.result(DEADLINE)


def test_assert_connections_in_vain(impatient):
    talk(impatient, b"ab")
    for n, expected in ((2, "expected 2"), (0, "expected none")):
        with pytest.raises(AssertionError, match=f"1 connection made, {expected}(?s:.*)connection 0 .*2 B in, 2 B out"):
            impatient.assert_connections(n)


def test_assert_no_connections(impatient):
    impatient.assert_no_connections()
    talk(impatient, b"x")
    with pytest.raises(AssertionError, match="1 connection made, expected none"):
        impatient.assert_no_connections()


def test_assert_no_connections_sees_one_that_was_just_made(server):
    for _ in range(50):
        with connect_blocking(server.address):
            with pytest.raises(AssertionError):
                server.assert_no_connections()
        server.reset()


def test_assert_all_closed(impatient):
    impatient.assert_all_closed()
    sock = connect_blocking(impatient.address)
    echo(sock, b"abc")
    with pytest.raises(AssertionError, match=r"1 connection still open(?s:.*)connection 0 .*3 B in, 3 B out"):
        impatient.assert_all_closed()
    sock.close()
    impatient.assert_all_closed()


def test_assert_all_closed_waits(server):
    """For a client that is about to close."""
    sock = connect_blocking(server.address)
    echo(sock, b"x")
    asserting = later(server.assert_all_closed)
    assert not asserting.done()
    sock.close()
    asserting.result(DEADLINE)


def test_assert_received_waits_for_exactly_these_bytes(server):
    server.assert_received(b"")
    talk(server, b"one", b"two")
    server.assert_received(b"onetwo")
    server.connections[0].assert_received(b"onetwo")


def test_assert_received_waits_for_what_is_on_its_way(server):
    """The client has sent, and has not waited for an answer."""
    for number in range(100):
        with connect_blocking(server.address) as sock:
            sock.sendall(b"%03d" % number)
            server.assert_received(b"".join(b"%03d" % n for n in range(number + 1)))
            server.connections[number].assert_received(b"%03d" % number)


@pytest.mark.parametrize("of", ["server", "session"])
@pytest.mark.parametrize(
    ("expected", "texts"),
    [
        (b"one two sixteen", ["offset 8"]),
        (b"one two three four", ["offset 13"]),
        (b"one two", ["offset 7"]),
        (b"", ["offset 0"]),
        (b"One two three", ["offset 0"]),
    ],
)
def test_assert_received_says_where_and_what(impatient, expected, texts, of):
    """The first offset that differs, both dumps, and which read brought it."""
    talk(impatient, b"one ", b"two ", b"three")
    where = impatient if of == "server" else impatient.connections[0]
    with pytest.raises(AssertionError) as caught:
        where.assert_received(expected)
    message = str(caught.value)
    for text in (*texts, "6f 6e 65 20 74 77 6f 20", "13"):
        assert text in message
    assert "chunk" in message


def test_assert_received_with_nothing_received(impatient):
    with pytest.raises(AssertionError):
        impatient.assert_received(b"hello")
    with connect_blocking(impatient.address) as sock:
        with pytest.raises(AssertionError, match="0"):
            impatient.connections[0].assert_received(b"hello")
        echo(sock, b"hello")
    impatient.assert_received(b"hello")


def test_assert_received_points_into_a_long_payload(impatient):
    data = bytearray(random.Random(9).randbytes(50_000))
    with connect_blocking(impatient.address) as sock, ThreadPoolExecutor(1) as pool:
        pool.submit(sock.sendall, bytes(data))
        assert read_exactly(sock, len(data)) == data
    data[31_415] ^= 0x40
    with pytest.raises(AssertionError, match="offset 31415") as caught:
        impatient.assert_received(bytes(data))
    assert len(str(caught.value)) < 5000


def test_assert_received_beyond_the_record():
    """What was not kept can be neither right nor wrong in silence."""
    with echo_server(record_limit=4, timeout=SOON) as server:
        talk(server, b"abcdef")
        for where in (server, server.connections[0]):
            for expected in (b"abcd", b"abcdef", b"abcdxx"):
                with pytest.raises(AssertionError, match=r"record_limit|truncated|kept"):
                    where.assert_received(expected)


def test_assert_sent_in(server):
    with server.fault("slice(2)"):
        talk(server, b"12345")
    server.assert_sent_in(chunks=3)
    server.connections[0].assert_sent_in(chunks=3)
    talk(server, b"x", b"y")
    server.assert_sent_in(chunks=5)
    server.connections[1].assert_sent_in(chunks=2)


def test_assert_sent_in_says_what_it_was(impatient):
    talk(impatient, b"12345", b"678")
    for where in (impatient, impatient.connections[0]):
        with pytest.raises(AssertionError, match=r"sent in 2 chunks \(.*\bbytes\), expected 1"):
            where.assert_sent_in(chunks=1)


# A capture is a part of it


def test_capture_sees_only_what_was_accepted_inside(server):
    talk(server, b"before")
    outside = connect_blocking(server.address)
    echo(outside, b"open before")
    with server.capture() as captured:
        assert (captured.connections, captured.connection_count) == ((), 0)
        captured.assert_no_connections()
        echo(outside, b"not inside")
        assert (captured.bytes_in, captured.bytes_out) == (0, 0)
        talk(server, b"inside")
        captured.assert_connections(1)
        captured.assert_received(b"inside")
        captured.assert_sent_in(chunks=1)
        captured.assert_all_closed()
        captured.wait_idle()
        assert captured.wait_received(6) == b"inside"
        assert captured.wait_connections(1) == captured.connections
        assert captured.open_connections == ()
        assert (captured.bytes_in, captured.bytes_out) == (6, 6)
        assert captured.connections[0].index == 2
    talk(server, b"after")
    outside.close()
    captured.assert_connections(1)
    captured.assert_received(b"inside")
    assert captured.connections == server.connections[2:3]
    server.assert_connections(4)


def test_a_client_that_connected_before_the_block_is_outside(server):
    """Even if the loop had no turn in between."""
    for _ in range(50):
        with connect_blocking(server.address), server.capture() as captured:
            with connect_blocking(server.address):
                captured.assert_connections(1)


def test_a_client_that_connected_in_the_block_is_inside(server):
    """Even if the loop had no turn before its end."""
    for _ in range(50):
        with server.capture() as captured:
            sock = connect_blocking(server.address)
        with sock, connect_blocking(server.address):
            captured.assert_connections(1)


def test_capture_waits_are_bounded_and_say_what_there_was(impatient):
    talk(impatient, b"outside")
    with impatient.capture() as captured:
        with pytest.raises(TimeoutError):
            captured.wait_connections(1)
        with pytest.raises(TimeoutError, match="inside"):
            captured.wait_received(b"inside")
        talk(impatient, b"inside")
        with pytest.raises(AssertionError, match="1 connection made, expected 2") as caught:
            captured.assert_connections(2)
        assert "connection 0" not in str(caught.value)


def test_captures_one_in_the_other(server):
    with server.capture() as outer:
        talk(server, b"1")
        with server.capture() as inner:
            talk(server, b"2")
        talk(server, b"3")
    outer.assert_received(b"123")
    inner.assert_received(b"2")


def test_capture_waits_for_its_own_connections(server):
    with server.capture() as captured:
        waiting = later(captured.wait_received, b"hello")
        with connect_blocking(server.address) as sock:
            sock.sendall(b"hello")
            assert waiting.result(DEADLINE) == b"hello"
            sock.close()
            captured.wait_closed()


def test_a_client_is_read_to_the_end(server):
    """The pattern of the documentation: the client closes, the server is asked what it got."""
    with connect_blocking(server.address) as sock:
        sock.sendall(b"hello")
        sock.shutdown(1)
        assert read_to_eof(sock) == b"hello"
    server.assert_connections(1)
    server.assert_all_closed()
    server.assert_received(b"hello")


def test_an_attribute_waits_longer_for_the_loop_than_a_wait_for_its_state():
    """A short `timeout` is not the time in which a busy machine must give the server's thread its turn."""

    begun = threading.Event()

    def slow(data):
        begun.set()
        time.sleep(6 * SOON)
        return data

    with echo_server(reply=slow, timeout=SOON) as server, connect_blocking(server.address) as sock:
        sock.sendall(b"x")
        assert begun.wait(DEADLINE)
        assert server.connections[0].index == 0
        assert server.stats.accepted == 1
        assert sock.recv(1) == b"x"


def test_no_more_than_ten_connections_are_listed(impatient):
    socks = [connect_blocking(impatient.address) for _ in range(12)]
    with pytest.raises(TimeoutError) as caught:
        impatient.wait_connections(13)
    first, *lines = str(caught.value).splitlines()
    assert first == f"12 connections within {SOON:g} s, not 13"
    assert [line.split(" of ")[0] for line in lines] == [f"  connection {n}" for n in range(10)] + ["  and 2 more"]
    for sock in socks:
        sock.close()


@pytest.mark.parametrize("make", [echo_server, async_echo_server])
def test_a_capture_whose_block_has_not_begun_is_empty(make):
    server = make()
    server.start() if make is echo_server else server.start_blocking()
    with connect_blocking(server.address) as sock:
        echo(sock, b"outside")
        captured = server.capture()
        assert (captured.connection_count, captured.connections, captured.bytes_in) == (0, (), 0)
        assert server.connection_count == 1
    server.stop() if make is echo_server else server.stop_blocking()
