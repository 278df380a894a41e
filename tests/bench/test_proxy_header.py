"""The header of the PROXY protocol that `bench` and `ping` send before the first byte."""

import contextlib
import socket
import ssl
import struct

import pytest

from bench_servers import echo, serving, tls_context
from fastecho.bench import LoadError, LoadSpec, run_load
from fastecho.bench._load import proxy_header
from fastecho.bench.ping import Pinger
from fastecho.bench.target import Target

VERSIONS = pytest.mark.parametrize("version", [1, 2])


def header_of(version, client, server, ipv6=False):
    """What a client at `client` sends, written from the document."""
    if version == 1:
        return f"PROXY TCP{6 if ipv6 else 4} {client[0]} {server[0]} {client[1]} {server[1]}\r\n".encode()
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    addresses = socket.inet_pton(family, client[0]) + socket.inet_pton(family, server[0])
    ports = struct.pack("!HH", client[1], server[1])
    return b"\r\n\r\n\x00\r\nQUIT\n\x21" + (b"\x21\x00\x24" if ipv6 else b"\x11\x00\x0c") + addresses + ports


def behind_a_proxy(version, then=echo):
    """Reads the header, checks it, and goes on with `then`."""

    def session(sock):
        expected = header_of(version, sock.getpeername(), sock.getsockname())
        assert sock.recv(len(expected), socket.MSG_WAITALL) == expected
        then(sock)

    return session


def over_tls(sock):
    with tls_context().wrap_socket(sock, server_side=True, suppress_ragged_eofs=True) as secured:
        with contextlib.suppress(ssl.SSLError, ConnectionResetError):
            echo(secured)


@VERSIONS
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_header_names_both_ends(version, host):
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        with socket.create_connection(listener.getsockname()[:2]) as client:
            own, server = client.getsockname(), client.getpeername()
            assert proxy_header(client.fileno(), version) == header_of(version, own, server, family == socket.AF_INET6)


def test_the_longest_line_fits():
    """An address of 39 letters is longer than any that a machine has on loopback: the C has room for it."""
    assert len(b"PROXY TCP6 " + b"x" * 39 + b" " + b"x" * 39 + b" 65535 65535\r\n") <= 107


def test_a_unix_socket_names_nobody():
    with_names = socket.socketpair()
    with with_names[0] as client, with_names[1]:
        assert proxy_header(client.fileno(), 1) == b"PROXY UNKNOWN\r\n"
        assert proxy_header(client.fileno(), 2) == b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


def test_a_connection_that_has_ended_has_no_header():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        listener.accept()[0].close()
        client.close()
        with pytest.raises(OSError, match="descriptor"):
            proxy_header(client.detach(), 1)


@VERSIONS
@pytest.mark.parametrize("settings", [{}, {"churn": True}, {"rate": 200.0}, {"churn": True, "rate": 200.0}], ids=str)
def test_each_connection_of_a_load_begins_with_it(version, settings):
    with serving(behind_a_proxy(version)) as target:
        spec = LoadSpec(target=target, duration=0.3, warmup=0.1, connections=4, proxy_protocol=version, **settings)
        result = run_load(spec)
    assert result.ok
    assert result.echoes > 0


@VERSIONS
def test_it_comes_before_the_handshake_of_tls(version):
    with serving(behind_a_proxy(version, over_tls)) as target:
        target = target.replace("tcp:", "tls:")
        spec = LoadSpec(target=target, duration=0.3, connections=2, proxy_protocol=version, tls_insecure=True)
        assert run_load(spec).ok


@VERSIONS
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_ping_sends_it(version, tls):
    with serving(behind_a_proxy(version, over_tls if tls else echo)) as target:
        parsed = Target.parse(target.replace("tcp:", "tls:") if tls else target)
        pinger = Pinger(
            parsed, size=64, timeout=5.0, terminator=None, proxy_protocol=version, tls_ca=None, tls_insecure=tls
        )
        assert pinger.ping(1).problem is None
        pinger.close()


def test_a_server_that_echoes_the_header_is_found():
    with serving(echo) as target:
        try:
            spec = LoadSpec(target=target, duration=0.5, connections=2, proxy_protocol=1)
            said = "; ".join(run_load(spec).error_details)
        except LoadError as error:  # before the first message is sent
            said = str(error)
    assert "'PROXY TCP4" in said
