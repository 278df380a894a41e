"""Clients of TLS that misbehave. The service asks for a client certificate."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from clients import connect_blocking, read_exactly, reset_socket
from fastecho.testing import certificates
from hostility import (
    DEADLINE,
    QUIET,
    NotAllowed,
    Stage,
    Table,
    Visit,
    play_one,
    prove,
    push,
    read_to_the_end,
    send,
    trickle,
)  # fmt: skip
from neighbours import Neighbours
from openssl import TLS_1_2, TLS_1_3, OpenSSLClient
from processes import Service
from records import RecordClient

TLS = Table()
ALERT, HANDSHAKE, DATA = 21, 22, 23
STRANGER = trustme.CA()
HOLDS_UP = ("asks for new keys without end", "asks for new keys behind its terminator")
"""OpenSSL takes all KeyUpdates of one read before it returns: others wait once, for up to some 0.4 s (SECURITY.md)."""
MEMORY = 1 << 20
"""Bytes for a TLS connection: uvloop reads into a buffer of 256 KiB of each, and keeps what OpenSSL has not taken."""


def record(kind: int, content: bytes, size: int | None = None) -> bytes:
    return struct.pack("!BHH", kind, 0x0303, len(content) if size is None else size) + content


def context(**options: Any) -> ssl.SSLContext:
    """Of a client with a good certificate; `options` are attributes of the context."""
    made = ssl.create_default_context(cafile=certificates().ca_path)
    made.load_cert_chain(certificates().client.cert_path, certificates().client.key_path)
    for name, value in options.items():
        setattr(made, name, value)
    return made


def secured(visit: Visit, **options: Any) -> ssl.SSLSocket:
    """A connection after its handshake and one echo."""
    sock = visit.keep(context(**options).wrap_socket(visit.connect(), server_hostname="localhost"))
    sock.sendall(b"hello")
    assert read_exactly(sock, 5) == b"hello"
    return sock


def hello(**options: Any) -> bytes:
    """The ClientHello of such a client, as it is sent."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context(**options).wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def underneath(sock: ssl.SSLSocket, visit: Visit) -> socket.socket:
    """The connection below TLS."""
    plain: socket.socket = visit.keep(socket.socket(fileno=sock.detach()))
    plain.settimeout(DEADLINE)
    return plain


# Not TLS


@TLS
def speaks_plain_text(visit: Visit) -> None:
    """A line where a ClientHello is due."""
    sock = visit.connect()
    send(sock, b"hello\0")
    sock.shutdown(socket.SHUT_WR)
    read_to_the_end(sock)


@TLS
def speaks_http(visit: Visit) -> None:
    """A request of HTTP, which OpenSSL knows by its looks."""
    sock = visit.connect()
    send(sock, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


@TLS
def speaks_ssl_2(visit: Visit) -> None:
    """A ClientHello of 1995."""
    send(visit.connect(), b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37))


@TLS
def sends_zeros_without_end(visit: Visit) -> None:
    """Megabytes where a ClientHello is due."""
    push(visit.connect(), bytes(65536), 4 << 20)


@TLS
def says_nothing(visit: Visit) -> None:
    """Connects, and does not begin the handshake."""
    visit.connect()


# The handshake


