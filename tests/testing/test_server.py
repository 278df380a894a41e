"""echo_server(): what it is when it starts, what it can be given, and what it says of itself."""

import asyncio
import contextlib
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio

from clients import connect_blocking, local_port, read_exactly, read_to_eof
from datagrams import ask as datagram
from datagrams import udp_client
from fastecho import ServerConfig
from fastecho.config import options
from fastecho.errors import AddressInUseError, ConfigError
from fastecho.testing import certificates, echo_server
from patience import DEADLINE, WITHOUT_SLOW_CALLBACKS, wait_until

FAMILIES = ["tcp", "tcp6", "dual", "unix"]
BINARY = random.Random(4).randbytes(300_000) + b"\0"


def ask(address, data, before=b""):
    with connect_blocking(address) as sock:
        sock.sendall(before + data)
        return read_exactly(sock, len(data))


def echo_whole(address, data):
    """All of `data` through one connection, written and read at once, up to the server's FIN."""
    with connect_blocking(address) as sock, ThreadPoolExecutor(1) as pool:
        writing = pool.submit(sock.sendall, data)
        got = read_exactly(sock, len(data))
        writing.result(DEADLINE)
        sock.shutdown(socket.SHUT_WR)
        return got + read_to_eof(sock)


def refuses(address):
    try:
        connect_blocking(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


@pytest.mark.parametrize("family", FAMILIES)
def test_the_default_is_a_plain_echo(family):
    """A payload that ends in NUL, and one that is nothing else, ends no session."""
    with echo_server(family=family) as server:
        assert server.config.terminator is None
        with connect_blocking(server.address) as sock:
            for data in (b"bye\0", b"\0", b"\0\0\0", b"more"):
                sock.sendall(data)
                assert read_exactly(sock, len(data)) == data
        assert echo_whole(server.address, BINARY) == BINARY


@pytest.mark.parametrize("family", FAMILIES)
def test_it_listens_when_it_returns(family):
    """A non-blocking connect that the kernel completes at once: there is nothing to wait for."""
    for _ in range(50):
        with echo_server(family=family) as server:
            kind = socket.AF_UNIX if family == "unix" else socket.AF_INET6 if family == "tcp6" else socket.AF_INET
            with socket.socket(kind) as sock:
                sock.settimeout(DEADLINE)
                assert sock.connect_ex(server.address) == 0


def test_it_listens_while_the_loop_is_busy():
    """The listener is made by the caller's thread: a loop that is held up delays the echo, not the start."""
    entered, free = threading.Event(), threading.Event()

    def hold(data):
        entered.set()
        assert free.wait(DEADLINE)
        return data

    with echo_server(reply=hold) as busy, connect_blocking(busy.address) as waiting, ThreadPoolExecutor(1) as pool:
        waiting.sendall(b"x")
        assert entered.wait(DEADLINE)
        try:
            other = echo_server()
            pool.submit(other.start).result(DEADLINE)
            with connect_blocking(other.address) as sock:
                sock.sendall(b"hello")
                free.set()
                assert read_exactly(sock, 5) == b"hello"
            other.stop()
        finally:
            free.set()
        assert read_exactly(waiting, 1) == b"x"


def test_start_and_stop_by_hand():
    server = echo_server()
    assert server.start() is server
    assert ask(server.address, b"hello") == b"hello"
    address = server.address
    server.stop()
    server.stop()
    assert refuses(address)


def test_the_end_of_the_block_closes_the_port():
    with echo_server() as server:
        address = server.address
        assert not refuses(address)
    assert refuses(address)


def test_an_exception_inside_the_block_comes_through():
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        with echo_server(leak="error") as server:
            sock = connect_blocking(server.address)
            raise ZeroDivisionError
    sock.close()
    assert refuses(server.address)


def test_one_loop_thread_however_many_servers():
    with echo_server():
        resident = set(threading.enumerate())
        servers = [echo_server().start() for _ in range(20)]
        try:
            assert [ask(server.address, b"%d" % n) for n, server in enumerate(servers)] == [
                b"%d" % n for n in range(20)
            ]
            assert set(threading.enumerate()) == resident
        finally:
            for server in servers:
                server.stop()
    assert set(threading.enumerate()) <= resident
    with echo_server() as again:
        assert ask(again.address, b"x") == b"x"
        assert set(threading.enumerate()) <= resident


def test_the_thread_starts_at_first_use_and_pytest_is_not_needed():
    script = """
import sys, threading, socket
from fastecho.testing import echo_server
assert threading.active_count() == 1, threading.enumerate()
unused = echo_server()
assert threading.active_count() == 1, threading.enumerate()
with echo_server() as server:
    assert threading.active_count() == 2, threading.enumerate()
    with socket.create_connection(server.address) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5, socket.MSG_WAITALL) == b"hello"
assert not any(name == "pytest" or name.startswith(("pytest.", "_pytest")) for name in sys.modules)
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", WITHOUT_SLOW_CALLBACKS + script],
        capture_output=True, timeout=2 * DEADLINE, text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_an_exit_with_a_server_still_running_is_quiet():
    script = """
import socket
from fastecho.testing import echo_server
server = echo_server().start()
sock = socket.create_connection(server.address)
sock.sendall(b"hello")
assert sock.recv(5, socket.MSG_WAITALL) == b"hello"
sock.close()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=2 * DEADLINE, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Clients of every kind


def test_a_synchronous_client():
    with echo_server() as server:
        assert ask(server.address, b"hello") == b"hello"


def test_an_asyncio_client():
    async def body():
        with echo_server() as server:
            reader, writer = await asyncio.open_connection(*server.address)
            writer.write(b"hello\0")
            assert await reader.readexactly(6) == b"hello\0"
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            return server.connection_count

    assert asyncio.run(body()) == 1


def test_a_trio_client():
    async def body():
        with echo_server() as server:
            async with await trio.open_tcp_stream(*server.address) as stream:
                await stream.send_all(b"hello\0")
                await stream.send_eof()
                return b"".join([part async for part in stream])

    assert trio.run(body) == b"hello\0"


def test_clients_in_threads():
    with echo_server() as server, ThreadPoolExecutor(8) as pool:
        data = [b"%d-" % n * 1000 for n in range(64)]
        assert list(pool.map(lambda each: echo_whole(server.address, each), data)) == data
        server.assert_connections(64)
        assert server.bytes_in == server.bytes_out == sum(map(len, data))
        assert sorted(session.received for session in server.connections) == sorted(data)


def test_a_client_in_a_process_of_its_own():
    script = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    sock.sendall(b"hello")
    sock.shutdown(socket.SHUT_WR)
    print(sock.makefile("rb").read())
"""
    with echo_server() as server:
        done = subprocess.run(
            [sys.executable, "-c", script, server.host, str(server.port)], capture_output=True, timeout=DEADLINE
        )
        assert done.stdout == b"b'hello'\n"
        server.assert_received(b"hello")
        server.assert_all_closed()


def test_a_process_does_not_inherit_descriptors():
    """A subprocess that outlives the server would keep its port open."""
    with echo_server() as server, connect_blocking(server.address) as sock:
        sock.sendall(b"x")
        read_exactly(sock, 1)
        inheritable = [fd for fd in map(int, os.listdir("/dev/fd")) if _inherits(fd)]
        assert [fd for fd in inheritable if local_port(fd) == server.port] == []


def _inherits(fd):
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def test_many_threads_use_one_server():
    """Each steers, waits for and reads its own connection while the others do; the sums are right."""
    with echo_server() as server:
        failures = []

        def work(number):
            try:
                for turn in range(10):
                    payload = b"%d.%d" % (number, turn)
                    with connect_blocking(server.address) as sock:
                        sock.sendall(payload)
                        assert read_exactly(sock, len(payload)) == payload
                        local = sock.getsockname()
                        (mine,) = [session for session in server.connections if session.peer == local]
                        mine.assert_received(payload)
                        mine.send(b"!")
                        assert read_exactly(sock, 1) == b"!"
                    mine.wait_closed()
                    server.events()
                    server.wait_received(payload)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(4 * DEADLINE)
        assert not any(thread.is_alive() for thread in threads)
        assert failures == []
        server.assert_connections(80)
        assert [session.index for session in server.connections] == list(range(80))
        server.assert_all_closed()


def test_servers_started_by_many_threads_at_once():
    before = set(threading.enumerate())

    def work(number):
        seen = []
        for _ in range(10):
            with echo_server() as server:
                seen.append(ask(server.address, b"%d" % number))
                server.assert_received(b"%d" % number)
        return seen

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [[b"%d" % number] * 10 for number in range(8)]
    # One resident thread, if it was not there before; those of the pool have ended.
    assert len(set(threading.enumerate()) - before) <= 1


# Addresses


def test_the_address_of_tcp():
    with echo_server() as server:
        assert server.address == (server.host, server.port) == server.sockname
        assert server.host == "127.0.0.1"
        assert 0 < server.port < 65536
        assert server.url == f"tcp://127.0.0.1:{server.port}"


def test_the_address_of_tcp6():
    with echo_server(family="tcp6") as server:
        assert server.address == (server.host, server.port) == server.sockname[:2]
        assert server.host == "::1"
        assert len(server.sockname) == 4
        assert server.url == f"tcp://[::1]:{server.port}"


def test_the_address_of_dual():
    """Both families on one port."""
    with echo_server(family="dual") as server:
        assert ask(("127.0.0.1", server.port), b"four") == b"four"
        assert ask(("::1", server.port), b"six") == b"six"
        assert ask(server.address, b"address") == b"address"
        assert server.address == (server.host, server.port)
        server.assert_connections(3)
        assert [session.received for session in server.connections] == [b"four", b"six", b"address"]
    assert refuses(("127.0.0.1", server.port))
    assert refuses(("::1", server.port))


def test_the_address_of_a_unix_socket():
    with echo_server(family="unix") as server:
        path = server.address
        assert isinstance(path, str)
        assert path == server.host == server.sockname
        assert server.url == f"unix:{path}"
        assert not hasattr(server, "port")
        folder = os.path.dirname(path)
        assert os.stat(folder).st_mode & 0o077 == 0
    assert not os.path.exists(path)
    assert not os.path.exists(folder)


def test_a_unix_socket_at_a_path_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with echo_server(unix="own.sock") as server:
        assert ask("own.sock", b"x") == b"x"
        assert server.url == f"unix:{tmp_path}/own.sock"
    assert os.listdir(tmp_path) == []


def test_two_servers_have_two_ports():
    with echo_server() as one, echo_server() as two:
        assert one.port != two.port
        assert (ask(one.address, b"1"), ask(two.address, b"22")) == (b"1", b"22")
        assert (one.bytes_in, two.bytes_in) == (1, 2)


# Counts


@pytest.mark.parametrize("family", FAMILIES)
def test_connections_and_bytes_are_counted(family):
    with echo_server(family=family) as server:
        assert (server.connections, server.open_connections, server.connection_count) == ((), (), 0)
        assert (server.bytes_in, server.bytes_out) == (0, 0)
        first = connect_blocking(server.address)
        with first, connect_blocking(server.address) as second:
            for sock, data in ((first, b"one"), (second, b"second")):
                sock.sendall(data)
                assert read_exactly(sock, len(data)) == data
            assert server.connection_count == 2
            assert server.connections == server.open_connections
            assert (server.bytes_in, server.bytes_out) == (9, 9)
            first.close()
            server.connections[0].wait_closed()
            assert server.open_connections == server.connections[1:]
            assert server.connection_count == 2
        server.wait_closed()
        assert server.open_connections == ()
        assert server.stats.accepted == 2
        assert server.stats.bytes_in == 9
        assert server.stats.ends["eof"] == 2


def test_a_connection_is_there_as_soon_as_the_client_has_it():
    """Whether or not the loop has had a turn since."""
    with echo_server() as server:
        socks = []
        try:
            for n in range(1, 101):
                socks.append(connect_blocking(server.address))
                assert server.connection_count == n
                assert len(server.connections) == len(server.open_connections) == n
                assert server.connections[-1].peer == socks[-1].getsockname()
        finally:
            for sock in socks:
                sock.close()


def test_connections_remain_readable_after_the_stop():
    with echo_server() as server:
        assert ask(server.address, b"hello") == b"hello"
    assert server.connection_count == 1
    assert server.connections[0].received == b"hello"
    assert (server.bytes_in, server.bytes_out) == (5, 5)
    server.assert_received(b"hello")
    assert server.address == (server.host, server.port)


# Options

GIVEN = {
    "host": "localhost",
    "port": 0,
    "backlog": 7,
    "terminator": b"END",
    "match": "anywhere",
    "max_connections": 5,
    "max_per_source": 5,
    "idle_timeout": 100.0,
    "write_timeout": 7.0,
    "linger_timeout": 3.0,
    "udp": True,
    "udp_rate": 50,
    "proxy_protocol": True,
    "buffer_size": 4096,
    "buffers": 3,
    "pin_buffers": True,
    "seed": 7,
    "fault": "latency(0.001).nth(9)",
}
PROCESS = {
    "workers": 2,
    "user": "nobody",
    "pid_file": "/nowhere/fastecho.pid",
    "ready_fd": 5,
    "exit_fd": 6,
    "stats": 1.0,
    "metrics": "127.0.0.1:0",
    "shutdown_delay": 1.0,
    "log_level": "debug",
    "log_format": "json",
    "busy_poll": 50,
    "drain_timeout": 4.0,
    "drain_grace": 0.7,
}
ELSEWHERE = {
    "unix", "group", "tls_cert", "tls_key", "tls_client_ca", "tls_min_version", "tls_tickets",
}  # fmt: skip


def test_every_option_is_thought_of_here():
    assert {option.name for option in options()} == {*GIVEN, *PROCESS, *ELSEWHERE}


@pytest.mark.parametrize("name", GIVEN)
def test_an_option_of_the_server_is_kept(name):
    with echo_server(**{name: GIVEN[name]}) as server:
        expected = getattr(ServerConfig(**{name: GIVEN[name]}), name)
        assert getattr(server.config, name) == expected
        header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 7\r\n" if name == "proxy_protocol" else b""
        assert ask(server.address, b"hello", header) == b"hello"


@pytest.mark.parametrize("name", PROCESS)
def test_an_option_of_the_process_is_refused_in_one_line(name):
    with pytest.raises(ConfigError) as caught:
        echo_server(**{name: PROCESS[name]}).start()
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_terminator_ends_the_session_if_asked():
    with echo_server(terminator=b"END") as server, connect_blocking(server.address) as sock:
        sock.sendall(b"the END")
        assert read_to_eof(sock) == b"the END"
        sock.close()
        server.wait_closed()
        assert server.connections[0].close_reason == "terminator"


def test_a_terminator_anywhere():
    with echo_server(terminator=b"\0", match="anywhere") as server, connect_blocking(server.address) as sock:
        sock.sendall(b"hello\0more")
        assert read_to_eof(sock) == b"hello\0"


def test_an_idle_time_out():
    with echo_server(idle_timeout=0.02) as server, connect_blocking(server.address) as sock:
        assert read_to_eof(sock) == b""
        sock.close()
        server.wait_closed()
        assert server.connections[0].close_reason == "idle"


def test_at_most_so_many_connections_at_once():
    with echo_server(max_connections=1) as server:
        first, second = connect_blocking(server.address), connect_blocking(server.address)
        with first, second:
            first.sendall(b"first")
            assert read_exactly(first, 5) == b"first"
            second.sendall(b"second")
            first.close()
            assert read_exactly(second, 6) == b"second"
        server.wait_closed()
        server.assert_connections(2)


def test_udp_is_echoed_at_the_same_address():
    """Without a recording: no connection is made, and `stats` counts."""
    with echo_server(udp=True, family="dual") as server:
        for host in ("127.0.0.1", "::1"):
            with udp_client((host, server.port)) as client:
                assert datagram(client, b"hello") == b"hello"
        assert server.stats.datagrams["echoed"] == 2
        assert ask(server.address, b"hello") == b"hello"
        with server.down(), udp_client(server.address) as client:
            assert datagram(client, b"hello") == b"hello"
        server.assert_connections(1)
        address = server.address
    with udp_client(address) as client, pytest.raises(ConnectionRefusedError):
        datagram(client, b"hello")


def test_a_config_object_with_udp():
    with echo_server(ServerConfig(port=0, udp=True)) as server, udp_client(server.address) as client:
        assert datagram(client, b"hello") == b"hello"


def test_udp_and_a_unix_socket_are_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"^udp True: must be left out beside family unix, which has no datagrams$"):
        echo_server(udp=True, family="unix")


@pytest.mark.parametrize("faults", [(), "latency(0)"], ids=["plain", "faulty"])
def test_at_most_so_many_connections_of_one_source(faults):
    with echo_server(max_per_source=1, faults=faults) as server, connect_blocking(server.address) as first:
        first.sendall(b"first")
        assert read_exactly(first, 5) == b"first"
        with pytest.raises(ConnectionResetError), connect_blocking(server.address) as second:
            second.recv(1)
        server.connections[1].wait_closed()
        assert [session.close_reason for session in server.connections] == [None, "refused"]
        first.close()
        server.wait_closed()
        assert ask(server.address, b"third") == b"third"


def test_a_header_of_the_proxy_protocol_is_no_part_of_what_was_received():
    with echo_server(proxy_protocol=True) as server:
        with connect_blocking(server.address) as sock:
            sock.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 7\r\nhello")
            assert read_exactly(sock, 5) == b"hello"
        server.assert_received(b"hello")


def test_a_wrong_header_of_the_proxy_protocol_ends_the_connection():
    with echo_server(proxy_protocol=True) as server, connect_blocking(server.address) as sock:
        sock.sendall(b"hello\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
        server.wait_closed()
        server.assert_received(b"")
        assert server.connections[0].close_reason == "refused"


def test_a_client_that_sends_no_header_of_the_proxy_protocol_does_not_hold_up_the_end():
    server = echo_server(proxy_protocol=True, leak="ignore").start()
    with connect_blocking(server.address) as sock:
        sock.sendall(b"PROXY TCP4 192.0.2.7 ")
        server.wait_connections(1)
        [left] = server.stop()
        assert left.close_reason == "server_stopped"
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_a_fault_is_refused_beside_the_proxy_protocol():
    with pytest.raises(ConfigError, match="must be left out with proxy_protocol"):
        echo_server(proxy_protocol=True, faults=["reset()"])
    with echo_server(proxy_protocol=True) as server:
        with pytest.raises(ConfigError, match="must be left out with proxy_protocol"):
            server.arm("reset()")


def test_the_oldest_version_of_tls():
    with echo_server(tls=True, tls_min_version="1.3", leak="ignore") as server:
        context = ssl.create_default_context(cafile=certificates().ca_path)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with connect_blocking(server.address) as sock, pytest.raises(ssl.SSLError):
            context.wrap_socket(sock, server_hostname="localhost")
        context.maximum_version = ssl.TLSVersion.TLSv1_3
        with context.wrap_socket(connect_blocking(server.address), server_hostname="localhost") as secured:
            secured.sendall(b"hello")
            assert secured.recv(5) == b"hello"


@pytest.mark.parametrize(("tickets", "resumed"), [(2, True), (0, False)])
def test_the_tickets_of_tls(tickets, resumed):
    with echo_server(tls=True, tls_tickets=tickets) as server:
        context, session = certificates().client_context(), None
        for attempt in range(2):
            sock = connect_blocking(server.address)
            with context.wrap_socket(sock, server_hostname="localhost", session=session) as secured:
                secured.sendall(b"hello")
                assert secured.recv(5) == b"hello"
                assert secured.session_reused == (attempt == 1 and resumed)
                session = secured.session if secured.session.has_ticket else None


def test_a_client_that_takes_nothing_is_reset_after_the_write_time_out():
    with echo_server(write_timeout=0.1, leak="ignore") as server, connect_blocking(server.address) as sock:
        sock.setblocking(False)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while not server.connections or server.connections[0].close_reason is None:
                with contextlib.suppress(BlockingIOError):
                    sock.send(bytes(65536))
        server.wait_closed()
        assert server.connections[0].close_reason == "write_timeout"


@pytest.mark.parametrize("pinned", [False, True])
def test_the_size_of_a_buffer_bounds_a_read(pinned):
    with echo_server(buffer_size=512, pin_buffers=pinned) as server:
        assert echo_whole(server.address, BINARY) == BINARY
        assert {chunk.size <= 512 for chunk in server.connections[0].chunks} == {True}


def test_a_config_object():
    config = ServerConfig(port=0, terminator=b"END", linger_timeout=1)
    with echo_server(config) as server, connect_blocking(server.address) as sock:
        sock.sendall(b"the END")
        assert read_to_eof(sock) == b"the END"


def test_a_config_object_with_options_of_the_process():
    """It may be the one of the service under test: what is the process's is passed over."""
    with echo_server(ServerConfig(port=0, workers=2, log_level="debug", stats=1.0)) as server:
        assert ask(server.address, b"x") == b"x"


def test_a_port_in_use_is_raised_in_the_caller():
    with echo_server() as server:
        with pytest.raises(AddressInUseError):
            echo_server(port=server.port).start()
        assert ask(server.address, b"x") == b"x"
    with echo_server(port=server.port) as again:
        assert again.port == server.port
        assert ask(again.address, b"x") == b"x"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"family": "udp"}, "udp"),
        ({"tls": "rusty"}, "rusty"),
        ({"reply": 3}, "reply"),
        ({"reply": "shout"}, "shout"),
        ({"leak": "maybe"}, "maybe"),
        ({"faults": ["resett()"]}, "resett"),
        ({"faults": [3]}, "3"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"teardown_timeout": -1}, "teardown_timeout"),
        ({"record_limit": -1}, "record_limit"),
        ({"seed": -1}, "seed"),
        ({"buffer_size": 7}, "buffer_size"),
        ({"buffersize": 512}, "buffersize"),
        ({"faults": ["tls_abort()"]}, "TLS"),
    ],
)
def test_what_is_wrong_is_named(wrong, named):
    before = set(threading.enumerate())
    with pytest.raises((ConfigError, TypeError), match=named):
        echo_server(**wrong).start()
    assert len(set(threading.enumerate()) - before) <= 1


