"""A process that forks while servers of the fixture run (hazard 35)."""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import traceback

import pytest

from clients import connect_blocking, local_port, read_exactly
from datagrams import ask, udp_client
from fastecho.testing import echo_server
from freed_ports import assert_port_freed
from patience import DEADLINE, wait_until

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def echo(sock, data=b"hello"):
    sock.sendall(data)
    assert read_exactly(sock, len(data)) == data


def refuses(address):
    try:
        connect_blocking(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


class Child:
    """A forked child: runs `body`, says how that went, and lives until it is let go."""

    def __init__(self, body):
        self.hold, self.release = os.pipe()
        result, says = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.release)
                os.close(result)
                try:
                    said = f"ok {body()}"
                except BaseException:
                    said = traceback.format_exc()
                os.write(says, said.encode())
                os.close(says)
                os.read(self.hold, 1)
            finally:
                os._exit(0)
        os.close(says)
        with open(result, "rb") as file:
            # To its end: the child has closed its side, and lives on.
            self.said = file.read().decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.release)
        os.close(self.hold)
        os.waitpid(self.pid, 0)


def own_server():
    with echo_server() as server, connect_blocking(server.address) as sock:
        echo(sock)
        server.assert_received(b"hello")
        return server.port


@pytest.mark.parametrize("family", ["tcp", "tcp6", "dual", "unix"])
def test_a_stop_really_closes_the_port_and_the_connections(family):
    """Although the child lives, and has had copies of both."""
    server = echo_server(family=family).start()
    sock = connect_blocking(server.address)
    with sock:
        echo(sock)
        with Child(lambda: "nothing") as child:
            assert child.said == "ok nothing"
            echo(sock, b"still served")
            server.stop()
            assert refuses(server.address)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""


def test_a_stop_really_closes_the_port_of_udp():
    server = echo_server(udp=True).start()
    with udp_client(server.address) as client, Child(lambda: ""):
        assert ask(client, b"still served") == b"still served"
        server.stop()
        client.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            client.recv(1)


def test_an_end_in_the_parent_is_an_end_for_the_client():
    """A FIN goes out though the child has a copy of the connection."""
    with echo_server() as server, connect_blocking(server.address) as sock:
        echo(sock)
        with Child(lambda: ""):
            server.connections[0].close()
            assert sock.recv(1) == b""


def test_a_reset_in_the_parent_is_a_reset_for_the_client():
    with echo_server() as server, connect_blocking(server.address) as sock:
        echo(sock)
        with Child(lambda: ""):
            server.connections[0].reset()
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


def test_a_faulty_connection_ends_though_the_child_lives():
    with echo_server(faults=["close(on=b'!')"]) as server, connect_blocking(server.address) as sock:
        echo(sock)
        with Child(lambda: ""):
            sock.sendall(b"!")
            while got := sock.recv(10):
                assert got == b"!"


def test_a_fork_with_a_connection_that_was_not_accepted_yet():
    for _ in range(10):
        with echo_server() as server, connect_blocking(server.address) as sock:
            with Child(lambda: ""):
                echo(sock)
                server.stop()
                assert refuses(server.address)


@pytest.mark.parametrize("state", ["down", "blackhole"])
def test_a_port_that_was_held_is_free(state):
    children = contextlib.ExitStack()

    def use():
        server = echo_server().start()
        getattr(server, state)()
        children.enter_context(Child(lambda: ""))
        server.stop()
        return server.address

    with children:
        assert_port_freed(use)


def test_a_child_starts_a_server_of_its_own():
    with echo_server() as server:
        with Child(own_server) as child:
            assert child.said.startswith("ok "), child.said
            assert child.said != f"ok {server.port}"
        with connect_blocking(server.address) as sock:
            echo(sock)
        server.assert_connections(1)


