"""The same over TLS, 1.2 and 1.3, and what only TLS can do wrong."""

from __future__ import annotations

import random
import socket
import ssl
import struct

import pytest

import fastecho._injection._session as faulty_session
from clients import read_exactly
from faulty_harness import exchange, read_all
from patience import wait_until

DATA = random.Random(9).randbytes(300_000)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def tls(host, certificates, request):
    """A host and a client of it: `tls(faults)` gives the two."""

    class Peer:
        version = request.param

        def host(self, *arguments, **options):
            self.server = host(*arguments, context=certificates.server, **options)
            return self.server

        def connect(self):
            return self.server.connect_tls(certificates.client(request.param))

    return Peer()


def test_echo_and_close_notify(tls):
    server = tls.host("latency(0)")
    sock = tls.connect()
    sock.sendall(DATA[:100_000])
    assert read_exactly(sock, 100_000) == DATA[:100_000]
    raw = sock.unwrap()
    assert raw.recv(1) == b""
    seen = server.closed()
    assert (seen.cause, seen.eof) == ("eof", True)
    assert seen.version == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[tls.version.name]
    assert bytes(seen.received) == bytes(seen.sent) == DATA[:100_000]


def test_everything_at_once(tls):
    """Much more than the sockets hold, both ways."""
    server = tls.host("close(after_received=300000)")
    sock = tls.connect()
    assert exchange(sock, DATA) == (DATA, "eof")
    assert server.session().log == [("close(after_received=300000)", 300_000, "in", 0)]


@pytest.mark.parametrize("offset", [0, 1, 16384, 100_001])
def test_reset_at_a_byte(tls, offset):
    server = tls.host(f"reset(after_sent={offset})")
    got, end = exchange(tls.connect(), DATA)
    assert got == DATA[:offset]
    assert end in ("reset", "cut")
    assert server.closed().log == [(f"reset(after_sent={offset})", offset, "out", 0)]


@pytest.mark.parametrize("offset", [0, 1, 16384, 100_001])
def test_close_at_a_byte_while_the_data_of_the_client_is_unread(tls, offset):
    server = tls.host(f"close(after_sent={offset})")
    assert exchange(tls.connect(), DATA) == (DATA[:offset], "eof")
    assert server.session().log == [(f"close(after_sent={offset})", offset, "out", 0)]


def test_half_close_reads_on(tls):
    server = tls.host("half_close(on=b'QUIT')")
    sock = tls.connect()
    sock.sendall(b"QUIT")
    assert read_all(sock) == (b"QUIT", "eof")
    sock.sendall(b"more")
    wait_until(lambda: bytes(server.session().received) == b"QUITmore", "it reads on")
    sock.close()
    assert server.closed().cause == "fault"


def test_no_close_notify(tls):
    server = tls.host("no_close_notify(); close(after_received=3)")
    sock = tls.connect()
    sock.sendall(b"abc")
    assert read_exactly(sock, 3) == b"abc"
    assert read_all(sock) == (b"", "cut")
    sock.close()
    assert server.closed().log == [("close(after_received=3)", 3, "in", 0), ("no_close_notify()", 3, "out", 0)]


def test_tls_abort_resets_after_the_client_hello(tls):
    server = tls.host("tls_abort()")
    with pytest.raises(ConnectionResetError):
        tls.connect()
    seen = server.closed()
    assert (seen.cause, seen.log, seen.version) == ("fault", [("tls_abort()", 0, "in", 0)], None)


def test_tls_stall_never_answers_the_client_hello(tls, certificates):
    server = tls.host("tls_stall()")
    raw = server.connect()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        certificates.client(tls.version).wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    raw.sendall(hello[:10])
    assert not server.session().log
    raw.sendall(hello[10:])
    wait_until(lambda: server.session().log, "the ClientHello is read")
    server.steer("push", b"nothing of it")
    raw.settimeout(0.1)
    with pytest.raises(TimeoutError):
        raw.recv(1)
    raw.close()
    seen = server.closed()
    assert (seen.cause, seen.log) == ("fault", [("tls_stall()", 0, "in", 0)])


@pytest.mark.parametrize("fault", ["reset()", "close()", "abort()", "stall()", "refuse()"])
def test_at_once_is_before_the_handshake(tls, fault):
    server = tls.host(fault)
    raw = server.connect()
    wait_until(lambda: server.session().log, "it is told")
    if fault != "stall()":
        assert read_all(raw) == (b"", "reset" if fault in ("reset()", "refuse()") else "eof")
    raw.close()
    seen = server.closed()
    assert (seen.cause, seen.log, seen.version) == ("fault", [(fault, 0, "in", 0)], None)


def test_stop_reading_at_once_lets_the_handshake_pass(tls):
    server = tls.host("stop_reading()", greeting=b"hello")
    sock = tls.connect()
    assert read_exactly(sock, 5) == b"hello"
    sock.sendall(b"x")
    server.steer("push", b"more")
    assert read_exactly(sock, 4) == b"more"
    assert not server.session().received


def test_slow_accept_holds_back_the_handshake(tls):
    server = tls.host("slow_accept(0.05)", greeting=b"1")
    raw = server.connect()
    server.steer("push", b"2")
    assert server.session().version is None
    raw.close()
    sock = tls.connect()
    assert read_exactly(sock, 1) == b"1"


def test_pushed_before_the_handshake(tls):
    server = tls.host("latency(0)", greeting=b"1")
    raw = server.connect()
    server.steer("push", b"2")
    sock = tls.server.clients.enter_context(
        ssl_of(tls).wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False)
    )
    assert read_exactly(sock, 2) == b"12"


def ssl_of(tls):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = tls.version
    return context


@pytest.mark.parametrize("words", [b"GET / HTTP/1.0\r\n\r\n", b""])
def test_a_failed_handshake(tls, words):
    server = tls.host("latency(0)")
    raw = server.connect()
    raw.sendall(words)
    if not words:
        raw.shutdown(socket.SHUT_WR)
    read_all(raw)
    raw.close()
    assert server.closed().cause == "reset"
    assert server.stats().ends["reset"] == 1


def test_a_handshake_that_does_not_come_has_a_bound(tls, monkeypatch):
    monkeypatch.setattr(faulty_session, "HANDSHAKE_TIMEOUT", 0.05)
    server = tls.host("latency(0)")
    raw = server.connect()
    assert read_all(raw) == (b"", "reset")
    assert server.closed().cause == "reset"


@pytest.mark.parametrize("method", ["finish", "reset", "shutdown_write"])
def test_steered_during_the_handshake(tls, method):
    server = tls.host("latency(0)")
    raw = server.connect()
    server.steer(method)
    assert read_all(raw) == (b"", "reset" if method == "reset" else "eof")
    raw.close()
    assert server.closed().cause == "fault"


def test_pause_keeps_what_was_decrypted(tls):
    server = tls.host("latency(0)", buffer_size=512)
    sock = tls.connect()
    server.session()
    wait_until(lambda: server.seen[0].version, "the handshake is done")
    server.steer("pause")
    sock.sendall(DATA[:16384])
    server.steer("resume")
    assert read_exactly(sock, 16384) == DATA[:16384]


def test_the_peer_goes_without_a_word(tls):
    server = tls.host("latency(0)")
    sock = tls.connect()
    sock.sendall(b"x")
    assert read_exactly(sock, 1) == b"x"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    assert server.closed().cause == "reset"
