"""Socket activation: what a service manager passes is served by all workers, and left as it was."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from activation import activated
from clients import connect_blocking, read_to_eof
from datagrams import ask, exchange, payload, udp_client
from fastecho._net.activation import inherited_listeners
from fastecho.config import ServerConfig
from fastecho.errors import ConfigError
from patience import DEADLINE, wait_until
from processes import Service, connections_of, echoes, one_echo

SO_ATTACH_FILTER = 26
IP_RECVTTL = 12 if sys.platform.startswith("linux") else 24  # Python 3.14 has it


@contextlib.contextmanager
def listening(*addresses: object, backlog: int = 128) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        sockets = []
        for address in addresses:
            unix = isinstance(address, str)
            family = socket.AF_UNIX if unix else socket.AF_INET6 if ":" in address[0] else socket.AF_INET  # type: ignore[index]
            sock = stack.enter_context(socket.socket(family))
            sock.bind(address)  # type: ignore[arg-type]
            sock.listen(backlog)
            sockets.append(sock)
        yield sockets


LOCAL = ("127.0.0.1", 0)


def test_tcp_ipv6_and_unix_sockets_are_served_together(tmp_path: Path) -> None:
    path = str(tmp_path / "echo.sock")
    with listening(LOCAL, ("::1", 0), path) as sockets, activated(sockets, "--workers", "2") as service:
        tcp, tcp6 = (each.getsockname()[1] for each in sockets[:2])
        assert service.addresses == [f"tcp://127.0.0.1:{tcp}", f"tcp://[::1]:{tcp6}", f"unix:{path}"]
        for address in (("127.0.0.1", tcp), ("::1", tcp6), path):
            assert one_echo(address) == b"hello\0"
        assert service.stop() == 0
        # They are the service manager's: it still listens, and the file is there.
        assert Path(path).exists()
        for address in (("127.0.0.1", tcp), ("::1", tcp6), path):
            connect_blocking(address).close()


def test_all_workers_serve_the_same_sockets_without_reuseport() -> None:
    with listening(LOCAL) as [sock], activated([sock], "--workers", "2", "--max-connections", "3") as service:
        address = sock.getsockname()
        clients = [connect_blocking(address) for _ in range(6)]
        assert all(echoes(each) for each in clients)
        assert {len(connections_of(pid, address[1])) for pid in service.workers()} == {3}
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
        for each in clients:
            each.close()
        assert service.stop() == 0


def test_an_urgent_byte_stays_in_the_stream_of_an_inherited_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "echo.sock")
    with listening(path) as sockets, activated(sockets) as service, connect_blocking(path) as client:
        client.send(b"a")
        client.send(b"b", socket.MSG_OOB)
        client.send(b"c\0")
        assert read_to_eof(client) == b"abc\0"
        assert service.stop() == 0


def test_the_variables_are_removed_and_the_options_of_connections_are_set() -> None:
    with listening(LOCAL) as [sock], activated([sock], environ={"LISTEN_FDNAMES": "echo"}) as service:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE) != 0
        assert service.stop() == 0
    program = """
import os, socket
from fastecho._net.activation import inherited_listeners
from fastecho.config import ServerConfig
sock = socket.create_server(("127.0.0.1", 0))
os.dup2(sock.fileno(), 3) if sock.fileno() != 3 else None
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="echo", MINE="1")
listeners = inherited_listeners(ServerConfig(workers=3), os.environ)
assert not [name for name in os.environ if name.startswith("LISTEN_")] and os.environ["MINE"] == "1"
assert len(listeners.sockets) == 3 and listeners.inherited
assert not os.get_inheritable(3)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=DEADLINE)


def test_variables_of_another_process_are_not_used(capfd: pytest.CaptureFixture[str]) -> None:
    environ = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}
    assert inherited_listeners(ServerConfig(), environ) is None
    with Service(env={**os.environ, "LISTEN_PID": "1", "LISTEN_FDS": "1"}) as service:
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


