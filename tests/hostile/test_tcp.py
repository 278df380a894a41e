"""Clients of TCP that misbehave. The service ends a session after CR LF."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from clients import read_exactly, reset_socket
from hostility import (
    DEADLINE,
    Stage,
    Table,
    Visit,
    drop_everything,
    play_one,
    prove,
    push,
    read_to_the_end,
    send,
    trickle,
)  # fmt: skip
from neighbours import Neighbours
from processes import Service, one_echo

TCP = Table()
END = b"\r\n"
LEVEL, WINDOW_CLAMP = socket.IPPROTO_TCP, 10


# Segments


@TCP
def sends_segments_of_one_byte(visit: Visit) -> None:
    """Each byte is a segment, and is echoed by itself."""
    sock = visit.connect()
    trickle(sock, b"x" * 300)
    assert read_exactly(sock, 300) == b"x" * 300


@TCP
def sends_tiny_segments_of_a_lot(visit: Visit) -> None:
    """The largest segment that it allows is 88 bytes."""
    sock = visit.socket()
    sock.setsockopt(LEVEL, socket.TCP_MAXSEG, 88)
    sock.connect(visit.address)
    push(sock, most=1 << 17)


@TCP
def cuts_the_terminator_in_two(visit: Visit) -> None:
    """CR arrives in one segment, LF in the next."""
    sock = visit.connect()
    for part in (b"hello\r", b"\n"):
        sock.sendall(part)
        assert read_exactly(sock, len(part)) == part
    assert read_to_the_end(sock) == b""


@TCP
def sends_many_halves_of_a_terminator(visit: Visit) -> None:
    """CR, again and again, and never LF."""
    sock = visit.connect()
    trickle(sock, b"\r" * 200)
    assert read_exactly(sock, 200) == b"\r" * 200


@TCP
def corks_its_bytes(visit: Visit) -> None:
    """TCP_CORK keeps a byte back until another arrives."""
    sock = visit.connect()
    sock.setsockopt(LEVEL, socket.TCP_CORK, 1)
    for _ in range(50):
        sock.send(b"x")


@TCP
def sends_data_with_its_syn(visit: Visit) -> None:
    """TCP Fast Open, whether the server has it or not."""
    sock = visit.socket()
    sock.settimeout(None)
    sock.sendto(b"hello", socket.MSG_FASTOPEN, visit.address)
    assert read_exactly(sock, 5) == b"hello"


@TCP
def sends_every_byte_value(visit: Visit) -> None:
    """Binary rubbish, control characters and NUL among it, 64 KiB of it."""
    sock = visit.connect()
    data = bytes(range(256)).replace(END[1:], b"") * 256
    push(sock, data, len(data))


# Urgent data


@TCP
def sends_urgent_bytes(visit: Visit) -> None:
    """Out-of-band bytes, in their place in the stream."""
    sock = visit.connect()
    sock.sendall(b"a")
    sock.send(b"!", socket.MSG_OOB)
    sock.sendall(b"b")
    assert read_exactly(sock, 3) == b"a!b"


@TCP
def sends_nothing_but_urgent_bytes(visit: Visit) -> None:
    """A thousand urgent pointers, each of which takes the place of the one before."""
    sock = visit.connect()
    for _ in range(1000):
        sock.send(b"!", socket.MSG_OOB)
    assert read_exactly(sock, 1000) == b"!" * 1000


@TCP
def sends_its_terminator_as_urgent_data(visit: Visit) -> None:
    """LF is urgent; it ends the session all the same."""
    sock = visit.connect()
    sock.sendall(b"\r")
    sock.send(b"\n", socket.MSG_OOB)
    assert read_to_the_end(sock) == END


# Not reading


@TCP
def says_nothing(visit: Visit) -> None:
    """Connects, and neither sends nor leaves."""
    visit.connect()


@TCP
def holds_many_silent_connections(visit: Visit) -> None:
    """Fifty connections that say nothing."""
    for _ in range(50):
        visit.connect()


@TCP
def never_reads(visit: Visit) -> None:
    """Sends as much as the server takes, and reads none of the echo."""
    push(visit.connect())


@TCP
def reads_a_byte_at_a_time(visit: Visit) -> None:
    """Has a lot of echo to come, and takes single bytes of it."""
    sock = visit.connect()
    push(sock)
    for _ in range(200):
        assert sock.recv(1) == b"x"


@TCP
def has_a_receive_buffer_of_nothing(visit: Visit) -> None:
    """SO_RCVBUF is the least that the kernel allows."""
    push(visit.connect(rcvbuf=1))


@TCP
def clamps_its_window(visit: Visit) -> None:
    """TCP_WINDOW_CLAMP of one byte."""
    sock = visit.socket()
    sock.setsockopt(LEVEL, WINDOW_CLAMP, 1)
    sock.connect(visit.address)
    push(sock)


@TCP
def opens_and_closes_its_window(visit: Visit) -> None:
    """Takes a whole window, waits until it is full, and takes it again."""
    sock = visit.connect(rcvbuf=4096)
    for _ in range(3):
        push(sock, most=1 << 20)
        sock.recv(4096)


@TCP
def probes_with_keepalive(visit: Visit) -> None:
    """Keepalive each second, which shows that the client lives and says nothing of what it reads."""
    sock = visit.connect()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        sock.setsockopt(LEVEL, option, 1)
    push(sock)


@TCP
def gives_up_after_a_millisecond(visit: Visit) -> None:
    """TCP_USER_TIMEOUT of 1 ms on the side of the client."""
    sock = visit.connect()
    sock.setsockopt(LEVEL, socket.TCP_USER_TIMEOUT, 1)
    push(sock)


# Vanishing


@TCP
def sends_a_syn_and_then_nothing(visit: Visit) -> None:
    """Its kernel never gets the SYN-ACK, so the handshake is half open."""
    sock = visit.socket()
    drop_everything(visit, sock)
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        sock.connect(visit.address)


@TCP
def vanishes_in_silence(visit: Visit) -> None:
    """Connects, and acknowledges nothing any more."""
    drop_everything(visit, visit.connect())


@TCP
def vanishes_while_its_echo_is_due(visit: Visit) -> None:
    """Sends what the server takes, and acknowledges nothing any more."""
    sock = visit.connect()
    push(sock, most=1 << 20)
    drop_everything(visit, sock)
    push(sock, most=1 << 20)


# Resets, at each stage


@TCP
def resets_after_connecting(visit: Visit) -> None:
    """RST before the first byte."""
    reset_socket(visit.connect())


@TCP
def resets_after_a_byte(visit: Visit) -> None:
    """RST behind a byte whose echo may be on its way."""
    sock = visit.connect()
    sock.sendall(b"x")
    reset_socket(sock)


@TCP
def resets_while_its_echo_is_queued(visit: Visit) -> None:
    """RST while the server holds a buffer for it."""
    sock = visit.connect()
    push(sock)
    reset_socket(sock)


@TCP
def resets_behind_its_terminator(visit: Visit) -> None:
    """RST together with the end of its session."""
    sock = visit.connect()
    sock.sendall(b"hello" + END)
    reset_socket(sock)


@TCP
def resets_while_the_server_lingers(visit: Visit) -> None:
    """RST after the server's FIN."""
    sock = visit.connect()
    sock.sendall(b"hello" + END)
    assert read_to_the_end(sock) == b"hello" + END
    reset_socket(sock)


