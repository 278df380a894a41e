"""One connection of the fixture: what it says of itself, and how a test steers it."""

import contextlib
import random
import select
import socket
import time

import pytest

from clients import connect_blocking, make_socket, read_exactly, read_to_eof, reset_socket
from descriptors import open_descriptors
from fastecho.testing import Chunk, echo_server
from patience import DEADLINE, wait_until

FAMILIES = ["tcp", "tcp6", "dual", "unix"]
resets = pytest.mark.parametrize("server", FAMILIES[:-1], indirect=True)  # a UNIX socket has no RST


@pytest.fixture(params=FAMILIES)
def server(request):
    with echo_server(family=request.param) as server:
        yield server


@pytest.fixture
def sock(server):
    with connect_blocking(server.address) as sock:
        yield sock


@pytest.fixture
def session(server, sock):
    (session,) = server.connections
    return session


def echo(sock, data):
    sock.sendall(data)
    assert read_exactly(sock, len(data)) == data


def gone(sock):
    """Read up to the reset."""
    got = b""
    with pytest.raises(ConnectionResetError):  # noqa: PT012
        while part := sock.recv(65536):
            got += part
    return got


def nothing_comes(sock):
    """The kernel has nothing for `sock` now."""
    return not select.select([sock], [], [], 0)[0]


# Attributes


def test_a_new_connection(server, sock, session):
    assert session.index == 0
    assert session.is_open
    assert (session.tls, session.closed, session.close_reason) == (None, None, None)
    assert (session.received, session.sent, session.chunks, session.sent_chunks) == (b"", b"", (), ())
    assert (session.bytes_in, session.bytes_out, session.truncated) == (0, 0, False)
    assert (session.half_closed, session.faults_fired) == (False, ())


def test_the_peer_is_the_client(server, sock, session):
    if sock.family == socket.AF_UNIX:
        assert not session.peer
    else:
        assert session.peer == sock.getsockname()


def test_the_index_is_the_order_of_accept(server):
    socks = [connect_blocking(server.address) for _ in range(5)]
    for number, sock in reversed(list(enumerate(socks))):
        sock.sendall(b"%d" % number)
        read_exactly(sock, 1)
    assert [(session.index, session.received) for session in server.connections] == [
        (number, b"%d" % number) for number in range(5)
    ]
    for sock in socks:
        sock.close()


def test_times_are_monotonic_seconds(server):
    before = time.monotonic()
    with connect_blocking(server.address) as sock:
        echo(sock, b"one")
        echo(sock, b"two")
        between = time.monotonic()
    server.wait_closed()
    after = time.monotonic()
    (session,) = server.connections
    times = [before, session.opened]
    for one, other in zip(session.chunks, session.sent_chunks, strict=True):
        times += [one.time, other.time]
    assert [*times, between] == sorted([*times, between])
    assert times[-1] <= session.closed <= after


def test_what_was_received_and_sent_in_which_chunks(server, sock, session):
    for data in (b"one", b"second", b"3"):
        echo(sock, data)
    assert session.received == session.sent == b"onesecond3"
    for chunks in (session.chunks, session.sent_chunks):
        assert all(isinstance(chunk, Chunk) for chunk in chunks)
        assert [(chunk.offset, chunk.size) for chunk in chunks] == [(0, 3), (3, 6), (9, 1)]
    assert (session.bytes_in, session.bytes_out) == (10, 10)


def test_what_is_recorded_is_there_when_the_client_has_its_echo(server, sock, session):
    """No wait between the client's recv and the record: there is nothing to race with."""
    expected = b""
    for number in range(300):
        data = b"%d," % number
        echo(sock, data)
        expected += data
        assert session.received == expected
        assert session.sent == expected


