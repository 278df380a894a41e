"""Binding: who is refused, what an accepted socket inherits, and what stays behind."""

import contextlib
import errno
import os
import resource
import select
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from clients import Address
from fastecho._net import limits
from fastecho._net.listeners import Listeners, bind, drop_syns, socket_address
from fastecho.config import ServerConfig
from fastecho.errors import AddressError, AddressInUseError, FastechoError, PermissionDeniedError
from freed_ports import assert_port_freed
from patience import DEADLINE, wait_until
from unprivileged import without_net_admin

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what Linux does")


def config(**options: Any) -> ServerConfig:
    return ServerConfig(**{"port": 0, **options})


def port_of(listeners: Listeners) -> int:
    return int(listeners.addresses[0].rpartition(":")[2])


@pytest.fixture
def bound(request: pytest.FixtureRequest) -> Any:
    def start(copies: int = 1, **options: Any) -> Listeners:
        listeners = bind(config(**options), copies)
        request.addfinalizer(listeners.close)
        request.addfinalizer(listeners.unlink)
        return listeners

    return start


def one_line(error: FastechoError) -> str:
    text = str(error)
    assert "\n" not in text
    assert "Errno" not in text
    return text


def test_one_copy_listens_without_reuseport(bound: Any) -> None:
    listeners = bound()
    [[sock]] = listeners.sockets
    assert listeners.addresses == (f"tcp://127.0.0.1:{port_of(listeners)}",)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) != 0
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
    assert not sock.getblocking()
    assert not os.get_inheritable(sock.fileno())


@linux
def test_every_copy_of_a_group_may_be_rebound_and_listens(bound: Any) -> None:
    listeners = bound(4)
    assert len(listeners.sockets) == 4
    ports = set()
    for [sock] in listeners.sockets:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) != 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) != 0
        ports.add(sock.getsockname()[1])
    assert len(ports) == 1


@linux
def test_connections_are_spread_over_the_copies(bound: Any) -> None:
    listeners = bound(4)
    clients = [socket.create_connection(("127.0.0.1", port_of(listeners))) for _ in range(200)]
    counts = []
    for [sock] in listeners.sockets:
        accepted = []
        try:
            while True:
                accepted.append(sock.accept()[0])
        except BlockingIOError:
            counts.append(len(accepted))
        for connection in accepted:
            connection.close()
    for client in clients:
        client.close()
    assert sum(counts) == 200
    assert min(counts) > 0


@pytest.mark.parametrize("copies", [1, 4])
@pytest.mark.parametrize("rivals", [1, 4])
def test_a_rival_on_the_port_is_refused(bound: Any, copies: int, rivals: int) -> None:
    port = port_of(bound(copies))
    with pytest.raises(AddressInUseError) as caught:
        bind(config(port=port), rivals)
    assert caught.value.exit_code == 69
    assert f"tcp://127.0.0.1:{port}" in one_line(caught.value)
    assert "--port" in str(caught.value)


def test_of_many_that_start_together_one_wins(bound: Any) -> None:
    for _ in range(20):
        first = bound()
        port = port_of(first)
        first.close()
        gate = threading.Barrier(4)
        won: list[Listeners] = []
        refused: list[Exception] = []

        def start(gate: threading.Barrier = gate, port: int = port, won: list[Listeners] = won,
                  refused: list[Exception] = refused) -> None:
            gate.wait(10)
            try:
                won.append(bind(config(port=port), 4))
            except AddressInUseError as exc:
                refused.append(exc)

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        for listeners in won:
            listeners.close()
        # Two that bind before either listens can both be refused; two must never both start.
        assert len(won) <= 1
        assert len(won) + len(refused) == 4


def test_a_restart_does_not_wait_for_time_wait(bound: Any) -> None:
    first = bound(4)
    port = port_of(first)
    with socket.create_connection(("127.0.0.1", port)) as client:
        for [sock] in first.sockets:
            try:
                sock.accept()[0].close()
            except BlockingIOError:
                continue
        assert client.recv(1) == b""
    first.close()
    bound(4, port=port)


