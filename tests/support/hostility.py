"""Clients that misbehave. Each is a small function; `Stage` runs it against a service and checks what it may cost.

A misbehaviour is called once for each of its connections, several times in a row, with a `Visit`. What it has opened
stays open until the bounds were checked:

- the worker is the same process, and the service has logged neither an error nor a traceback;
- the worker has grown by at most `MEMORY` for each connection that is open, and has one descriptor for it;
- each echo of the other clients is complete and right, and a new client gets its echo;
- once the connections are closed, the worker has as many descriptors as before.

With `Stage(latency=True)` the p99 of the other clients must stay within `P99` too.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import select
import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from benchmarks.procfs import descriptors, resident

from clients import Address, make_socket
from evidence import greatest
from neighbours import Neighbours, Report
from patience import DEADLINE, wait_until
from processes import Service, is_alive

MEMORY = 256 << 10
"""Bytes that one connection may cost a worker."""
MARGIN = 1 << 20
"""Bytes that a worker may grow by besides: heaps of Python and of the C library grow in steps."""
CLOSED = 64 << 10
"""Bytes that a connection of a storm, which is closed already, may have left in these heaps."""
P99 = 0.005
"""Seconds for the other clients, one machine and all processes of the test on it."""

ATTEMPTS = 3
"""A machine stops a process for some milliseconds now and then: what a misbehaviour costs, it costs each time."""

QUIET = 0.05
TROUBLE = re.compile(r"Traceback|^\S+ (ERROR|CRITICAL) |^\S*(Error|Warning):|exception", re.M)
_DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27


class TooSlow(AssertionError):
    """The other clients had to wait."""


class NotAllowed(Exception):
    """This machine does not allow a misbehaviour; says why."""


class Visit:
    """What one call of a misbehaviour is given. All that it opens is closed after the bounds were checked."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.open: list[Any] = []
        self.accepted = 0
        self.number = 0

    def connect(self, address: Address | None = None, **sizes: int) -> socket.socket:
        """A connected blocking socket; `sizes` are `rcvbuf` and `sndbuf`."""
        sock = self.socket(address, **sizes)
        sock.connect(self.address if address is None else address)
        return sock

    def socket(self, address: Address | None = None, **sizes: int) -> socket.socket:
        sock = make_socket(self.address if address is None else address, **sizes)
        sock.settimeout(DEADLINE)
        self.accepted += 1
        return self.keep(sock)

    def keep(self, opened: Any) -> Any:
        """Close it after the bounds were checked."""
        self.open.append(opened)
        return opened

    def close(self) -> None:
        for opened in reversed(self.open):
            with contextlib.suppress(OSError):
                opened.close()
        self.open.clear()


Misbehaviour = Callable[[Visit], None]


class Table(dict[str, Misbehaviour]):
    """Misbehaviours by name. Used as a decorator, which takes the name of the function."""

    def __call__(self, misbehaviour: Misbehaviour) -> Misbehaviour:
        assert misbehaviour.__doc__, f"{misbehaviour.__name__} does not say what it does"
        self[misbehaviour.__name__.replace("_", " ")] = misbehaviour
        return misbehaviour


class Cost(NamedTuple):
    """Of one misbehaviour: connections that were open, bytes for each of them, and what the others saw."""

    connections: int
    bytes_each: int
    others: Report