@TCP
def sends_fin_and_then_resets(visit: Visit) -> None:
    """FIN, and RST behind it."""
    sock = visit.connect()
    sock.sendall(b"x")
    sock.shutdown(socket.SHUT_WR)
    reset_socket(sock)


@TCP
def closes_with_its_echo_unread(visit: Visit) -> None:
    """The kernel of the client makes RST of it."""
    sock = visit.connect()
    sock.sendall(b"x" * 1000)
    assert read_exactly(sock, 1) == b"x"
    sock.close()


# Shutdowns, in each order


@TCP
def sends_fin_at_once(visit: Visit) -> None:
    """FIN is all that it sends."""
    sock = visit.connect()
    sock.shutdown(socket.SHUT_WR)
    assert read_to_the_end(sock) == b""


@TCP
def shuts_down_its_reading_side(visit: Visit) -> None:
    """It will read no echo, and goes on sending."""
    sock = visit.connect()
    sock.shutdown(socket.SHUT_RD)
    push(sock, most=1 << 20)


@TCP
def shuts_down_both_sides(visit: Visit) -> None:
    """FIN, and no reading, with the descriptor left open."""
    sock = visit.connect()
    sock.sendall(b"x")
    sock.shutdown(socket.SHUT_RDWR)


@TCP
def sends_fin_with_much_of_its_echo_due(visit: Visit) -> None:
    """The server may neither lose the echo nor hold more than a buffer of it."""
    sock = visit.connect()
    push(sock)
    sock.shutdown(socket.SHUT_WR)