def test_chunks_cover_what_was_received(server):
    data = random.Random(1).randbytes(3_000_000)
    with connect_blocking(server.address) as sock:
        sock.setblocking(False)
        view, got = memoryview(data), bytearray()

        def turn():
            nonlocal view
            with contextlib.suppress(BlockingIOError):
                view = view[sock.send(view) :] if view else view
            with contextlib.suppress(BlockingIOError):
                got.extend(sock.recv(1 << 20))
            return len(got) == len(data)

        while not turn():
            pass
    server.wait_closed()
    (session,) = server.connections
    assert (session.bytes_in, session.bytes_out) == (len(data), len(data))
    assert session.received == data[: 1 << 20] == session.sent
    assert session.truncated
    for chunks in (session.chunks, session.sent_chunks):
        at = 0
        for chunk in chunks:
            assert chunk.offset == at
            assert chunk.size > 0
            at += chunk.size
        assert at >= 1 << 20


@pytest.mark.parametrize("limit", [0, 1, 5, 6])
def test_the_record_is_bounded(limit):
    with echo_server(record_limit=limit) as server, connect_blocking(server.address) as sock:
        for data in (b"abc", b"def", b"ghi"):
            echo(sock, data)
        (session,) = server.connections
        assert session.received == session.sent == b"abcdefghi"[:limit]
        assert (session.bytes_in, session.bytes_out) == (9, 9)
        assert session.truncated
        assert (server.bytes_in, server.bytes_out) == (9, 9)


def test_a_record_of_exactly_the_limit_is_whole():
    with echo_server(record_limit=9) as server, connect_blocking(server.address) as sock:
        echo(sock, b"abcdefghi")
        assert not server.connections[0].truncated
        assert server.connections[0].received == b"abcdefghi"
        echo(sock, b"j")
        assert server.connections[0].truncated


def test_the_limit_is_for_each_connection_and_direction():
    with echo_server(record_limit=4, reply=lambda data: b"") as server:
        for _ in range(2):
            with connect_blocking(server.address) as sock:
                sock.sendall(b"abcdef")
                sock.shutdown(socket.SHUT_WR)
                assert read_to_eof(sock) == b""
        assert [session.received for session in server.connections] == [b"abcd", b"abcd"]
        assert [session.sent for session in server.connections] == [b"", b""]


def test_the_clients_fin_is_seen():
    """While the echo is still on its way: a half-closed session is open."""
    with echo_server(linger_timeout=60) as server, connect_blocking(server.address) as sock:
        (session,) = server.connections
        echo(sock, b"x")
        assert not session.half_closed
        session.pause()
        session.resume()
        sock.shutdown(socket.SHUT_WR)
        wait_until(lambda: session.half_closed, "the client's FIN is seen")
        assert read_to_eof(sock) == b""


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda sock, session: sock.close(), "eof"),
        (lambda sock, session: reset_socket(sock), "reset"),
        (lambda sock, session: session.reset(), "test"),
        (lambda sock, session: session.close(), "test"),
    ],
    ids=["client closes", "client resets", "test resets", "test closes"],
)
def test_why_it_closed(end, reason):
    with echo_server() as server, connect_blocking(server.address) as sock:
        echo(sock, b"x")
        (session,) = server.connections
        end(sock, session)
        if reason == "test" and session.is_open:
            sock.close()
        session.wait_closed()
        assert session.close_reason == reason
        assert not session.is_open
        assert session.closed >= session.opened
        assert server.open_connections == ()


def test_why_it_closed_when_the_server_stopped():
    with echo_server() as server:
        sock = connect_blocking(server.address)
        echo(sock, b"x")
        (session,) = server.connections
    assert (session.close_reason, session.is_open) == ("server_stopped", False)
    assert session.closed is not None
    with sock:
        assert gone(sock) == b""


# Steering


def test_a_test_sends_bytes_to_the_client(server, sock, session):
    session.send(b"first")
    assert read_exactly(sock, 5) == b"first"
    echo(sock, b"echo")
    session.send(b"again")
    assert read_exactly(sock, 5) == b"again"
    assert session.sent == b"firstechoagain"
    assert session.received == b"echo"
    assert [(chunk.offset, chunk.size) for chunk in session.sent_chunks] == [(0, 5), (5, 4), (9, 5)]


def test_send_more_than_fits(server, sock, session):
    """It does not block: what the client does not take waits in the server."""
    data = random.Random(2).randbytes(8 << 20)
    session.send(data)
    session.send(b"end")
    assert read_exactly(sock, len(data) + 3) == data + b"end"
    assert session.bytes_out == len(data) + 3