def test_the_seed_is_kept():
    with echo_server(seed=12345) as server:
        assert server.seed == 12345


def test_the_time_outs_are_kept():
    with echo_server() as server:
        assert (server.timeout, server.teardown_timeout) == (5.0, 1.0)
    with echo_server(timeout=0.5, teardown_timeout=2) as server:
        assert (server.timeout, server.teardown_timeout) == (0.5, 2)


# What happened


def test_events_are_in_order_of_time_and_say_who_and_what():
    with echo_server() as server:
        assert ask(server.address, b"hello") == b"hello"
        assert ask(server.address, b"second") == b"second"
        server.wait_closed()
        events = server.events()
        assert [event.time for event in events] == sorted(event.time for event in events)
        assert {event.connection for event in events} == {0, 1}
        moved = [(event.connection, event.direction, event.offset, event.data) for event in events if event.direction]
        assert moved == [
            (0, "in", 0, b"hello"),
            (0, "out", 0, b"hello"),
            (1, "in", 0, b"second"),
            (1, "out", 0, b"second"),
        ]
        lines = [event.line(events[0].time) for event in events]
        assert all("\n" not in line for line in lines)
        assert any("second" in line and "connection 1" in line for line in lines)


def test_a_fault_is_among_the_events():
    with echo_server(faults=["close(after_sent=3)"]) as server, connect_blocking(server.address) as sock:
        sock.sendall(b"hello")
        assert read_to_eof(sock) == b"hel"
        assert any("close(after_sent=3)" in event.line(event.time) for event in server.events())


def test_a_session_is_equal_to_itself_however_it_was_found():
    with echo_server() as server, connect_blocking(server.address), connect_blocking(server.address):
        assert server.connections[0] == server.connections[0] != server.connections[1]
        assert len({*server.connections, *server.open_connections, *server.wait_connections(2)}) == 2
        assert server.wait_connections(1) == server.connections


def test_the_loop_is_not_in_the_way_of_one_that_runs():
    """Waiting in a thread beside a loop that goes on turning."""

    async def body():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.ensure_future(tick())
        with echo_server() as server:
            waiting = asyncio.get_running_loop().run_in_executor(None, server.wait_received, b"hello")
            _, writer = await asyncio.open_connection(*server.address)
            writer.write(b"hello")
            assert await waiting == b"hello"
            writer.close()
            await writer.wait_closed()
        ticking.cancel()
        return ticks

    assert asyncio.run(body()) > 0


def test_the_server_says_what_it_is():
    with echo_server() as server:
        assert str(server.port) in repr(server)
        wait_until(lambda: server.stats.active == 0, "nothing is served")
