"""Clients of a UNIX socket that misbehave."""

from __future__ import annotations

import contextlib
import os
import secrets
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
    play_one,
    prove,
    push,
    read_to_the_end,
    trickle,
)  # fmt: skip
from neighbours import Neighbours
from processes import Service, one_echo

UNIX = Table()


@UNIX
def passes_descriptors(visit: Visit) -> None:
    """SCM_RIGHTS with 200 descriptors: the server must not be left with any of them."""
    sock = visit.connect()
    with open(os.devnull) as null:
        socket.send_fds(sock, [b"hello"], [null.fileno()] * 200)
    assert read_exactly(sock, 5) == b"hello"


@UNIX
def passes_descriptors_with_each_byte(visit: Visit) -> None:
    """A hundred messages of one byte, each with a descriptor."""
    sock = visit.connect()
    with open(os.devnull) as null:
        for _ in range(100):
            socket.send_fds(sock, [b"x"], [null.fileno()])
            assert read_exactly(sock, 1) == b"x"


@UNIX
def passes_its_own_connection(visit: Visit) -> None:
    """A socket that is passed through itself, and lives in its own queue."""
    sock = visit.connect()
    socket.send_fds(sock, [b"hello"], [sock.fileno()])
    assert read_exactly(sock, 5) == b"hello"


@UNIX
def passes_descriptors_behind_its_terminator(visit: Visit) -> None:
    """What is discarded may carry descriptors too."""
    sock = visit.connect()
    sock.sendall(b"\0")
    assert read_to_the_end(sock) == b"\0"
    with open(os.devnull) as null, contextlib.suppress(ConnectionError):
        socket.send_fds(sock, [b"late"], [null.fileno()] * 10)


@UNIX
def passes_its_credentials(visit: Visit) -> None:
    """SCM_CREDENTIALS that the server has not asked for."""
    sock = visit.connect()
    credentials = struct.pack("iii", os.getpid(), os.getuid(), os.getgid())
    sock.sendmsg([b"hello"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
    assert read_exactly(sock, 5) == b"hello"


@UNIX
def comes_from_an_abstract_name(visit: Visit) -> None:
    """The client's own name begins with NUL, and holds control characters."""
    sock = visit.socket()
    sock.bind(b"\0" + secrets.token_bytes(8) + b"\n\x1b[2J")
    sock.connect(visit.address)
    sock.sendall(b"hello")
    assert read_exactly(sock, 5) == b"hello"


@UNIX
def sends_an_urgent_byte(visit: Visit) -> None:
    """MSG_OOB on a UNIX socket, which Linux has since 5.15."""
    sock = visit.connect()
    try:
        sock.send(b"!", socket.MSG_OOB)
    except OSError:
        return  # this kernel has none
    sock.sendall(b"b")


@UNIX
def connects_with_the_wrong_type(visit: Visit) -> None:
    """A datagram and a SOCK_SEQPACKET socket, which the path refuses."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        sock = visit.keep(socket.socket(socket.AF_UNIX, kind))
        with pytest.raises(OSError):
            sock.connect(visit.address)


@UNIX
def never_reads(visit: Visit) -> None:
    """Sends as much as the server takes, and reads none of the echo."""
    push(visit.connect())


@UNIX
def has_a_send_buffer_of_nothing(visit: Visit) -> None:
    """SO_SNDBUF is the least that the kernel allows."""
    push(visit.connect(sndbuf=1), most=1 << 20)


@UNIX
def sends_a_byte_at_a_time(visit: Visit) -> None:
    """Each byte is a message in the queue of the socket."""
    trickle(visit.connect(), b"x" * 200)


@UNIX
def closes_with_its_echo_unread(visit: Visit) -> None:
    """The server's next call fails with ECONNRESET or EPIPE."""
    sock = visit.connect()
    sock.sendall(b"x" * 1000)
    assert read_exactly(sock, 1) == b"x"
    sock.close()


@UNIX
def sends_fin_with_much_of_its_echo_due(visit: Visit) -> None:
    """The server may neither lose the echo nor hold more than a buffer of it."""
    sock = visit.connect()
    push(sock)
    sock.shutdown(socket.SHUT_WR)


@UNIX
def connects_and_closes_in_a_storm(visit: Visit) -> None:
    """A hundred connections, each closed at once."""
    for _ in range(100):
        reset_socket(visit.connect())


@pytest.fixture(scope="module", params=["path", "abstract"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    abstract = f"@fastecho-{secrets.token_hex(8)}"
    where = abstract if request.param == "abstract" else str(tmp_path_factory.mktemp("unix") / "s")
    with Service(unix=where) as service, Neighbours(service.address) as neighbours:

        def alive() -> None:
            assert one_echo(service.address) == b"hello\0"

        yield Stage(service, neighbours, alive)


@pytest.mark.parametrize("name", UNIX)
def test_a_hostile_client_of_a_unix_socket_keeps_within_its_bounds(stage: Stage, name: str) -> None:
    play_one(stage, UNIX, name)


@pytest.mark.alone
@pytest.mark.timeout(12 * DEADLINE)
@pytest.mark.proof(
    "A hostile client of a UNIX socket costs at most 256 KiB of the worker's memory and none of its descriptors, "
    "crashes nothing, causes no traceback, and leaves the p99 of other clients within 5 ms."
)
def test_no_hostile_client_of_a_unix_socket_slows_the_others(stage: Stage, amount: Any, record_property: Any) -> None:
    prove(stage, UNIX, amount, record_property)
