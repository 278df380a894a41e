"""Senders of datagrams that misbehave. The other clients use TCP, in the same worker."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

import fastecho
from datagrams import ask, udp_client
from hostility import DEADLINE, NotAllowed, Stage, Table, Visit, checksum, play_one, prove, raw_socket
from neighbours import Neighbours
from processes import Service, one_echo

UDP = Table()


def sender(visit: Visit, host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A socket that is connected to the service."""
    sock = visit.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    try:
        sock.bind((host, port))
    except PermissionError:
        raise NotAllowed(f"binding UDP port {port}: not permitted") from None
    sock.connect(visit.address)
    sock.settimeout(DEADLINE)
    return sock


def packet(visit: Visit, source: tuple[str, int], data: bytes, size: int | None = None, offset: int = 0,
           check: int | None = None) -> bytes:  # fmt: skip
    """An IPv4 packet with a datagram to the service; `size` is what UDP claims, `offset` the field of the fragment."""
    ours, theirs = socket.inet_aton(source[0]), socket.inet_aton(visit.address[0])
    length = 8 + len(data) if size is None else size
    udp = struct.pack("!HHHH", source[1], visit.address[1], length, 0) + data
    if check is None:
        check = checksum(ours + theirs + struct.pack("!BBH", 0, socket.IPPROTO_UDP, length) + udp)
    udp = udp[:6] + struct.pack("!H", check) + udp[8:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 7, offset, 64, socket.IPPROTO_UDP, 0)
    return head + ours + theirs + udp


@UDP
def sends_empty_datagrams(visit: Visit) -> None:
    """Each is answered by an empty one."""
    sock = sender(visit)
    for _ in range(20):
        assert ask(sock, b"") == b""


@UDP
def sends_the_largest_datagrams(visit: Visit) -> None:
    """65,507 bytes, the most that IPv4 carries."""
    sock = sender(visit)
    data = bytes(range(256)) * 255 + bytes(227)
    assert len(data) == 65_507
    assert ask(sock, data) == data


@UDP
def claims_more_bytes_than_it_sends(visit: Visit) -> None:
    """The length of UDP is larger than the packet, which the kernel drops."""
    raw = raw_socket(visit)
    for size in (9, 100, 65_535):
        raw.sendto(packet(visit, ("127.0.0.1", 40_000), b"", size=size), visit.address)


@UDP
def claims_fewer_bytes_than_it_sends(visit: Visit) -> None:
    """A datagram that is cut short by its own length."""
    raw = raw_socket(visit)
    for size in (0, 7, 8, 10):
        raw.sendto(packet(visit, ("127.0.0.1", 40_000), b"x" * 100, size=size), visit.address)


@UDP
def sends_a_wrong_checksum(visit: Visit) -> None:
    """A hundred corrupt datagrams."""
    raw = raw_socket(visit)
    for _ in range(100):
        raw.sendto(packet(visit, ("127.0.0.1", 40_000), b"x" * 10, check=1), visit.address)


@UDP
def sends_fragments_that_never_end(visit: Visit) -> None:
    """A hundred first fragments; the rest of them never comes."""
    raw = raw_socket(visit)
    for _ in range(100):
        raw.sendto(packet(visit, ("127.0.0.1", 40_000), b"x" * 1000, size=9000, offset=0x2000), visit.address)


@UDP
def forges_the_port_of_a_service(visit: Visit) -> None:
    """Source ports of echo, chargen and DNS: an answer would begin a loop, or a flood."""
    for port in (7, 19, 53):
        with contextlib.closing(sender(visit, "127.0.0.9", port)) as sock:
            sock.send(b"forged")
            sock.settimeout(0.05)
            with pytest.raises(TimeoutError):
                sock.recv(100)


@UDP
def forges_our_own_port(visit: Visit) -> None:
    """A datagram that seems to come from another fastecho on the same port."""
    with contextlib.closing(sender(visit, "127.0.0.9", visit.address[1])) as sock:
        sock.send(b"forged")
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(100)


@UDP
def forges_our_own_address(visit: Visit) -> None:
    """Source and destination are the service itself."""
    raw = raw_socket(visit)
    for _ in range(100):
        raw.sendto(packet(visit, tuple(visit.address[:2]), b"x" * 10), visit.address)


@UDP
def forges_an_address_that_is_no_host(visit: Visit) -> None:
    """Broadcast, multicast and nothing as the source."""
    raw = raw_socket(visit)
    for source in ("255.255.255.255", "224.0.0.1", "0.0.0.0", "240.0.0.1"):
        raw.sendto(packet(visit, (source, 40_000), b"x" * 10), visit.address)


@UDP
def starts_a_loop_between_two_servers(visit: Visit) -> None:
    """A datagram whose source is another fastecho: two echo servers that answer each other."""
    raw = raw_socket(visit)
    with fastecho.serve(port=0, udp=True) as second:
        for _ in range(10):
            raw.sendto(packet(visit, second.address, b"x" * 10), visit.address)


@UDP
def sends_a_storm(visit: Visit) -> None:
    """Three thousand datagrams without waiting for an answer."""
    sock = sender(visit)
    for number in range(3000):
        sock.send(b"%d" % number)


@UDP
def sends_a_storm_from_many_ports(visit: Visit) -> None:
    """Two hundred sources, a few datagrams each."""
    for _ in range(200):
        with udp_client(visit.address) as sock:
            sock.send(b"x")
            sock.send(b"y")


@UDP
def has_closed_its_port(visit: Visit) -> None:
    """The answer meets no socket, and the server gets an ICMP error for it."""
    for _ in range(100):
        sock = sender(visit)
        sock.send(b"x" * 100)
        sock.close()


@UDP
def never_reads_its_answers(visit: Visit) -> None:
    """Its receive buffer is full after a few of them."""
    sock = sender(visit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for _ in range(100):
        sock.send(b"x" * 10_000)


@UDP
def sends_to_the_tcp_port_what_is_no_tcp(visit: Visit) -> None:
    """SYN, FIN and RST at once, from a raw socket."""
    raw = raw_socket(visit)
    for flags in (0x00, 0x07, 0x3F, 0x29):
        tcp = struct.pack("!HHIIBBHHH", 40_000, visit.address[1], 1, 2, 0x50, flags, 1000, 0, 0)
        address = socket.inet_aton("127.0.0.1")
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 7, 0, 64, socket.IPPROTO_TCP, 0, address, address)
        pseudo = address * 2 + struct.pack("!BBH", 0, socket.IPPROTO_TCP, 20)
        raw.sendto(head + tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:], visit.address)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Service("--udp") as service, Neighbours(service.address) as neighbours:

        def alive() -> None:
            assert one_echo(service.address) == b"hello\0"
            with udp_client(service.address) as sock:
                assert ask(sock, b"hello") == b"hello"

        yield Stage(service, neighbours, alive)


@pytest.mark.parametrize("name", UDP)
def test_a_hostile_sender_of_datagrams_keeps_within_its_bounds(stage: Stage, name: str) -> None:
    play_one(stage, UDP, name, times=1)


@pytest.mark.alone
@pytest.mark.timeout(12 * DEADLINE)
@pytest.mark.proof(
    "A hostile sender of datagrams costs no memory that lasts, crashes nothing, causes no traceback, and leaves the "
    "p99 of other clients within 5 ms."
)
def test_no_hostile_sender_of_datagrams_slows_the_others(stage: Stage, amount: Any, record_property: Any) -> None:
    prove(stage, UDP, amount, record_property)