def test_no_socket_passed_is_no_activation() -> None:
    assert inherited_listeners(ServerConfig(), {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}) is None


def refusal(service: Service) -> tuple[int, str]:
    """The exit code and the only line of a service that did not start."""
    code = service.wait()
    [line] = service.errors.splitlines()
    return code, re.sub(r".* ERROR ", "", line)


@pytest.mark.parametrize(
    ("option", "value"), [("--port", "9000"), ("--port", "8007"), ("--host", "::1"), ("--unix", "/nowhere/x")]
)
def test_an_option_that_says_where_to_listen_is_refused_beside_it(option: str, value: str) -> None:
    with listening(LOCAL) as sockets, activated(sockets, option, value) as service:
        must = "must not be given: the service manager passes the sockets to listen on (LISTEN_FDS)"
        assert refusal(service) == (2, f"{option} {value}: {must}")


def test_an_address_in_the_environment_is_refused_beside_it() -> None:
    with listening(LOCAL) as sockets, activated(sockets, environ={"FASTECHO_PORT": "8007"}) as service:
        code, line = refusal(service)
        assert (code, line.partition(":")[0]) == (78, "FASTECHO_PORT=8007")


def test_an_address_in_python_is_refused_beside_it() -> None:
    with pytest.raises(ConfigError, match=r"^port 9: must not be given: the service manager"):
        inherited_listeners(ServerConfig(port=9), {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})


def test_udp_is_refused_beside_it() -> None:
    with listening(LOCAL) as sockets, activated(sockets, "--udp") as service:
        code, line = refusal(service)
        assert (code, line.partition(":")[0]) == (2, "--udp True")