def test_send_to_one_of_two(server):
    with connect_blocking(server.address) as one, connect_blocking(server.address) as two:
        server.connections[1].send(b"two")
        server.connections[0].send(b"one")
        assert (read_exactly(one, 3), read_exactly(two, 3)) == (b"one", b"two")


def test_send_at_once_after_the_connect(server):
    """The loop may not have seen the connection yet."""
    for number in range(50):
        with connect_blocking(server.address) as sock:
            server.connections[number].send(b"hello")
            assert read_exactly(sock, 5) == b"hello"


@resets
def test_send_after_the_end_is_an_error(server, sock, session):
    session.reset()
    session.wait_closed()
    with pytest.raises(BrokenPipeError):
        session.send(b"too late")


def test_send_after_the_fin_is_an_error(server, sock, session):
    session.shutdown_write()
    assert read_to_eof(sock) == b""
    with pytest.raises(BrokenPipeError):
        session.send(b"too late")


def test_send_takes_bytes_only(server, sock, session):
    with pytest.raises(TypeError):
        session.send("text")
    echo(sock, b"unharmed")


@pytest.mark.parametrize("family", ["tcp", "tcp6", "dual"])
def test_reset_is_a_reset(family):
    with echo_server(family=family) as server, connect_blocking(server.address) as sock:
        echo(sock, b"x")
        server.connections[0].reset()
        assert gone(sock) == b""
        server.connections[0].wait_closed()


@resets
def test_reset_one_of_two(server):
    with connect_blocking(server.address) as one, connect_blocking(server.address) as two:
        echo(one, b"1")
        echo(two, b"2")
        server.connections[0].reset()
        server.connections[0].wait_closed()
        echo(two, b"still")
        assert [session.is_open for session in server.connections] == [False, True]


@resets
def test_reset_twice_is_harmless(server, sock, session):
    session.reset()
    session.reset()
    session.close()
    session.wait_closed()
    session.reset()
    session.close()
    session.shutdown_write()
    assert session.close_reason == "test"


@resets
@pytest.mark.parametrize("how", ["pause", "resume"])
def test_nothing_can_be_paused_once_it_is_closed(server, sock, session, how):
    session.reset()
    session.wait_closed()
    with pytest.raises(BrokenPipeError, match="connection 0 is closed"):
        getattr(session, how)()


def test_close_sends_what_is_due_first(server, sock, session):
    data = random.Random(3).randbytes(2 << 20)
    session.send(data)
    session.close()
    assert read_to_eof(sock) == data
    sock.close()
    session.wait_closed()
    assert session.close_reason == "test"


def test_close_is_a_fin_though_data_is_unread():
    """A kernel would make it a reset (hazard 11): the client would lose the echo that is under way."""
    for _ in range(30):
        with echo_server() as server, connect_blocking(server.address) as sock:
            echo(sock, b"x")
            (session,) = server.connections
            session.pause()
            sock.sendall(b"never read" * 1000)
            session.send(b"farewell")
            session.close()
            assert read_to_eof(sock) == b"farewell"


def test_shutdown_write_reads_on(server, sock, session):
    session.send(b"last")
    session.shutdown_write()
    assert read_to_eof(sock) == b"last"
    sock.sendall(b"still received")
    session.wait_received(b"still received")
    assert session.is_open
    sock.close()
    session.wait_closed()
    assert session.received == b"still received"
    assert session.sent == b"last"


def test_pause_and_resume(server, sock, session):
    """While it is paused nothing is read; then all of it is."""
    echo(sock, b"before")
    session.pause()
    sock.sendall(b"while paused")
    with connect_blocking(server.address) as other:
        for _ in range(20):
            echo(other, b"the loop turns, and others are served")
    assert session.received == b"before"
    assert session.bytes_in == 6
    assert nothing_comes(sock)
    session.resume()
    assert read_exactly(sock, 12) == b"while paused"
    assert session.received == b"beforewhile paused"