def test_several_addresses_share_one_port(bound: Any) -> None:
    listeners = bound(2, host="127.0.0.1,[::1], 127.0.0.2")
    port = port_of(listeners)
    assert listeners.addresses == (
        f"tcp://127.0.0.1:{port}", f"tcp://[::1]:{port}", f"tcp://127.0.0.2:{port}",
    )
    assert [len(row) for row in listeners.sockets] == [3, 3]
    for host in ("127.0.0.1", "::1", "127.0.0.2"):
        socket.create_connection((host, port)).close()


def test_a_free_port_that_is_taken_at_the_second_address_is_tried_again(
    bound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = bound(host="127.0.0.2")
    real = socket.socket.bind
    asked: list[int] = []

    def bind_first_to_the_taken_port(self: socket.socket, address: Any) -> None:
        if address == ("127.0.0.1", 0):
            asked.append(0)
            if len(asked) == 1:
                address = ("127.0.0.1", port_of(taken))
        real(self, address)

    monkeypatch.setattr(socket.socket, "bind", bind_first_to_the_taken_port)
    listeners = bound(host="127.0.0.1,127.0.0.2")
    assert len(asked) == 2
    assert port_of(listeners) != port_of(taken)


def test_star_is_every_interface_of_both_families(bound: Any) -> None:
    listeners = bound(2, host="*")
    port = port_of(listeners)
    assert listeners.addresses == (f"tcp://0.0.0.0:{port}", f"tcp://[::]:{port}")
    assert listeners.sockets[0][1].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port)).close()


def test_a_family_that_the_machine_lacks_is_left_out_of_star(
    bound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.socket.bind

    def bind_no_ipv6(self: socket.socket, address: Any) -> None:
        if self.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        real(self, address)

    monkeypatch.setattr(socket.socket, "bind", bind_no_ipv6)
    assert bound(host="*").addresses[0].startswith("tcp://0.0.0.0:")
    with pytest.raises(AddressError, match="not an address of this machine"):
        bound(host="::1")


def test_an_address_named_twice_is_bound_once(bound: Any) -> None:
    assert len(bound(host="127.0.0.1,127.0.0.1").addresses) == 1


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.77", "not an address of this machine"),
        ("nobody.invalid", "cannot be resolved"),
        ("127.0.0.1,nobody.invalid", "cannot be resolved"),
    ],
)
def test_a_host_that_cannot_be_bound_is_named(host: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason) as caught:
        bind(config(host=host))
    assert caught.value.exit_code == 1
    one_line(caught.value)


def test_a_relative_path_that_is_too_long_in_its_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(AddressError, match="the path is longer than") as caught:
        bind(config(unix="echo.sock"))
    one_line(caught.value)


def test_a_port_that_is_not_permitted_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(PermissionDeniedError, match="1024") as caught:
        bind(config(port=7))
    assert caught.value.exit_code == 77
    one_line(caught.value)


def test_nothing_stays_bound_when_the_second_address_fails() -> None:
    def use() -> Address:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = probe.getsockname()
        with pytest.raises(AddressError):
            bind(config(host="127.0.0.1,192.0.2.77", port=address[1]), 2)
        return address

    assert_port_freed(use)


def test_accepted_sockets_inherit_the_options(bound: Any) -> None:
    listeners = bound(write_timeout=3.0)
    [[sock]] = listeners.sockets
    with socket.create_connection(("127.0.0.1", port_of(listeners))):
        connection, _ = sock.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0


@linux
def test_the_backlog_asked_for_is_the_backlog(bound: Any) -> None:
    listeners = bound(backlog=3)
    [[sock]] = listeners.sockets
    # tcpi_sacked holds the backlog of a listening socket.
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert int.from_bytes(info[28:32], sys.byteorder) == 3


def test_the_sockets_of_other_copies_are_closed(bound: Any) -> None:
    listeners = bound(3, host="127.0.0.1,127.0.0.2")
    listeners.close_other_copies(listeners.sockets[1])
    for copy, row in enumerate(listeners.sockets):
        assert all((sock.fileno() == -1) == (copy != 1) for sock in row)