@TCP
def shuts_down_writing_after_the_server_has(visit: Visit) -> None:
    """The terminator ends the server's side; the client's FIN comes late, behind more bytes."""
    sock = visit.connect()
    sock.sendall(b"hello" + END)
    read_to_the_end(sock)
    send(sock, b"late")
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


# The terminator


@TCP
def sends_megabytes_behind_its_terminator(visit: Visit) -> None:
    """All of it is discarded, and none of it kept."""
    sock = visit.connect()
    sock.sendall(b"hello" + END)
    push(sock, most=8 << 20)


@TCP
def sends_nothing_but_terminators(visit: Visit) -> None:
    """The first one ends the session; thousands follow."""
    sock = visit.connect()
    push(sock, END * 10_000, 20_000)
    read_to_the_end(sock)


@TCP
def never_closes_after_its_terminator(visit: Visit) -> None:
    """Reads the server's FIN, and sends none."""
    sock = visit.connect()
    sock.sendall(b"hello" + END)
    assert read_to_the_end(sock) == b"hello" + END


# Storms


@TCP
def connects_and_closes_in_a_storm(visit: Visit) -> None:
    """A hundred connections, each closed at once."""
    for _ in range(100):
        visit.connect().close()


@TCP
def connects_and_resets_in_a_storm(visit: Visit) -> None:
    """A hundred connections, each reset at once."""
    for _ in range(100):
        reset_socket(visit.connect())


@TCP
def begins_connections_that_it_does_not_wait_for(visit: Visit) -> None:
    """A hundred sockets are closed while they connect."""
    for _ in range(100):
        sock = visit.socket()
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(visit.address)
        sock.close()


@TCP
def comes_again_from_the_same_port(visit: Visit) -> None:
    """Fifty connections one after another with the same four-tuple."""
    port = 0
    for _ in range(50):
        sock = visit.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.bind(("127.0.0.1", port))
        port = sock.getsockname()[1]
        sock.connect(visit.address)
        sock.sendall(b"x")
        sock.close()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Service("--terminator", r"\r\n") as service, Neighbours(service.address) as neighbours:
        yield Stage(service, neighbours, lambda: served(service))


def served(service: Service) -> None:
    assert one_echo(service.address, b"hello" + END) == b"hello" + END


@pytest.mark.parametrize("name", TCP)
def test_a_hostile_client_of_tcp_keeps_within_its_bounds(stage: Stage, name: str) -> None:
    play_one(stage, TCP, name)


@pytest.mark.alone
@pytest.mark.timeout(12 * DEADLINE)
@pytest.mark.proof(
    "A hostile client of TCP costs at most 256 KiB of the worker's memory, crashes nothing, causes no traceback, and "
    "leaves the p99 of other clients within 5 ms."
)
def test_no_hostile_client_of_tcp_slows_the_others(stage: Stage, amount: Any, record_property: Any) -> None:
    prove(stage, TCP, amount, record_property)