def test_a_unix_datagram_socket_is_refused_in_one_line(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, listening(LOCAL) as [good]:
        sock.bind(str(tmp_path / "x"))
        with activated([good, sock], environ={"LISTEN_FDNAMES": "good:bad"}) as service:
            must = "must be a stream socket (ListenStream=), TCP or UNIX, or a UDP socket (ListenDatagram=)"
            assert refusal(service) == (78, f"LISTEN_FDS '4 (bad)': {must}")


def test_a_connected_udp_socket_is_refused_in_one_line() -> None:
    with datagrams(LOCAL) as [sock]:
        sock.connect(("127.0.0.1", 9))
        with activated([sock]) as service:
            must = "must be a socket that is bound, and not connected (Accept=no)"
            assert refusal(service) == (78, f"LISTEN_FDS 3: {must}")


@contextlib.contextmanager
def datagrams(*addresses: tuple[str, int], both: bool = False) -> Iterator[list[socket.socket]]:
    """UDP sockets; `both`: those of IPv6 serve IPv4, too, as systemd binds ListenDatagram=PORT."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for address in addresses:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
            sock.bind(address)
            sockets.append(sock)
        yield sockets


def test_tcp_unix_and_udp_sockets_are_served_together(tmp_path: Path) -> None:
    path = str(tmp_path / "echo.sock")
    with listening(LOCAL, path) as streams, datagrams(LOCAL, ("::1", 0)) as udp:
        with activated([udp[0], *streams, udp[1]], "--workers", "3") as service:
            tcp, udp4, udp6 = (each.getsockname()[1] for each in (streams[0], *udp))
            assert service.addresses == [
                f"udp://127.0.0.1:{udp4}", f"tcp://127.0.0.1:{tcp}", f"unix:{path}", f"udp://[::1]:{udp6}",
            ]  # fmt: skip
            for _ in range(10):
                for address in (("127.0.0.1", tcp), path):
                    assert one_echo(address) == b"hello\0"
                for address in (("127.0.0.1", udp4), ("::1", udp6)):
                    with udp_client(address) as client:
                        assert ask(client, b"hello") == b"hello"
            assert service.stop() == 0


def test_udp_sockets_alone_are_served() -> None:
    with datagrams(LOCAL) as [sock], activated([sock]) as service, udp_client(sock.getsockname()) as client:
        assert ask(client, b"hello") == b"hello"
        service.send(signal.SIGHUP)
        wait_until(lambda: len(service.started()) == 2, "the new worker")
        assert ask(client, b"again") == b"again"
        assert service.stop() == 0


@pytest.mark.parametrize("client", ["127.0.0.1", "::1"])
def test_a_udp_socket_for_both_families_answers_from_the_address_that_was_asked(client: str) -> None:
    """A connected client takes no other answer."""
    with datagrams(("::", 0), both=True) as [sock], activated([sock], "--udp-rate", "1") as service:
        with udp_client((client, sock.getsockname()[1])) as asker:
            for number in range(20):  # loopback has no limit
                assert ask(asker, payload(number)) == payload(number)
        assert service.stop() == 0


def test_an_answer_of_a_server_like_this_one_is_refused_on_a_udp_socket_for_both_families() -> None:
    """Answers leave with a TTL of 255, and what comes with it is not answered: no two servers keep each other busy."""
    with datagrams(("::", 0), both=True) as [sock], activated([sock], "--log-format", "json") as service:
        with udp_client(("127.0.0.1", sock.getsockname()[1])) as client:
            client.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            client.send(b"x")
            _, [(_, _, ttl)], _, _ = client.recvmsg(100, 100)
            assert int.from_bytes(ttl, sys.byteorder) == 255
            client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
            client.send(b"y")
            client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
            assert ask(client, b"z") == b"z"
        service.send(signal.SIGUSR1)
        service.wait_for('"totals"')
        [line] = [json.loads(line) for line in service.errors.splitlines() if '"totals"' in line]
        assert line["totals"]["datagrams"]["refused_echo"] == 1
        assert service.stop() == 0


def test_workers_share_a_udp_socket_and_answer_each_datagram_once() -> None:
    with datagrams(LOCAL) as [sock], activated([sock], "--workers", "4") as service:
        run, dropped = exchange(sock.getsockname(), 5_000)
        assert (run.received, run.lost, run.altered, run.duplicated, dropped) == (5_000, 0, 0, 0, 0)
        assert service.stop() == 0


def test_datagrams_wait_in_the_socket_for_the_next_instance() -> None:
    with datagrams(LOCAL) as [sock], udp_client(sock.getsockname()) as client:
        for instance in range(2):
            client.send(b"%d" % instance)
            with activated([sock]) as service:
                assert client.recv(100) == b"%d" % instance
                assert service.stop() == 0


def test_a_connection_is_refused_in_one_line() -> None:
    mine, theirs = socket.socketpair()
    with mine, theirs, activated([theirs]) as service:
        assert refusal(service) == (78, "LISTEN_FDS 3: must be a socket that listens (Accept=no)")


def test_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, activated([file]) as service:
        code, line = refusal(service)
        assert (code, line.partition(": must be a socket")[0]) == (78, "LISTEN_FDS 3")


def test_a_count_that_is_no_number_is_refused_in_one_line() -> None:
    with activated([], environ={"LISTEN_FDS": "many"}) as service:
        assert refusal(service) == (78, "LISTEN_FDS many: must be the number of sockets that are passed")


def test_a_fault_that_needs_tcp_is_refused_on_an_inherited_unix_socket(tmp_path: Path) -> None:
    with listening(str(tmp_path / "x")) as sockets, activated(sockets, "--fault", "reset()") as service:
        code, line = refusal(service)
        assert code in (2, 78)
        assert "UNIX socket" in line


class Clients:
    """Threads that connect, send and read to the end, until told to stop; no client may lose what it sent."""

    def __init__(self, address: tuple[str, int], threads: int = 4) -> None:
        self.address, self.done, self.failures = address, [0] * threads, list[str]()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(index,)) for index in range(threads)]

    def _run(self, index: int) -> None:
        while not self._stop.is_set():
            data = b"%d\0" % self.done[index]
            try:
                with connect_blocking(self.address, 3 * DEADLINE) as sock:
                    sock.sendall(data)
                    if (got := read_to_eof(sock)) != data:
                        self.failures.append(f"sent {data!r}, got {got!r}")
            except OSError as error:
                self.failures.append(repr(error))
            self.done[index] += 1

    def __enter__(self) -> Clients:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for each in self._threads:
            each.join(4 * DEADLINE)


def test_a_restart_under_load_loses_no_client() -> None:
    """Clients that connect while no instance runs wait in the socket, which no filter keeps them from."""
    with listening(LOCAL, backlog=4096) as [sock], Clients(sock.getsockname()) as clients:
        for round in range(1, 4):
            before = sum(clients.done)
            with activated([sock], "--workers", "2") as service:
                wait_until(lambda before=before: sum(clients.done) > before + 300, f"load in round {round}")
                assert service.stop() == 0
        with activated([sock]) as service:
            clients.__exit__()
            assert service.stop() == 0
    assert clients.failures == []


def test_an_inherited_socket_has_no_filter_after_a_stop_or_a_kill() -> None:
    for end in (signal.SIGTERM, signal.SIGKILL):
        with listening(LOCAL) as [sock], activated([sock]) as service:
            service.stop(end)
            # SO_GET_FILTER, which is the same number, gives the length of the program.
            assert sock.getsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER) == 0
            with connect_blocking(sock.getsockname()) as client, sock.accept()[0] as served:
                client.sendall(b"x")
                assert served.recv(1) == b"x"


def test_a_rolling_restart_of_inherited_sockets_loses_no_client() -> None:
    with listening(LOCAL, backlog=4096) as [sock], activated([sock], "--workers", "2") as service:
        with Clients(sock.getsockname()) as clients:
            wait_until(lambda: sum(clients.done) > 200, "some load")
            service.send(signal.SIGHUP)
            service.wait_for("SIGHUP: replacing")
            before = service.workers()
            wait_until(lambda: len(service.started()) == 4, "the new workers")
            wait_until(lambda: sum(clients.done) > 600, "more load")
        assert clients.failures == []
        assert before
        assert service.stop() == 0


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="needs systemd-socket-activate")
def test_systemd_socket_activate_starts_the_command_at_the_first_client(tmp_path: Path) -> None:
    one, two = str(tmp_path / "one.sock"), str(tmp_path / "two.sock")
    # It refuses port 0.
    command = ["systemd-socket-activate", "-l", one, "-l", two, "--fdname=one:two"]
    process = subprocess.Popen(
        [*command, sys.executable, "-m", "fastecho", "--workers", "2"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        next(line for line in process.stderr if line.startswith(f"Listening on {two}"))
        assert one_echo(one) == b"hello\0"
        next(line for line in process.stderr if f" listening on unix:{one}, unix:{two} (2 workers" in line)
        assert one_echo(two) == b"hello\0"
        process.terminate()
        _, errors = process.communicate(timeout=2 * DEADLINE)
        assert process.returncode == 0, errors
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="needs systemd-socket-activate")
def test_systemd_socket_activate_starts_the_command_at_the_first_datagram() -> None:
    with datagrams(LOCAL) as [free]:
        port = free.getsockname()[1]
    command = ["systemd-socket-activate", "--datagram", "-l", f"127.0.0.1:{port}", "-l", f"[::1]:{port}"]
    process = subprocess.Popen(
        [*command, sys.executable, "-m", "fastecho", "--workers", "2"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        next(line for line in process.stderr if line.startswith("Listening on [::1]"))
        for address in (("127.0.0.1", port), ("::1", port)):
            with udp_client(address) as client:
                assert ask(client, b"hello") == b"hello"
        process.terminate()
        _, errors = process.communicate(timeout=2 * DEADLINE)
        assert process.returncode == 0, errors
        assert f" listening on udp://127.0.0.1:{port}, udp://[::1]:{port} (2 workers" in errors
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
