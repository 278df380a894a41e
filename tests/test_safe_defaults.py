"""What a server is without options: closed to other hosts; and the one line that says when it is not."""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

import fastecho
from activation import activated
from fastecho._net.listeners import beyond_loopback
from fastecho.config import ServerConfig
from fastecho.testing import echo_server
from processes import Service, one_echo

WARNING = "listening beyond loopback"


def warnings(service: Service) -> list[str]:
    return [line for line in service.errors.splitlines() if WARNING in line]


def bound(pid: int) -> set[tuple[str, str]]:
    """Table and local address (as the kernel writes it) of the IP sockets that a process listens on, or has bound."""
    inodes = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in inodes:
                found.add((table, fields[1].partition(":")[0]))
    return found


def test_a_service_without_options_listens_on_loopback_with_tcp_only() -> None:
    with Service("--workers", "2") as service:
        for pid in (service.pid, *service.workers()):
            assert bound(pid) == {("tcp", "0100007F")}
        assert warnings(service) == []


def test_the_defaults_open_nothing_else() -> None:
    config = ServerConfig()
    assert (config.host, config.udp, config.unix, config.metrics) == ("127.0.0.1", False, None, None)
    assert (config.fault, config.proxy_protocol, config.tls_min_version) == ((), False, "1.2")
    assert config.udp_rate == 10_000


def test_the_path_of_a_unix_socket_is_for_its_user_only(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    before = os.umask(0)
    try:
        with Service(unix=str(path)) as service:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert one_echo(service.address) == b"hello\0"
    finally:
        os.umask(before)


def test_the_fixture_and_the_functions_listen_on_loopback() -> None:
    with echo_server() as server, fastecho.serve(port=0) as other:
        assert server.address[0] == other.address[0] == "127.0.0.1"
    with echo_server(family="unix") as server:
        assert stat.S_IMODE(os.stat(server.address).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(server.address)).st_mode) == 0o700


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--host", "0.0.0.0"], ["tcp://0.0.0.0:"]),
        (["--host", "0.0.0.0", "--udp", "--workers", "2"], ["tcp://0.0.0.0:", "udp://0.0.0.0:"]),
        (["--metrics", "*:0"], ["http://0.0.0.0:"]),
        (["--host", "0.0.0.0", "--metrics", "0.0.0.0:0"], ["tcp://0.0.0.0:", "http://0.0.0.0:"]),
    ],
    ids=["host", "udp", "metrics", "both"],
)
def test_one_warning_names_what_other_hosts_may_reach(arguments: Sequence[str], named: Sequence[str]) -> None:
    with Service(*arguments) as service:
        service.wait_for(WARNING)
        [line] = warnings(service)
        assert line.split()[1] == "WARNING"
        assert all(each in line for each in named), line
        assert "127.0.0.1" not in line
        assert service.stop() == 0
        assert len(warnings(service)) == 1


@pytest.mark.parametrize(
    "arguments",
    [["--host", "127.0.0.1,127.1.2.3"], ["--host", "::1"], ["--host", "localhost", "--metrics", "localhost:0"],
     ["--metrics", "[::1]:0", "--udp"]],
    ids=["127.0.0.0/8", "IPv6", "name", "metrics"],
)  # fmt: skip
def test_loopback_is_no_warning(arguments: Sequence[str]) -> None:
    with Service(*arguments) as service:
        assert service.stop() == 0
        assert warnings(service) == []


def test_a_unix_socket_is_no_warning(tmp_path: Path) -> None:
    with Service(unix=str(tmp_path / "s")) as service:
        assert service.stop() == 0
        assert warnings(service) == []


@pytest.mark.parametrize(("host", "count"), [("0.0.0.0", 1), ("127.0.0.1", 0)])
def test_a_socket_of_a_service_manager_is_looked_at_too(host: str, count: int) -> None:
    with socket.create_server((host, 0)) as sock, activated([sock], "--workers", "2") as service:
        assert service.stop() == 0
        assert len(warnings(service)) == count


def test_a_rolling_restart_does_not_warn_again() -> None:
    with Service("--host", "0.0.0.0") as service:
        service.send(signal.SIGHUP)
        service.wait_for("is ready", 2)
        assert service.stop() == 0
        assert len(warnings(service)) == 1


@pytest.mark.parametrize(("host", "count"), [("0.0.0.0", 1), ("127.0.0.1", 0)])
def test_a_server_in_a_program_warns_once(caplog: pytest.LogCaptureFixture, host: str, count: int) -> None:
    with fastecho.serve(host=host, port=0):
        pass
    found = [record for record in caplog.records if WARNING in record.getMessage()]
    assert [record.levelno for record in found] == [logging.WARNING] * count


def test_addresses_of_every_form() -> None:
    near = ["unix:/run/echo.sock", "unix:@name", "tcp://127.0.0.1:1", "udp://127.9.9.9:1", "tcp://[::1]:1"]
    near += ["http://[::1]:9100/metrics", "tcp://[::ffff:127.0.0.1]:1"]
    far = ["tcp://0.0.0.0:1", "udp://[::]:1", "tcp://[fe80::1%eth0]:1", "http://192.0.2.1:9100/metrics"]
    far += ["tcp://[::ffff:192.0.2.1]:1"]
    assert beyond_loopback([*near, *far]) == far
