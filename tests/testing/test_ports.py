"""A server that is down, dark, or back again: at the same address, which no other program takes meanwhile."""

import errno
import random
import select
import socket
import struct
import sys
import threading

import pytest

from clients import connect_blocking, make_socket, read_exactly, read_to_eof
from descriptors import open_descriptors
from fastecho.testing import _listeners, echo_server
from freed_ports import assert_port_freed
from patience import DEADLINE, wait_until

FAMILIES = ["tcp", "tcp6", "dual", "unix"]
NETWORKS = ["tcp", "tcp6", "dual"]


@pytest.fixture(params=FAMILIES)
def server(request):
    with echo_server(family=request.param) as server:
        yield server


@pytest.fixture(params=NETWORKS)
def network(request):
    with echo_server(family=request.param) as server:
        yield server


def echo(sock, data=b"hello"):
    sock.sendall(data)
    assert read_exactly(sock, len(data)) == data


def serves(server):
    with connect_blocking(server.address) as sock:
        echo(sock)


def refuses(address):
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        connect_blocking(address)


def gone(sock):
    """Reset: on a UNIX socket, where nothing is lost that was sent, an end."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return
    assert sock.family == socket.AF_UNIX


def rival(address, reuse_address, reuse_port):
    sock = make_socket(address)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse_address)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
    return sock


def taken_by(address, reuse_address, reuse_port):
    """Whether a rival gets the address."""
    with rival(address, reuse_address, reuse_port) as sock:
        try:
            sock.bind(address)
            sock.listen()
        except OSError as error:
            assert error.errno == errno.EADDRINUSE  # noqa: PT017
            return False
        return True


# Down and up


def test_down_refuses_and_up_serves_at_the_same_address(server):
    address = server.address
    for _ in range(5):
        serves(server)
        server.down()
        for _ in range(3):
            refuses(address)
        server.up()
        assert server.address == address
    serves(server)
    server.assert_connections(6)


@pytest.mark.parametrize("state", ["down", "blackhole"])
def test_the_address_is_known_though_it_was_not_asked_for_before(server, state):
    getattr(server, state)()
    address = server.address
    server.up()
    assert server.address == address
    serves(server)


def test_both_families_are_down():
    with echo_server(family="dual") as server:
        server.down()
        refuses(("127.0.0.1", server.port))
        refuses(("::1", server.port))
        server.up()
        for host in ("127.0.0.1", "::1"):
            with connect_blocking((host, server.port)) as sock:
                echo(sock)


def test_twice_is_as_once(server):
    server.up()
    serves(server)
    server.down()
    server.down()
    refuses(server.address)
    server.up()
    server.up()
    serves(server)


def test_up_listens_when_it_returns(server):
    for number in range(1, 101):
        server.down()
        server.up()
        with connect_blocking(server.address):
            assert server.connection_count == number


def test_down_refuses_when_it_returns(server):
    """Also those that come from many sides at the time."""
    stop = threading.Event()
    outcomes = set()

    def knock():
        while not stop.is_set():
            try:
                with connect_blocking(server.address) as sock:
                    echo(sock)
            except (OSError, EOFError) as error:
                outcomes.add(type(error))

    threads = [threading.Thread(target=knock) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            server.down()
            refuses(server.address)
            server.up()
            serves(server)
    finally:
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
    assert outcomes <= {ConnectionRefusedError, ConnectionResetError, BrokenPipeError, FileNotFoundError, EOFError}


@pytest.mark.parametrize("reuse_port", [False, True])
@pytest.mark.parametrize("reuse_address", [False, True])
@pytest.mark.parametrize("state", ["up", "down", "up again", "blackhole"])
def test_no_other_socket_takes_the_port(network, state, reuse_address, reuse_port):
    if state in ("down", "up again"):
        network.down()
    if state == "up again":
        network.up()
    if state == "blackhole":
        network.blackhole()
    assert not taken_by(network.address, reuse_address, reuse_port)
    network.up()
    serves(network)


@pytest.mark.parametrize("reuse", [False, True])
def test_no_other_socket_takes_the_port_in_between(network, reuse):
    """A rival that tries all the time, while it goes down and up, gets in nowhere."""
    stop, caught, address = threading.Event(), [], network.address

    def try_it():
        while not stop.is_set():
            if taken_by(address, reuse, reuse):
                caught.append(address)

    thread = threading.Thread(target=try_it)
    thread.start()
    try:
        for _ in range(100):
            network.down()
            refuses(network.address)
            network.up()
            serves(network)
    finally:
        stop.set()
        thread.join(DEADLINE)
    assert caught == []


@pytest.mark.parametrize("family", NETWORKS)
def test_the_port_is_free_after_a_stop_while_down(family):
    def use():
        with echo_server(family=family) as server:
            server.down()
            return server.address

    assert_port_freed(use)


@pytest.mark.parametrize("family", NETWORKS)
def test_the_port_is_free_after_a_stop(family):
    def use():
        with echo_server(family=family) as server:
            serves(server)
            return server.address

    assert_port_freed(use)


def test_open_connections_outlive_a_down(server):
    """What is refused is new connections; `close_all` ends the others."""
    with connect_blocking(server.address) as sock:
        echo(sock)
        server.down()
        echo(sock, b"still there")
        server.close_all("fin")
        assert read_to_eof(sock) == b""
    server.wait_closed()
    server.up()
    serves(server)


def test_a_stop_while_down_ends_the_open_connections(server):
    with connect_blocking(server.address) as sock:
        echo(sock)
        server.down()
        assert [session.index for session in server.stop()] == [0]
        gone(sock)


# Blackhole


def test_a_blackhole_answers_no_syn(network):
    network.blackhole()
    knocking = [make_socket(network.address) for _ in range(10)]
    try:
        poll = select.poll()
        for sock in knocking:
            sock.setblocking(False)
            assert sock.connect_ex(network.address) == errno.EINPROGRESS
            poll.register(sock, select.POLLOUT)
        # An answer on loopback comes before connect() returns; this leaves room for a machine that is late.
        assert poll.poll(200) == []
    finally:
        for sock in knocking:
            sock.close()
    network.up()
    serves(network)
    network.assert_connections(1)


def test_a_client_that_knocks_at_a_blackhole_gets_in_once_it_is_up(network):
    """Its kernel repeats the SYN after a second."""
    network.blackhole()
    with make_socket(network.address) as sock:
        sock.setblocking(False)
        assert sock.connect_ex(network.address) == errno.EINPROGRESS
        network.up()
        sock.settimeout(DEADLINE)
        assert select.select([], [sock], [], DEADLINE)[1]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        echo(sock)


def test_a_blackhole_freezes_open_connections(server):
    with connect_blocking(server.address) as sock:
        echo(sock)
        server.blackhole()
        sock.sendall(b"into the dark")
        assert select.select([sock], [], [], 0.1)[0] == []
        assert server.bytes_in == 5
        server.up()
        assert read_exactly(sock, 13) == b"into the dark"
        echo(sock, b"awake")


def test_a_blackhole_of_a_connection_that_was_just_made(server):
    """The loop has had no turn since: it is frozen all the same, and not lost."""
    for _ in range(20):
        with connect_blocking(server.address) as sock:
            server.blackhole()
            sock.sendall(b"x")
            server.up()
            assert read_exactly(sock, 1) == b"x"


def test_a_unix_blackhole_takes_the_connection_and_serves_it_later():
    with echo_server(family="unix") as server:
        server.blackhole()
        with connect_blocking(server.address) as sock:
            sock.sendall(b"hello")
            assert select.select([sock], [], [], 0.1)[0] == []
            server.up()
            assert read_exactly(sock, 5) == b"hello"


def test_every_change_of_state(network):
    """From each to each; the address stays what it is."""
    address = network.address

    def is_dark():
        with make_socket(address) as sock:
            sock.setblocking(False)
            assert sock.connect_ex(address) == errno.EINPROGRESS

    checks = {"up": lambda: serves(network), "down": lambda: refuses(address), "blackhole": is_dark}
    order = ["up", "down", "blackhole", "up", "blackhole", "blackhole", "down", "down", "up", "up", "down"]
    for state in order:
        getattr(network, state)()
        checks[state]()
    assert network.address == address


def test_a_stop_in_the_dark(server):
    with connect_blocking(server.address) as sock:
        echo(sock)
        server.blackhole()
        sock.sendall(b"lost")
        assert [session.index for session in server.stop()] == [0]
        gone(sock)
    refuses(server.address)


@pytest.mark.parametrize("state", ["down", "blackhole"])
def test_nothing_is_left_of_it(state):
    with echo_server() as first:
        serves(first)
    before = open_descriptors()
    for family in FAMILIES:
        with echo_server(family=family) as server:
            serves(server)
            getattr(server, state)()
    wait_until(lambda: open_descriptors() == before, "the descriptors are those of before")


# Close all, and reset


def test_close_all_ends_each_connection(server):
    socks = [connect_blocking(server.address) for _ in range(5)]
    for sock in socks:
        echo(sock)
    server.close_all()
    for sock in socks:
        assert read_to_eof(sock) == b""
        sock.close()
    server.wait_closed()
    assert {session.close_reason for session in server.connections} == {"test"}
    serves(server)


def test_close_all_sends_what_is_due_first(server):
    data = bytes(range(256)) * 8192
    with connect_blocking(server.address) as sock:
        echo(sock)
        server.connections[0].send(data)
        server.close_all("fin")
        assert read_to_eof(sock) == data


def test_close_all_with_resets(network):
    socks = [connect_blocking(network.address) for _ in range(5)]
    for sock in socks:
        echo(sock)
    network.close_all(how="reset")
    for sock in socks:
        gone(sock)
        sock.close()
    network.wait_closed()
    assert {session.close_reason for session in network.connections} == {"test"}
    serves(network)


def test_close_all_takes_those_that_were_just_made(network):
    for _ in range(30):
        with connect_blocking(network.address) as sock:
            network.close_all("reset")
            gone(sock)


def test_close_all_without_connections(network):
    network.close_all()
    network.close_all("reset")
    serves(network)


def test_close_all_in_another_way_is_refused(server):
    with connect_blocking(server.address) as sock:
        echo(sock)
        with pytest.raises(ValueError, match="slowly"):
            server.close_all("slowly")
        echo(sock)


def test_reset_forgets_everything(network):
    """Nothing of it can be told from a server that was just started, but the address."""
    serves(network)
    with connect_blocking(network.address) as sock:
        echo(sock)
        armed = network.arm("refuse()")
        network.down()
        address = network.address
        network.reset()
        gone(sock)
    assert network.address == address
    assert (network.connections, network.open_connections, network.connection_count) == ((), (), 0)
    assert (network.bytes_in, network.bytes_out, network.fault_log, network.events()) == (0, 0, (), [])
    network.assert_no_connections()
    network.check_fired()
    serves(network)
    assert [session.index for session in network.connections] == [0]
    network.assert_received(b"hello")
    assert armed.fired == 0


def test_reset_keeps_the_faults_from_the_start_and_counts_them_anew():
    with echo_server(faults=["close(after_sent=2).nth(1)"]) as server:
        for _ in range(3):
            with connect_blocking(server.address) as sock:
                sock.sendall(b"hello")
                assert read_to_eof(sock) == b"he"
            serves(server)
            server.reset()


def test_reset_brings_back_the_reply(server):
    server.reply = "discard"
    server.reset()
    serves(server)


def test_reset_of_one_that_was_just_made(network):
    for _ in range(30):
        with connect_blocking(network.address) as sock:
            network.reset()
            gone(sock)
        assert network.connection_count == 0


def test_reset_in_the_dark(network):
    network.blackhole()
    network.reset()
    serves(network)


def test_a_server_can_be_steered_from_any_thread(server):
    failures = []

    def work():
        try:
            for _ in range(20):
                server.down()
                server.up()
                server.close_all("fin")
                assert server.stats.accepted >= 0
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * DEADLINE)
    assert failures == []
    server.up()
    serves(server)


def test_the_client_has_lingering_connections_in_time_wait(network):
    """Ends of either side leave TIME_WAIT behind; the port is had again all the same (hazard 40)."""
    with connect_blocking(network.address) as sock:
        echo(sock)
        network.close_all()
        assert read_to_eof(sock) == b""
    network.down()
    network.up()
    serves(network)
    network.stop()
    with echo_server(port=network.port, host=network.host) as again:
        serves(again)


def test_linger_of_a_reset_client_is_no_error(server):
    sock = connect_blocking(server.address)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.sendall(b"x")
    sock.close()
    server.down()
    server.wait_closed()
    server.up()
    serves(server)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel chooses the port")
def test_another_port_is_drawn_for_one_that_is_taken(monkeypatch):
    class Draws(random.Random):
        def randrange(self, *bounds):
            return drawn.pop() if drawn else super().randrange(*bounds)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        drawn = [taken.getsockname()[1]] * 2
        monkeypatch.setattr(_listeners, "_drawn", Draws())
        with echo_server() as server:
            assert drawn == []
            assert server.port != taken.getsockname()[1]
            serves(server)