@dataclass
class Stage:
    """A service, other clients of it, and the bounds.

    Attributes:
        process: whose memory and descriptors count; by default the only worker.
        memory: bytes that one connection may cost.
        latency: whether the p99 of the others has a bound.
        address: where the hostile clients connect; by default where the others do.
        holds_up: names of misbehaviours beside which the p99 has no bound.
        alive: called at the end; it fails unless a new client is served.
    """

    service: Service
    neighbours: Neighbours
    alive: Callable[[], None]
    process: int = 0
    memory: int = MEMORY
    latency: bool = False
    address: Address | None = None
    holds_up: frozenset[str] = frozenset()
    costs: dict[str, Cost] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.process = self.process or self.service.current()[0]
        self.address = self.service.address if self.address is None else self.address
        self.alive()
        self.neighbours.report()

    def play(self, name: str, misbehaviour: Misbehaviour, times: int, echoes: int) -> Cost:
        """Run it `times` times, and check the bounds once each other client has had `echoes` echoes. NotAllowed."""
        assert self.address is not None
        before, log, files = resident(self.process), len(self.service.errors), descriptors(self.process)
        processes = self.service.workers()
        visit = Visit(self.address)
        self.neighbours.report(0)
        try:
            for visit.number in range(times):
                misbehaviour(visit)
            others = self.neighbours.report(echoes)
            grown = resident(self.process) - before
            opened = descriptors(self.process) - files
            connections = sum(1 for each in visit.open if isinstance(each, socket.socket) and each.fileno() >= 0)
        finally:
            visit.close()
        cost = self.costs[name] = Cost(connections, max(0, grown) // connections if connections else 0, others)
        assert self.service.workers() == processes, f"a process has ended: {self.service.errors[log:]}"
        assert all(map(is_alive, processes))
        assert not others.wrong, f"another client: {others.wrong}"
        assert opened <= visit.accepted, f"{opened} descriptors for {visit.accepted} connections"
        most = MARGIN + self.memory * connections + CLOSED * (visit.accepted - connections)
        assert grown <= most, f"grown by {grown} for {visit.accepted} connections, of which {connections} are open"
        self.alive()
        wait_until(lambda: descriptors(self.process) <= files, f"{files} descriptors as before")
        assert not TROUBLE.search(self.service.errors[log:]), self.service.errors[log:]
        if self.latency and others.p99 > P99 and name not in self.holds_up:
            raise TooSlow(f"the p99 of the others: {others}")
        return cost

    def _skip_if_busy(self) -> None:
        self.neighbours.report()
        alone = self.neighbours.report(100).p99
        if alone > P99 / 2:
            pytest.skip(f"the machine is busy: without a hostile client the p99 is {alone * 1000:.1f} ms")

    def play_all(self, table: Table, times: int, echoes: int) -> tuple[dict[str, str], dict[str, str]]:
        """Run all of a table. What failed, and what this machine does not allow, each with the reason."""
        failed, not_run = {}, {}
        for name, misbehaviour in table.items():
            for _ in range(ATTEMPTS):
                try:
                    self.play(name, misbehaviour, times, echoes)
                except NotAllowed as reason:
                    not_run[name] = str(reason)
                except TooSlow as error:
                    failed[name] = str(error)
                    self._skip_if_busy()
                    continue
                except (AssertionError, OSError) as error:
                    failed[name] = f"{type(error).__name__}: {error}"
                else:
                    failed.pop(name, None)
                break
        return failed, not_run


def play_one(stage: Stage, table: Table, name: str, times: int = 3) -> None:
    """The body of a test of one misbehaviour, in the ordinary suite."""
    try:
        stage.play(name, table[name], times, 3)
    except NotAllowed as reason:
        pytest.skip(str(reason))


def prove(
    stage: Stage, table: Table, amount: Callable[..., Any], record_property: Callable[..., None],
    holds_up: Iterable[str] = (),
) -> None:
    """The body of a test of all misbehaviours of a table: with `--amount proof` many connections of each, and the p99
    of the others, except beside those that `holds_up` names."""
    times, echoes, least = amount(suite=(2, 2, 5), proof=(8, 40, 1))
    stage.latency = amount(suite=False, proof=True)
    if stage.latency:
        stage.neighbours.take_precedence()
    stage.holds_up = frozenset(holds_up)
    chosen = Table(list(table.items())[::least])
    failed, not_run = stage.play_all(chosen, times, echoes)
    assert not failed, "\n".join(f"{name}: {why}" for name, why in failed.items())
    record_property("misbehaviours", greatest(len(stage.costs)))
    record_property("connections", sum(cost.connections for cost in stage.costs.values()))
    most = max(cost.bytes_each for cost in stage.costs.values())
    record_property("most KiB of a connection", greatest(most // 1024))
    record_property("echoes of others", sum(cost.others.echoes for cost in stage.costs.values()))
    bounded = [cost.others.p99 for name, cost in stage.costs.items() if name not in stage.holds_up]
    record_property("worst p99 of others in us", greatest(round(max(bounded) * 1e6)))
    record_property("not possible here", len(not_run))


# What many misbehaviours do


def push(sock: socket.socket, data: bytes = b"x" * 65536, most: int = 16 << 20) -> int:
    """Send `data` again and again, and read nothing, until the server takes no more; the bytes that went."""
    sent = 0
    sock.setblocking(False)
    try:
        while sent < most and select.select([], [sock], [], QUIET)[1]:
            rest = memoryview(data)[sent % len(data) :][: most - sent]
            with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
                sent += sock.send(rest)
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        sock.settimeout(DEADLINE)
    return sent


def trickle(sock: socket.socket, data: bytes) -> None:
    """Send one byte at a time, a segment each."""
    with contextlib.suppress(ConnectionError):
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(data)):
            sock.send(data[at : at + 1])


def read_to_the_end(sock: socket.socket) -> bytes:
    """Everything up to FIN or RST."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while part := sock.recv(65536):
            got += part
    return got


def send(sock: socket.socket, data: bytes) -> None:
    """Send; the server may have closed the connection."""
    with contextlib.suppress(ConnectionError):
        sock.sendall(data)


def drop_everything(visit: Visit, sock: socket.socket) -> None:
    """Let the kernel drop all that arrives for this socket until it is closed: its client seems to have vanished."""
    memory = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(memory)))
    except OSError as error:
        raise NotAllowed(f"a socket filter: {error.strerror}") from None
    visit.keep(_Filter(sock))


class _Filter:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def close(self) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def raw_socket(visit: Visit) -> socket.socket:
    """Sends IPv4 packets with headers that the caller makes."""
    try:
        return visit.keep(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
    except PermissionError:
        raise NotAllowed("raw sockets: not permitted") from None


def checksum(data: bytes) -> int:
    """Of the Internet (RFC 1071)."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