@TLS
def sends_half_a_clienthello(visit: Visit) -> None:
    """And no more."""
    greeting = hello()
    visit.connect().sendall(greeting[: len(greeting) // 2])


@TLS
def sends_its_clienthello_a_byte_at_a_time(visit: Visit) -> None:
    """A slow handshake: a segment for each byte."""
    trickle(visit.connect(), hello())


@TLS
def sends_its_clienthello_in_records_of_one_byte(visit: Visit) -> None:
    """A record for each byte."""
    send(visit.connect(), b"".join(record(HANDSHAKE, bytes([byte])) for byte in hello()[5:]))


@TLS
def claims_a_clienthello_of_16_mib(visit: Visit) -> None:
    """The length of the message is the largest there is, and its bytes keep coming."""
    sock = visit.connect()
    send(sock, record(HANDSHAKE, b"\x01\xff\xff\xff" + bytes(16000)))
    push(sock, record(HANDSHAKE, bytes(16000)), 4 << 20)


@TLS
def sends_the_longest_clienthello_but_for_a_byte(visit: Visit) -> None:
    """OpenSSL takes 128 KiB of it; the last byte does not come."""
    body = bytes(131_000)
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    send(visit.connect(), b"".join(record(HANDSHAKE, message[at : at + 16000]) for at in range(0, 130_000, 16000)))


@TLS
def stops_after_its_clienthello(visit: Visit) -> None:
    """The server's answer is never taken."""
    visit.connect(rcvbuf=1).sendall(hello())


@TLS
def sends_fin_after_its_clienthello(visit: Visit) -> None:
    """The client closes in the middle of the handshake."""
    sock = visit.connect()
    sock.sendall(hello())
    sock.shutdown(socket.SHUT_WR)
    read_to_the_end(sock)


@TLS
def resets_after_its_clienthello(visit: Visit) -> None:
    """RST in the middle of the handshake."""
    sock = visit.connect()
    sock.sendall(hello())
    reset_socket(sock)


@TLS
def sends_two_clienthellos(visit: Visit) -> None:
    """The second one where the rest of the handshake is due."""
    sock = visit.connect()
    send(sock, hello() * 2)
    read_to_the_end_or_time_out(sock)


@TLS
def sends_back_what_the_server_says(visit: Visit) -> None:
    """An echo of the handshake."""
    sock = visit.connect()
    sock.sendall(hello())
    send(sock, sock.recv(65536))


@TLS
def offers_only_an_old_version(visit: Visit) -> None:
    """TLS 1.1, which the server refuses with an alert."""
    greeting = bytearray(hello(maximum_version=ssl.TLSVersion.TLSv1_2))
    greeting[9:11] = b"\x03\x02"
    sock = visit.connect()
    send(sock, bytes(greeting))
    assert sock.recv(1) == bytes([ALERT])


@TLS
def begins_a_storm_of_handshakes(visit: Visit) -> None:
    """Twenty ClientHellos, each reset at once: the server has made keys for nothing."""
    greeting = hello()
    for _ in range(20):
        sock = visit.connect()
        sock.sendall(greeting)
        reset_socket(sock)


# Certificates


@TLS
def shows_no_certificate(visit: Visit) -> None:
    """The server asks for one."""
    shown(visit, ssl.create_default_context(cafile=certificates().ca_path))


@TLS
def shows_a_certificate_of_an_unknown_authority(visit: Visit) -> None:
    """Signed by a CA that the server does not trust."""
    made = ssl.create_default_context(cafile=certificates().ca_path)
    STRANGER.issue_cert("client@example.org").configure_cert(made)
    shown(visit, made)


@TLS
def shows_a_certificate_that_has_expired(visit: Visit) -> None:
    """It was good until yesterday."""
    made = ssl.create_default_context(cafile=certificates().ca_path)
    expired = certificates().expired
    made.load_cert_chain(expired.cert_path, expired.key_path)
    shown(visit, made)


def shown(visit: Visit, made: ssl.SSLContext) -> None:
    raw = visit.connect()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        with made.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as sock:
            sock.recv(1)


# Records


@TLS
def sends_empty_records(visit: Visit) -> None:
    """A thousand records of length 0 where a handshake is due."""
    send(visit.connect(), record(HANDSHAKE, b"") * 1000)


@TLS
def sends_empty_records_after_the_handshake(visit: Visit) -> None:
    """A thousand records of length 0 where data is due."""
    send(underneath(secured(visit), visit), record(DATA, b"") * 1000)


@TLS
def sends_a_record_that_is_too_long(visit: Visit) -> None:
    """The length of the record is the largest that fits the field."""
    send(underneath(secured(visit), visit), record(DATA, bytes(65535)))


@TLS
def sends_rubbish_after_the_handshake(visit: Visit) -> None:
    """A record that no key of the connection has made."""
    send(underneath(secured(visit), visit), record(DATA, bytes(range(256))))


@TLS
def sends_a_storm_of_alerts(visit: Visit) -> None:
    """A thousand warnings before the handshake."""
    send(visit.connect(), record(ALERT, b"\x01\x5a") * 1000)


@TLS
def sends_a_storm_of_alerts_after_the_handshake(visit: Visit) -> None:
    """A thousand warnings in plain text where data is due."""
    send(underneath(secured(visit), visit), record(ALERT, b"\x01\x5a") * 1000)


@TLS
def sends_records_of_one_byte(visit: Visit) -> None:
    """Each byte is encrypted by itself."""
    sock = secured(visit)
    for _ in range(200):
        sock.sendall(b"x")
    assert read_exactly(sock, 200) == b"x" * 200


@TLS
def floods_with_records_of_one_byte(visit: Visit) -> None:
    """As fast as the server takes them: megabytes of TLS with some kilobytes of data."""
    flood(RecordClient(visit.connect(), context()))


@TLS
def floods_with_records_of_one_byte_behind_its_terminator(visit: Visit) -> None:
    """The server waits for the client's close_notify, and discards them."""
    client = RecordClient(visit.connect(), context())
    assert client.exchange([b"\0"]) == b"\0"
    client.read_close_notify()
    flood(client)


def flood(client: RecordClient) -> None:
    made = client.records([b"x"] * 100_000)
    push(client.sock, made, len(made))


# Not reading


@TLS
def never_reads(visit: Visit) -> None:
    """Sends as much as the server takes, and reads none of the echo."""
    push(secured(visit))


@TLS
def never_reads_after_a_fast_beginning(visit: Visit) -> None:
    """Some megabytes are echoed, which makes the kernel's buffers grow; then it reads no more."""
    sock = secured(visit)
    for _ in range(32):
        sock.sendall(b"x" * 65536)
        assert len(read_exactly(sock, 65536)) == 65536
    push(sock)


@TLS
def says_nothing_after_the_handshake(visit: Visit) -> None:
    """A session of nothing."""
    secured(visit)


# Ends


@TLS
def closes_without_close_notify(visit: Visit) -> None:
    """FIN alone: to TLS a truncation."""
    underneath(secured(visit), visit).shutdown(socket.SHUT_WR)


@TLS
def sends_data_behind_its_close_notify(visit: Visit) -> None:
    """It has said that it is done, and goes on."""
    sock = secured(visit)
    with contextlib.suppress(OSError):
        sock.unwrap()
    with contextlib.suppress(OSError):
        sock.send(record(DATA, bytes(100)))


@TLS
def never_answers_a_close_notify(visit: Visit) -> None:
    """The terminator ends the session, and the client stays."""
    secured(visit).sendall(b"\0")


@TLS
def sends_on_after_a_close_notify(visit: Visit) -> None:
    """The terminator ends the session, and the client sends megabytes."""
    sock = secured(visit)
    sock.sendall(b"\0")
    push(sock, most=4 << 20)


@TLS
def resets_after_the_handshake(visit: Visit) -> None:
    """RST with a record on its way."""
    sock = secured(visit)
    sock.sendall(b"x")
    reset_socket(underneath(sock, visit))


# Sessions


@TLS
def replays_a_ticket(visit: Visit) -> None:
    """One ticket of TLS 1.3, for five connections."""
    made = context()
    first = visit.keep(made.wrap_socket(visit.connect(), server_hostname="localhost"))
    first.sendall(b"hello")
    assert read_exactly(first, 5) == b"hello"
    for _ in range(5):
        sock = visit.keep(made.wrap_socket(visit.connect(), server_hostname="localhost", session=first.session))
        sock.sendall(b"again")
        assert read_exactly(sock, 5) == b"again"


@TLS
def asks_to_renegotiate(visit: Visit) -> None:
    """TLS 1.2 allows it; the server does not."""
    with_openssl(visit, TLS_1_2).renegotiate()


@TLS
def asks_for_new_keys_without_end(visit: Visit) -> None:
    """Each KeyUpdate of TLS 1.3 asks the server for one, and none of them is read."""
    with_openssl(visit, TLS_1_3, rcvbuf=4096).update_keys(30_000, QUIET)


@TLS
def asks_for_new_keys_behind_its_terminator(visit: Visit) -> None:
    """The same while the server waits for the client's close_notify."""
    client = with_openssl(visit, TLS_1_3, rcvbuf=4096)
    client.write(b"\0")
    client.update_keys(3_000, QUIET)


def with_openssl(visit: Visit, version: int, **sizes: int) -> OpenSSLClient:
    certificate = certificates().client
    try:
        made = OpenSSLClient(visit.connect(**sizes), certificate.cert_path, certificate.key_path, version)
    except OSError as error:
        raise NotAllowed(f"OpenSSL through ctypes: {error}") from None
    return visit.keep(made)


def read_to_the_end_or_time_out(sock: socket.socket) -> None:
    sock.settimeout(0.2)
    with contextlib.suppress(TimeoutError, ConnectionError):
        while sock.recv(65536):
            pass


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    client = certificates().client
    files = (certificates().ca_path, client.cert_path, client.key_path)
    options = {"tls_cert": client.cert_path, "tls_key": client.key_path, "tls_client_ca": certificates().ca_path}
    before = "sys.modules['uvloop'] = None" if request.param == "asyncio" else "pass"
    with Service.supervisor({}, before, **options) as service, Neighbours(service.address, tls=files) as neighbours:

        def alive() -> None:
            with connect_blocking(service.address, DEADLINE) as raw:
                with context().wrap_socket(raw, server_hostname="localhost") as sock:
                    sock.sendall(b"hello\0")
                    assert read_to_the_end(sock) == b"hello\0"

        yield Stage(service, neighbours, alive, memory=MEMORY)


@pytest.mark.parametrize("name", TLS)
def test_a_hostile_client_of_tls_keeps_within_its_bounds(
    stage: Stage, name: str, request: pytest.FixtureRequest
) -> None:
    loop = request.node.callspec.params["stage"]
    if name == "floods with records of one byte" and loop == "asyncio" and sys.version_info < (3, 11):
        pytest.skip("asyncio of Python 3.10 echoes each record by itself, and logs each one that a reset client misses")
    play_one(stage, TLS, name, times=2)


@pytest.mark.alone
@pytest.mark.timeout(24 * DEADLINE)
@pytest.mark.proof(
    "A hostile client of TLS costs at most 1 MiB of the worker's memory, crashes nothing, causes no traceback, and "
    "leaves the p99 of other clients within 5 ms, unless it floods the server with KeyUpdates."
)
def test_no_hostile_client_of_tls_slows_the_others(stage: Stage, amount: Any, record_property: Any) -> None:
    prove(stage, TLS, amount, record_property, HOLDS_UP)