def accepted(sock: socket.socket) -> int:
    """How many connections wait in the queue of a listener; they are closed."""
    count = 0
    while True:
        try:
            sock.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@linux
def test_new_connections_go_to_the_preferred_copies_only(bound: Any) -> None:
    listeners = bound(3)
    for preferred in (2, 1, 3):
        listeners.prefer(preferred)
        for _ in range(200):
            socket.create_connection(("127.0.0.1", port_of(listeners))).close()
        counts = [accepted(sock) for [sock] in listeners.sockets]
        assert sum(counts) == 200
        assert [count > 0 for count in counts] == [number < preferred for number in range(3)]


@linux
def test_a_copy_that_is_added_gets_connections_and_its_end_takes_none_along(bound: Any) -> None:
    listeners = bound(1, host="127.0.0.1,127.0.0.2")
    row = listeners.add_copy(4096)
    assert not listeners.shares(row)
    assert len(listeners.sockets) == 2
    for _ in range(200):
        socket.create_connection(("127.0.0.1", port_of(listeners))).close()
    assert accepted(row[0]) > 0
    listeners.prefer(1)
    listeners.remove_copy(row)
    assert [sock.fileno() for sock in row] == [-1, -1]
    with socket.create_connection(("127.0.0.1", port_of(listeners))):
        pass
    assert accepted(listeners.sockets[0][0]) > 1


def test_a_copy_of_a_unix_socket_is_shared_and_stays_open(bound: Any, tmp_path: Path) -> None:
    listeners = bound(1, unix=str(tmp_path / "echo.sock"))
    row = listeners.add_copy(4096)
    assert listeners.shares(row)
    assert row == listeners.sockets[0]
    listeners.remove_copy(row)
    assert row[0].fileno() >= 0


def test_dropped_syns_let_handshakes_under_way_finish(bound: Any) -> None:
    listeners = bound()
    [[sock]] = listeners.sockets
    port = port_of(listeners)
    early = socket.create_connection(("127.0.0.1", port))
    if not drop_syns(sock):
        pytest.skip("no socket filters here")
    with early:
        late = socket.socket()
        late.setblocking(False)
        with late:
            assert late.connect_ex(("127.0.0.1", port)) == errno.EINPROGRESS
            connection, _ = sock.accept()
            with connection:
                early.sendall(b"x")
                connection.settimeout(5)
                assert connection.recv(1) == b"x"
                connection.sendall(b"y")
                early.settimeout(5)
                assert early.recv(1) == b"y"
            with pytest.raises(BlockingIOError):
                sock.accept()


def connects(address: Any, count: int = 20, limit: float = 0) -> list[bool]:
    """Whether each of several clients is connected within `limit` seconds; on loopback that takes no time."""
    made = []
    for _ in range(count):
        with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as client:
            client.setblocking(False)
            client.connect_ex(address)
            made.append(bool(select.select([], [client], [], limit)[1]))
    return made


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])
@pytest.mark.parametrize("copies", [1, 3])
def test_syns_are_dropped_without_a_privilege(bound: Any, copies: int, host: str) -> None:
    listeners = bound(copies, host=host)
    address = (host.replace("0.0.0.0", "127.0.0.1"), port_of(listeners))
    assert all(connects(address, limit=DEADLINE))
    without_net_admin(listeners.drop_syns)
    assert not any(connects(address))
    listeners.close()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as client:
        with pytest.raises(ConnectionRefusedError):
            client.connect(address)


@linux
def test_a_handshake_under_way_loses_nothing_where_syns_are_dropped_without_a_privilege(bound: Any) -> None:
    """With TCP_DEFER_ACCEPT a handshake is under way until its first byte comes."""
    listeners = bound()
    [[sock]] = listeners.sockets
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
    with socket.create_connection(("127.0.0.1", port_of(listeners)), 5) as client:
        with pytest.raises(BlockingIOError):
            sock.accept()
        without_net_admin(listeners.drop_syns)
        client.sendall(b"x")
        wait_until(lambda: select.select([sock], [], [], 0)[0], "the end of the handshake")
        served, _ = sock.accept()
        listeners.close()
        with served:
            served.settimeout(5)
            assert served.recv(10) == b"x"
            client.sendall(b"y")
            assert served.recv(10) == b"y"
            served.sendall(b"z")
            assert client.recv(10) == b"z"