def test_a_child_of_a_child_too():
    def body():
        own_server()
        with Child(own_server) as grandchild:
            assert grandchild.said.startswith("ok "), grandchild.said
        return own_server()

    with echo_server(), Child(body) as child:
        assert child.said.startswith("ok "), child.said


def test_a_child_is_a_client_of_the_parent():
    with echo_server() as server:

        def body():
            with connect_blocking(server.address) as sock:
                echo(sock, b"from the child")

        with Child(body) as child:
            assert child.said == "ok None"
            server.assert_received(b"from the child")
            server.assert_all_closed()


USES = {
    "connections": lambda server: server.connections,
    "wait": lambda server: server.wait_connections(1),
    "assertion": lambda server: server.assert_received(b"hello"),
    "fault": lambda server: server.arm("refuse()"),
    "down": lambda server: server.down(),
    "reset": lambda server: server.reset(),
}


@pytest.mark.parametrize("use", [*USES, "send", "close"])
def test_objects_of_the_parent_fail_in_the_child_with_a_clear_error(use):
    """At once, and in a line that says why: nothing of the child could ever answer."""
    with echo_server() as server, connect_blocking(server.address) as sock:
        echo(sock)
        (session,) = server.connections

        def body():
            try:
                if use == "send":
                    session.send(b"x")
                elif use == "close":
                    session.close()
                else:
                    USES[use](server)
            except RuntimeError as error:
                return error
            return "no error"

        with Child(body) as child:
            assert child.said.startswith("ok "), child.said
            assert "process" in child.said
            assert "\n" not in child.said
        # And the parent's are unharmed.
        echo(sock, b"still")
        server.assert_received(b"hellostill")


def test_the_address_is_known_in_the_child():
    """Also if it was not read before the fork."""
    with echo_server() as server, Child(lambda: (server.address, server.port, server.host, server.url)) as child:
        assert child.said == f"ok {(server.address, server.port, server.host, server.url)}"


def test_leaving_the_block_in_the_child_changes_nothing_for_the_parent():
    """A child that runs on out of the `with` block, as one that raises does."""
    server = echo_server()
    with server, connect_blocking(server.address) as sock:
        echo(sock)

        def body():
            with contextlib.suppress(RuntimeError):
                server.__exit__(None, None, None)

        with Child(body) as child:
            assert child.said == "ok None", child.said
        echo(sock)
        with connect_blocking(server.address) as other:
            echo(other)


def test_the_path_of_a_unix_socket_outlives_the_child():
    script = """
import os, socket
from fastecho.testing import echo_server
with echo_server(family="unix") as server:
    pid = os.fork()
    if pid == 0:
        raise SystemExit
    os.waitpid(pid, 0)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(server.address)
        sock.sendall(b"x")
        print(sock.recv(1))
print(os.path.exists(server.address))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=2 * DEADLINE, text=True)
    assert done.stdout == "b'x'\nFalse\n", done.stderr


def test_many_forks_while_others_serve():
    with echo_server() as server, connect_blocking(server.address) as sock:
        for _ in range(20):
            with Child(own_server) as child:
                assert child.said.startswith("ok "), child.said
                echo(sock)
                with connect_blocking(server.address) as other:
                    echo(other)
        sock.close()
        server.assert_all_closed()
        server.assert_connections(21)


def test_a_pool_of_forked_processes():
    with echo_server() as server, multiprocessing.get_context("fork").Pool(2) as pool:
        assert len(set(pool.map(_own_port, range(4)))) >= 1
        with connect_blocking(server.address) as sock:
            echo(sock)


def _own_port(_):
    return own_server()


def test_nothing_is_left_in_the_child():
    """It closes its copies of the listener and of the connections as soon as it is there."""
    with echo_server() as server, connect_blocking(server.address) as sock:
        echo(sock)
        port = server.port

        def body():
            return [fd for fd in map(int, os.listdir("/dev/fd")) if local_port(fd) == port]

        with Child(body) as child:
            assert child.said == "ok []"
    wait_until(lambda: refuses(server.address), "the port is closed")
