"""Clients behind a proxy, and proxies, that misbehave: each connection has to begin with a PROXY header."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from clients import read_exactly, reset_socket
from hostility import DEADLINE, Stage, Table, Visit, play_one, prove, push, read_to_the_end, send, trickle
from neighbours import Neighbours
from processes import Service, one_echo

PROXY = Table()
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"


def binary(command: int = 0x21, family: int = 0x11, size: int | None = None, rest: bytes = bytes(12)) -> bytes:
    """A header of version 2; `size` is the length that it claims, by default that of `rest`."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest) if size is None else size) + rest


def refused(visit: Visit, header: bytes) -> None:
    sock = visit.connect()
    send(sock, header + b"never to be echoed")
    assert read_to_the_end(sock) == b""


def accepted(visit: Visit, header: bytes) -> socket.socket:
    sock = visit.connect()
    sock.sendall(header + b"hello")
    assert read_exactly(sock, 5) == b"hello"
    return sock


@PROXY
def sends_no_header(visit: Visit) -> None:
    """Connects, and says nothing."""
    visit.connect()


@PROXY
def sends_half_a_line(visit: Visit) -> None:
    """Half a header of version 1, and no more."""
    visit.connect().sendall(LINE[:20])


@PROXY
def sends_half_a_binary_header(visit: Visit) -> None:
    """Half a header of version 2, and no more."""
    visit.connect().sendall(binary()[:14])


@PROXY
def sends_a_line_without_an_end(visit: Visit) -> None:
    """Version 1 allows 107 bytes; these are many more."""
    sock = visit.connect()
    send(sock, b"PROXY TCP4 ")
    push(sock, most=1 << 20)
    assert read_to_the_end(sock) == b""


@PROXY
def claims_the_longest_header_and_sends_it_byte_by_byte(visit: Visit) -> None:
    """65,535 bytes of version 2, a few hundred of them, one at a time."""
    trickle(visit.connect(), binary(size=65535)[:300])


@PROXY
def sends_all_but_the_last_byte_of_the_longest_header(visit: Visit) -> None:
    """The server holds 64 KiB of it, and waits."""
    visit.connect().sendall(binary(size=65535, rest=bytes(65534)))


@PROXY
def begins_with_a_wrong_signature(visit: Visit) -> None:
    """The last byte of the signature differs."""
    refused(visit, SIGNATURE[:-1] + b"X" + binary()[12:])


@PROXY
def sends_its_data_before_the_header(visit: Visit) -> None:
    """The header comes after the first message."""
    refused(visit, b"hello" + LINE)


@PROXY
def claims_less_than_its_family_needs(visit: Visit) -> None:
    """The length of version 2 is that of no address."""
    refused(visit, binary(size=4, rest=bytes(4)))


@PROXY
def claims_more_than_it_sends(visit: Visit) -> None:
    """The length of version 2 takes in what was meant to be echoed, and then more."""
    visit.connect().sendall(binary(size=1000) + b"hello")


@PROXY
def sends_a_header_byte_by_byte(visit: Visit) -> None:
    """Both versions, a segment for each byte."""
    for header in (LINE, binary()):
        sock = visit.connect()
        trickle(sock, header + b"hello")
        assert read_exactly(sock, 5) == b"hello"


@PROXY
def sends_60_kib_of_extensions(visit: Visit) -> None:
    """Version 2 with thousands of TLVs, which are passed over."""
    accepted(visit, binary(rest=bytes(12) + b"\xea\0\0" * 20_000))


@PROXY
def sends_broken_extensions(visit: Visit) -> None:
    """A TLV that claims more than the header has."""
    accepted(visit, binary(rest=bytes(12) + b"\x04\xff\xff"))


@PROXY
def speaks_for_itself(visit: Visit) -> None:
    """LOCAL, with addresses of no use."""
    accepted(visit, binary(command=0x20))


@PROXY
def names_a_unix_socket(visit: Visit) -> None:
    """A path with control characters, as if to forge lines of the log."""
    path = b"/a\n\x1b[2J\r\n2026-01-01T00:00:00.000Z ERROR forged"
    accepted(visit, binary(family=0x31, rest=path.ljust(216, b"\xff")))


@PROXY
def names_a_client_with_a_zone(visit: Visit) -> None:
    """The zone of an IPv6 address may hold any text; in a header there is none."""
    refused(visit, b"PROXY TCP6 fe80::1%\x1b[2J\nforged ::1 1 2\r\n")


@PROXY
def names_nobody(visit: Visit) -> None:
    """UNKNOWN, with the rest of the line full of rubbish."""
    accepted(visit, b"PROXY UNKNOWN " + bytes(range(128, 208)) + b"\r\n")


@PROXY
def sends_two_headers(visit: Visit) -> None:
    """The second one is data, and is echoed."""
    sock = visit.connect()
    sock.sendall(LINE + LINE)
    assert read_exactly(sock, len(LINE)) == LINE


@PROXY
def speaks_a_version_to_come(visit: Visit) -> None:
    """Version 3, which there is not."""
    refused(visit, binary(command=0x31))


@PROXY
def resets_within_its_header(visit: Visit) -> None:
    """RST after half of it."""
    sock = visit.connect()
    sock.sendall(binary()[:20])
    reset_socket(sock)


@PROXY
def sends_fin_within_its_header(visit: Visit) -> None:
    """FIN after half of it."""
    sock = visit.connect()
    sock.sendall(LINE[:-1])
    sock.shutdown(socket.SHUT_WR)
    assert read_to_the_end(sock) == b""


@PROXY
def never_reads_behind_its_header(visit: Visit) -> None:
    """A good header, and then a client that takes no echo."""
    push(accepted(visit, binary()))


@PROXY
def opens_a_storm_of_headers(visit: Visit) -> None:
    """Fifty connections, each reset behind a good header."""
    for _ in range(50):
        sock = visit.connect()
        sock.sendall(LINE)
        reset_socket(sock)



@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    options = ("--proxy-protocol", "--log-level", "debug")
    with Service(*options) as service, Neighbours(service.address, header=LINE) as neighbours:

        def alive() -> None:
            assert one_echo(service.address, LINE + b"hello\0") == b"hello\0"

        yield Stage(service, neighbours, alive)


@pytest.mark.parametrize("name", PROXY)
def test_a_hostile_proxy_keeps_within_its_bounds(stage: Stage, name: str) -> None:
    play_one(stage, PROXY, name)


@pytest.mark.alone
@pytest.mark.timeout(12 * DEADLINE)
@pytest.mark.proof(
    "A hostile sender of PROXY headers costs at most 256 KiB of the worker's memory, crashes nothing, causes no "
    "traceback, and leaves the p99 of other clients within 5 ms."
)
def test_no_hostile_proxy_slows_the_others(stage: Stage, amount: Any, record_property: Any) -> None:
    prove(stage, PROXY, amount, record_property)
