"""The work that is measured, and the ratios the project holds itself to (below 1: fastecho is ahead)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from benchmarks.versus.peers import BUSY_POLL_US, DATAGRAMS, FASTECHO, FLOOR_TLS, SPINNING, Peer

Figure = Literal["cpu", "p50", "resident"]


@dataclass(frozen=True)
class Row:
    """One kind of work.

    figure: what the ratios are taken of: server CPU seconds an echo, the p50 round trip in seconds, or bytes
    resident a connection.
    subject: the arm of fastecho whose ratios are quoted.
    ceilings: the highest ratio to hold, by peer.
    churn: a connection for each message; server_closes: the message ends in NUL, at which the server closes.
    tls: over TLS.
    take_turns: server and load run in turns on the server's core, see `process.taking_turns`.
    most_rounds: more would say the same; None: as many as the run has.
    chart: on the chart of the README, in absolute numbers.
    reason: why a ratio may be above its ceiling, for the page; `log` is the heading of the section of
        docs/performance-log.md that has the profile.
    """

    name: str
    label: str
    connections: int
    size: int
    ceilings: Mapping[str, float] = field(default_factory=dict)
    depth: int = 1
    churn: bool = False
    server_closes: bool = False
    tls: bool = False
    take_turns: bool = False
    udp: bool = False
    figure: Figure = "cpu"
    subject: str = FASTECHO
    most_rounds: int | None = None
    chart: bool = False
    reason: str = ""
    log: str = ""

    def takes(self, peer: Peer) -> bool:
        """Whether this peer is measured in this row."""
        if peer.udp != self.udp:
            return False
        able = (peer.parallel or self.connections == 1) and (not peer.spins or self.figure == "p50")
        able = able and (not self.server_closes or peer.ending_at_nul() is not None)
        able = able and (peer.serving_tls() is not None if self.tls else not peer.tls)
        return able and (self.chart or not peer.chart_only)


def ceilings(floor: float | None, asio_1k: float, asio_64k: float, python: float) -> dict[str, float]:
    found = {} if floor is None else {"epoll": floor}
    return {**found, "asio-1k": asio_1k, "asio-64k": asio_64k, "uvloop-buffered": python}


CHURN_LOG = "Why the ratios of churn did not reproduce"
CHURN = ceilings(1.40, 1.20, 1.20, 1.00)
ROWS = (
    Row("64x50", "64 B, 50 connections", 50, 64, ceilings(1.17, 1.10, 1.12, 0.80), chart=True),
    Row(
        "64x1000",
        "64 B, 1,000 connections",
        1000,
        64,
        ceilings(1.20, 1.10, 1.12, 0.80),
        reason="the instructions of an echo are those of 50 connections; each connection has a transport, a handle, a "
        "bound method and a session, which no longer fit into the first cache",
        log="64 B over 1,000 connections",
    ),
    Row("4k", "4 KiB, 16 connections", 16, 4096, ceilings(1.08, 0.30, 1.05, 0.83)),
    Row("64k", "64 KiB, 16 connections", 16, 65536, ceilings(1.05, 0.06, 1.00, 0.80)),
    Row("256k", "256 KiB, 16 connections", 16, 262144),
    Row(
        "tls-4k",
        "4 KiB over TLS, 16 connections",
        16,
        4096,
        {FLOOR_TLS: 1.20},
        tls=True,
        reason="kernel and ciphers cost what they cost the C server; uvloop's TLS and Python's ssl module pass each "
        "record through two buffers in memory, in about 5 us",
        log="TLS, 4 KiB over 16 connections",
    ),
    Row("pipelined", "64 B, 64 in flight on each of 16 connections", 16, 64, depth=64),
    Row(
        "churn-client",
        "churn: connect, echo 64 B, the client closes; 32 at once",
        32,
        64,
        CHURN,
        churn=True,
        take_turns=True,
        reason="about 18,900 of the 20,800 instructions of a connection in user space are uvloop's and Python's, which "
        "make a transport and its weak references",
        log=CHURN_LOG,
    ),
    Row(
        "churn-server",
        "churn: connect, echo 64 B ending in NUL, the server closes; 32 at once",
        32,
        64,
        CHURN,
        churn=True,
        server_closes=True,
        take_turns=True,
        reason="the costs of uvloop, as where the client closes; besides, fastecho sends FIN and waits for the "
        "client's, so that no echo in flight is destroyed, while the C and C++ servers close at once",
        log=CHURN_LOG,
    ),
    # 97 % of the CPU of a datagram is the kernel's path through loopback, which is the same for every server.
    Row("udp", "UDP: 64 B, 50 clients", 50, 64, {"asio-udp": 0.95}, udp=True, subject=DATAGRAMS),
    Row(
        "udp-pipelined",
        "UDP: 64 B, 8 in flight from each of 16 clients",
        16,
        64,
        {"asio-udp": 0.75},
        depth=8,
        udp=True,
        subject=DATAGRAMS,
    ),
    Row(
        "one",
        f"64 B, one connection, p50 round trip, --busy-poll {BUSY_POLL_US}",
        1,
        64,
        {"epoll-spin": 1.05, "asio-1k": 0.40, "asio-64k": 0.40, "uvloop-buffered": 0.45},
        figure="p50",
        subject=SPINNING,
    ),
    Row(
        "idle",
        "resident bytes an idle connection, 8,000 of them, after one 64 KiB echo each",
        8000,
        65536,
        ceilings(None, 1.3, 0.03, 0.03),
        figure="resident",
        most_rounds=2,
        chart=True,
    ),
)
BY_NAME = {row.name: row for row in ROWS}
SPEED, MEMORY = ON_CHART = tuple(row for row in ROWS if row.chart)
# The same cells, read for the servers that sleep: nothing is held to it, and it is not kept silent either.
SLEEPING = replace(
    BY_NAME["one"],
    label="64 B, one connection, p50 round trip, without busy polling",
    subject=FASTECHO,
    ceilings={},
)