def test_pause_pushes_the_client_back():
    with echo_server() as server, make_socket(server.address, sndbuf=4096) as sock:
        sock.connect(server.address)
        echo(sock, b"x")
        (session,) = server.connections
        session.pause()
        sock.setblocking(False)
        sent, chunk = 0, bytes(4096)
        with pytest.raises(BlockingIOError):  # noqa: PT012
            while sent < 1 << 28:
                sent += sock.send(chunk)
        assert session.bytes_in == 1
        session.resume()
        got = 0

        def drained():
            nonlocal got
            with contextlib.suppress(BlockingIOError):
                got += len(sock.recv(1 << 20))
            return got == sent

        wait_until(drained, "all that was sent comes back")


def test_pause_at_once_after_the_connect(server):
    for _ in range(30):
        with connect_blocking(server.address) as sock:
            session = server.connections[-1]
            session.pause()
            sock.sendall(b"x")
            with connect_blocking(server.address):
                pass
            assert session.bytes_in == 0
            session.resume()
            assert read_exactly(sock, 1) == b"x"
            assert session.received == b"x"


def test_a_paused_session_can_send(server, sock, session):
    session.pause()
    session.send(b"hello")
    assert read_exactly(sock, 5) == b"hello"


def test_a_stop_ends_a_paused_session():
    with echo_server() as server:
        sock = connect_blocking(server.address)
        echo(sock, b"x")
        server.connections[0].pause()
        sock.sendall(b"unread")
    assert server.connections[0].close_reason == "server_stopped"
    with sock:
        gone(sock)


@resets
def test_steering_does_not_wait_for_the_peer(server):
    """A client that takes nothing, and one that was reset, delay no other."""
    with connect_blocking(server.address) as sock:
        (session,) = server.connections
        for _ in range(50):
            session.send(bytes(1 << 16))
        session.shutdown_write()
        session.close()
        session.reset()
        session.wait_closed()
        assert session.bytes_in == 0
        assert sock.fileno() >= 0


def test_many_connections_made_and_closed_in_any_order():
    choose = random.Random(5)
    with echo_server() as server:
        socks = {number: connect_blocking(server.address) for number in range(200)}
        for number in choose.sample(range(200), 200):
            sock = socks[number]
            echo(sock, b"%d" % number)
            choose.choice([sock.close, lambda sock=sock: reset_socket(sock)])()
        server.assert_all_closed()
        assert [session.received for session in server.connections] == [b"%d" % number for number in range(200)]
        assert {session.close_reason for session in server.connections} == {"eof", "reset"}
        assert server.stats.ends["eof"] + server.stats.ends["reset"] == 200


def test_a_session_says_what_it_is(server, sock, session):
    echo(sock, b"12345")
    assert "5 B in" in repr(session)
    if sock.family != socket.AF_UNIX:
        assert str(sock.getsockname()[1]) in repr(session)


def test_what_is_sent_before_the_client_reads_arrives_in_order(server, sock, session):
    """More than a UNIX socket takes, piece by piece: it takes a piece as a whole or not at all."""
    pieces = [bytes([n]) * 32768 for n in range(64)]
    for piece in pieces:
        session.send(piece)
    assert read_exactly(sock, 64 * 32768) == b"".join(pieces)
    echo(sock, b"hello")
    assert session.sent == (b"".join(pieces) + b"hello")[: 1 << 20]


def test_nothing_is_kept_of_a_connection_that_was_reset_before_it_was_accepted():
    """The numbers agree with each other."""
    with echo_server() as server:
        for _ in range(100):
            reset_socket(connect_blocking(server.address))
        server.wait_closed()
        assert server.connection_count == len(server.connections) == server.stats.accepted
        assert {session.close_reason for session in server.connections} <= {"reset", "eof"}
        with connect_blocking(server.address) as sock:
            echo(sock, b"served")


def test_descriptors_of_closed_connections_are_closed():
    with echo_server() as first, connect_blocking(first.address) as sock:
        echo(sock, b"x")
    with echo_server() as server:
        before = open_descriptors()
        for _ in range(50):
            with connect_blocking(server.address) as sock:
                echo(sock, b"x")
        server.assert_all_closed()
        wait_until(lambda: open_descriptors() == before, "the descriptors are those of before", DEADLINE)