@linux
def test_connections_and_the_queue_lose_nothing_where_syns_are_dropped_without_a_privilege(bound: Any) -> None:
    listeners = bound(2)
    clients = [socket.create_connection(("127.0.0.1", port_of(listeners)), 5) for _ in range(20)]
    for client in clients[:10]:
        client.sendall(b"x")
    without_net_admin(listeners.drop_syns)
    for client in clients:
        client.sendall(b"y")
    received = []
    for [sock] in listeners.sockets:
        with contextlib.suppress(BlockingIOError):
            while True:
                served, _ = sock.accept()
                served.settimeout(5)
                served.sendall(b"z")
                received.append(served)
    listeners.close()
    got = sorted(served.recv(10) for served in received)
    assert got == 10 * [b"xy"] + 10 * [b"y"]
    for sock in (*clients, *received):
        sock.close()


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")
def test_syns_are_dropped_after_the_user_has_changed(bound: Any) -> None:
    """A socket that the new user binds is in no group with those of root: it is bound before."""
    program = """
import os, select, socket
from fastecho._net.listeners import bind
from fastecho.config import ServerConfig
listeners = bind(ServerConfig(port=0), 2)
listeners.prepare_to_drop_syns()
os.setgid(65534), os.setuid(65534)
listeners.drop_syns()
made = []
for _ in range(20):
    with socket.socket() as client:
        client.setblocking(False)
        client.connect_ex(listeners.sockets[0][0].getsockname())
        made += select.select([], [client], [], 0)[1]
print("connected:", len(made))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("connected: 0\n", "")


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_no_syn_is_led_away_from_another_program_at_the_address(bound: Any, host: str) -> None:
    """Sockets of another program are in the group, so the number of the socket that drops SYNs is not known."""
    if without_net_admin(lambda: drop_syns(bound().sockets[0][0])):
        pytest.skip("this kernel lets every user attach a socket filter")
    listeners = bound(2, host=host)
    with socket.socket(listeners.sockets[0][0].family) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(listeners.sockets[0][0].getsockname())
        other.listen(100)
        other.setblocking(False)
        without_net_admin(listeners.drop_syns)
        assert all(connects((host, port_of(listeners)), 60, DEADLINE))
        assert 0 < accepted(other) < 60  # the kernel chooses as before
        assert not listeners.diverts_syns


@linux
def test_a_program_that_joins_during_a_stop_gets_every_client_after_it(bound: Any) -> None:
    listeners = bound(1)
    without_net_admin(listeners.drop_syns)
    with contextlib.ExitStack() as stack:
        others = []
        for _ in range(3):
            others.append(other := stack.enter_context(socket.socket()))
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind(listeners.sockets[0][0].getsockname())
            other.listen(100)
            other.setblocking(False)
        address = ("127.0.0.1", port_of(listeners))
        listeners.close()
        assert all(connects(address, 90, DEADLINE))
        assert all(accepted(other) for other in others)  # and the kernel chooses among its sockets


def test_another_copy_has_a_socket_of_each_kind(bound: Any) -> None:
    listeners = bound(1, udp=True)
    kinds = [sock.type for sock in listeners.add_copy(64)]
    assert kinds == [sock.type for sock in listeners.sockets[0]] == [socket.SOCK_STREAM, socket.SOCK_DGRAM]


def test_the_descriptor_limit_is_raised_to_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        assert limits.connection_limit(None) == min(soft, 512) - limits.DESCRIPTOR_RESERVE
        assert limits.connection_limit(100) == 100
        assert limits.connection_limit(1_000_000) == min(soft, 512) - limits.DESCRIPTOR_RESERVE
        raised = limits.raise_descriptor_limit()
        assert raised == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert raised == hard or hard == resource.RLIM_INFINITY
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_unlimited_hard_limit_that_the_system_will_not_give(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []

    def setrlimit(which: int, limits: tuple[int, int]) -> None:
        if limits[0] == resource.RLIM_INFINITY:
            raise ValueError("current limit exceeds maximum limit")
        given.append(limits[0])

    fake = SimpleNamespace(
        RLIMIT_NOFILE=resource.RLIMIT_NOFILE,
        RLIM_INFINITY=resource.RLIM_INFINITY,
        getrlimit=lambda which: (256, resource.RLIM_INFINITY),
        setrlimit=setrlimit,
    )
    monkeypatch.setattr("fastecho._net.limits.resource", cast(Any, fake))
    assert limits.raise_descriptor_limit() == 10240
    assert given == [10240]


def test_a_unix_socket_is_ours_alone_and_goes_when_we_go(bound: Any, tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    listeners = bound(3, unix=str(path))
    assert listeners.addresses == (f"unix:{path}",)
    assert listeners.sockets[0][0] is listeners.sockets[2][0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert socket_address(listeners.sockets[0][0]) == f"unix:{path}"
    assert os.listdir(tmp_path) == ["echo.sock"]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listeners.unlink()
    assert os.listdir(tmp_path) == []


def test_the_shared_unix_socket_stays_open_with_the_copies_closed(bound: Any, tmp_path: Path) -> None:
    listeners = bound(3, unix=str(tmp_path / "echo.sock"))
    [sock] = listeners.sockets[1]
    listeners.close_other_copies([sock])
    assert sock.fileno() >= 0


@pytest.mark.parametrize("backlog_full", [False, True])
def test_a_live_unix_socket_is_not_stolen(bound: Any, tmp_path: Path, backlog_full: bool) -> None:
    path = str(tmp_path / "echo.sock")
    bound(unix=path, backlog=1)
    clients = []
    try:
        while backlog_full:
            clients.append(client := socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect(path)
    except BlockingIOError:
        pass
    inode = os.stat(path).st_ino
    with pytest.raises(AddressInUseError) as caught:
        bind(config(unix=path))
    assert caught.value.exit_code == 69
    assert f"unix:{path}" in one_line(caught.value)
    assert os.stat(path).st_ino == inode
    assert os.listdir(tmp_path) == ["echo.sock"]
    for client in clients:
        client.close()


def test_a_stale_unix_socket_is_replaced(bound: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "echo.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
        stale.listen()
    bound(unix=path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_file_at_the_path_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    path.write_text("precious")
    with pytest.raises(AddressInUseError, match="not a socket") as caught:
        bind(config(unix=str(path)))
    one_line(caught.value)
    assert path.read_text() == "precious"
    assert os.listdir(tmp_path) == ["echo.sock"]


def test_a_successor_at_the_path_is_not_unlinked(bound: Any, tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    listeners = bound(unix=str(path))
    path.unlink()
    successor = bound(unix=str(path))
    listeners.unlink()
    assert path.exists()
    successor.unlink()
    assert not path.exists()


def test_a_forked_child_does_not_unlink_the_path(bound: Any, tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    listeners = bound(unix=str(path))
    child = os.fork()
    if child == 0:
        listeners.unlink()
        os._exit(0)
    os.waitpid(child, 0)
    assert path.exists()


def test_of_many_on_one_path_one_wins(tmp_path: Path) -> None:
    for round_ in range(20):
        path = str(tmp_path / f"{round_}.sock")
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        gate = threading.Barrier(4)
        won: list[Listeners] = []

        def start(gate: threading.Barrier = gate, path: str = path, won: list[Listeners] = won) -> None:
            gate.wait(10)
            try:
                won.append(bind(config(unix=path)))
            except AddressInUseError:
                return

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        [listeners] = won
        listeners.unlink()
        listeners.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "error"),
    [("missing/echo.sock", AddressError)],
)
def test_a_path_that_cannot_be_bound_says_why(tmp_path: Path, name: str, error: type[FastechoError]) -> None:
    with pytest.raises(error) as caught:
        bind(config(unix=str(tmp_path / name)))
    assert str(tmp_path) in one_line(caught.value)
