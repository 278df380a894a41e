"""A bad network between clients and service: what comes back are the right bytes, in order, once.

Clients and service are on separate hosts (network namespaces). Packets are harmed by a link in user space
(tests/support/link.py), by nftables, or by taking the link down.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import selectors
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checked import Client, exchange, fill, finish
from clients import connect_blocking, make_socket
from evidence import greatest
from hosts import CLIENT, SERVER, Host, Link, join, require_hosts, require_tun
from patience import DEADLINE, UNIT, wait_until
from processes import Service, echoes

Amount = Callable[..., Any]
Record = Callable[[str, object], None]

FLOOD = Path(__file__).parents[1] / "support" / "syn_flood.py"
FORGED = "10.78"


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    """That of the service, and that of the clients; not joined yet."""
    require_hosts()
    with Host() as server, Host() as client:
        yield server, client


@pytest.fixture(scope="module")
def service(hosts: tuple[Host, Host]) -> Iterator[Service]:
    with serving(hosts[0], "--workers", "2") as service:
        yield service


@pytest.fixture
def wire(hosts: tuple[Host, Host]) -> Iterator[None]:
    """The hosts joined by Ethernet."""
    join(*hosts)
    yield
    hosts[0].ip("link del eth0")


@contextlib.contextmanager
def serving(host: Host, *arguments: str) -> Iterator[Service]:
    """A service on the host that echoes until the client ends."""
    with host.entered():
        service = Service("--host", "0.0.0.0", "--terminator", "none", "--log-format", "json", *arguments)
    with service:
        yield service


def totals(service: Service) -> dict[str, Any]:
    """The counters, from the log."""
    before = service.errors.count('"totals"')
    service.send(signal.SIGUSR1)
    service.wait_for('"totals"', before + 1)
    wait_until(lambda: service.errors.endswith("\n"), "a whole line")
    lines = [line for line in service.errors.splitlines() if '"totals"' in line]
    found: dict[str, Any] = json.loads(lines[-1])["totals"]
    return found


@contextlib.contextmanager
def connected(host: Host, service: Service, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        address = (SERVER, service.address[1])
        yield [stack.enter_context(host.connect(address, 3 * DEADLINE)) for _ in range(count)]


@contextlib.contextmanager
def filtered(host: Host, rule: str) -> Iterator[None]:
    """A rule of nftables holds for what arrives at the host. Skips the test where none can be set."""
    if shutil.which("nft") is None:
        pytest.skip("packets are dropped with nft (Debian package nftables)")
    table = f"table inet loss {{ chain input {{ type filter hook input priority 0; {rule}; }}; }}"
    try:
        host.run("nft", "-f", "-", text=f"{table}\n")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine allows no rule of nftables: {error.stderr.strip().splitlines()[0]}")
    try:
        yield
    finally:
        host.run("nft", "delete", "table", "inet", "loss")


def tcp_info(sock: socket.socket, offset: int) -> int:
    """A field of struct tcp_info, 4 bytes at `offset`."""
    return int(struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232), offset)[0])


SEND_MSS, DATA_SEGMENTS_OUT = 16, 156

FAULTS = {
    "loss": {"loss": 0.05},
    "delay of 50 ms, 20 more or less": {"delay": 0.025, "jitter": 0.01},
    "reordering": {"delay": 0.002, "reorder": 0.1},
    "duplication": {"duplicate": 0.2},
    "corruption": {"corrupt": 0.03},
    "little bandwidth": {"bandwidth": 1_000_000},
    "all of them": {
        "delay": 0.01, "jitter": 0.005, "loss": 0.01, "reorder": 0.03, "duplicate": 0.05, "corrupt": 0.01,
        "bandwidth": 2_000_000,
    },
}  # fmt: skip
TRIES = 10
"""Exchanges, until a fault has happened: of a few large segments, all may be spared."""
DONE = {"loss": "lost", "reorder": "reordered", "duplicate": "duplicated", "corrupt": "corrupted"}


@pytest.mark.timeout(900 * UNIT)
@pytest.mark.proof(
    "A client gets each byte once, in order, where the network loses, delays, reorders, duplicates or changes packets."
)
@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_every_byte_comes_back_over_a_bad_network(
    hosts: tuple[Host, Host], service: Service, faults: dict[str, float], amount: Amount, record_property: Record
) -> None:
    require_tun()
    connections, size = amount(suite=(4, 20_000), proof=(20, 100_000), release=(100, 1_000_000))
    expected = [DONE[fault] for fault in faults.keys() & DONE.keys()]
    counts, exchanged = Counter[str](), 0
    for again in range(TRIES):
        with Link(*hosts, seed=2026 + again, **faults) as link, connected(hosts[1], service, connections) as sockets:
            exchanged += exchange(sockets, size, limit=600 * UNIT)
        counts.update(link.counts)
        if all(counts[each] for each in expected):
            break
    record_property("bytes", exchanged)
    record_property("connections", connections)
    record_property("packets", counts["packets"])
    for each in expected:
        assert counts[each] > 0, counts
        record_property(each, counts[each])


@pytest.mark.timeout(300 * UNIT)
@pytest.mark.usefixtures("wire")
@pytest.mark.proof("A client gets each byte once and in order where the packet filter of its host drops packets.")
def test_every_byte_comes_back_where_nftables_drops_packets(
    hosts: tuple[Host, Host], service: Service, amount: Amount, record_property: Record
) -> None:
    _, client = hosts
    connections, size = amount(suite=(6, 100_000), proof=(30, 1_000_000), release=(100, 10_000_000))
    dropped = exchanged = 0
    with filtered(client, "tcp dport != 0 numgen random mod 100 < 3 counter drop"):
        with connected(client, service, connections) as sockets:
            for _ in range(TRIES):
                exchanged += exchange(sockets, size, limit=200 * UNIT)
                rules = client.run("nft", "list", "table", "inet", "loss")
                if dropped := int(rules.partition("packets ")[2].split()[0]):
                    break
    assert dropped > 0
    record_property("bytes", exchanged)
    record_property("connections", connections)
    record_property("lost", dropped)


# The kernel sends a packet again after a round trip and 200 ms, drain_grace is 500 ms: no other test may delay either.
@pytest.mark.alone
@pytest.mark.proof("A service that stops answers a message whose packet was lost, where a round trip takes 100 ms.")
def test_a_drain_waits_for_a_packet_that_was_lost(hosts: tuple[Host, Host], record_property: Record) -> None:
    require_tun()
    server, client = hosts
    with serving(server) as service, Link(*hosts, delay=0.05):
        with connected(client, service, 20) as sockets:
            exchange(sockets, 1000)
            clients = [Client(sock, 1000, number) for number, sock in enumerate(sockets)]
            with filtered(server, f"tcp dport {service.address[1]} drop"):
                for each in clients:
                    each.send()
                service.send(signal.SIGTERM)
                time.sleep(0.1)  # what was sent has arrived, and was dropped
            finish(clients)
        assert service.wait() == 0
    record_property("connections", len(sockets))


def connect_steadily(host: Host, service: Service, seconds: float) -> Iterator[socket.socket]:
    """A client each 5 ms: those that are connected, which then send a message. The others have been refused."""
    address, end, next_at = (SERVER, service.address[1]), time.monotonic() + seconds, 0.0
    with selectors.DefaultSelector() as connecting:
        while (now := time.monotonic()) < end or connecting.get_map():
            if next_at <= now < end:
                with host.entered():
                    sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(address)
                connecting.register(sock, selectors.EVENT_WRITE)
                next_at = now + 0.005
            for key, _ in connecting.select(0.001):
                connecting.unregister(sock := key.fileobj)
                if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    sock.close()
                else:
                    sock.send(b"hello")
                    yield sock


@pytest.mark.proof("A client that has connected when a service stops is served, where a round trip takes up to 400 ms.")
@pytest.mark.parametrize("round_trip", [0.1, 0.4])
def test_a_stop_resets_no_client_after_its_connect(
    hosts: tuple[Host, Host], round_trip: float, record_property: Record
) -> None:
    require_tun()
    server, client = hosts
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(serving(server, "--workers", "2"))
        stack.enter_context(Link(*hosts, delay=round_trip / 2))
        connected: list[socket.socket] = []
        for sock in connect_steadily(client, service, 0.5):
            if not connected:
                service.send(signal.SIGTERM)
            connected.append(stack.enter_context(sock))
        for sock in connected:
            sock.settimeout(DEADLINE)
            assert sock.recv(100) == b"hello"
    assert len(connected) > 1
    record_property("connections", len(connected))


@pytest.mark.timeout(120 * UNIT)
@pytest.mark.usefixtures("wire")
@pytest.mark.proof("Connections outlive a link that is down for 10 s, and no byte is lost.")
def test_connections_outlive_a_link_that_is_down(
    hosts: tuple[Host, Host], service: Service, amount: Amount, record_property: Record
) -> None:
    seconds = amount(suite=0.3, proof=3, release=10)
    _, client = hosts
    with connected(client, service, 8) as sockets, concurrent.futures.ThreadPoolExecutor(1) as thread:
        exchange(sockets, 10_000, "before")
        client.ip("link set eth0 down")
        echoed = thread.submit(exchange, sockets, 100_000, "down", limit=60 * UNIT)
        time.sleep(seconds)
        assert not echoed.done()
        client.ip("link set eth0 up")
        record_property("bytes", echoed.result())
    record_property("seconds down", greatest(seconds))


@pytest.mark.usefixtures("wire")
@pytest.mark.proof(
    "A client whose host disappears costs its own connection only, which is reset after write_timeout or idle_timeout."
)
def test_a_host_that_disappears_is_reset_and_counted(hosts: tuple[Host, Host], record_property: Record) -> None:
    server, client = hosts
    timeouts = ("--write-timeout", "0.5", "--idle-timeout", "1", "--linger-timeout", "0.5")
    with serving(server, *timeouts) as service, connected(client, service, 6) as sockets:
        # Three are owed an echo, and three are idle. Clients on another network are served meanwhile.
        exchange(sockets, 1000)
        owed = [Client(sock, 32 << 20, number, window=32 << 20) for number, sock in enumerate(sockets[:3])]
        fill(owed, 0.1)
        assert all(each.wants_to_send for each in owed)
        client.ip("link set eth0 down")
        others = [server.connect(("127.0.0.1", service.address[1])) for _ in range(3)]
        left = []

        def gone() -> bool:
            exchange(others, 1000)
            left[:] = [totals(service)]
            return bool(left[0]["active"] == len(others))

        wait_until(gone, "the end of the sessions whose client is gone")
        assert left[0]["ends"]["write_timeout"] + left[0]["ends"]["idle"] == len(sockets), left
        for sock in others:
            sock.close()
    record_property("connections", len(sockets))


@pytest.mark.timeout(200 * UNIT)
@pytest.mark.proof("A client that keeps its window shut for a minute gets each byte when it opens it.")
def test_a_window_that_is_shut_for_long_costs_no_byte(amount: Amount, record_property: Record) -> None:
    seconds = amount(suite=0.1, proof=5, release=60)
    options = ("--terminator", "none", "--write-timeout", str(3 * seconds + 10))
    with Service(*options) as service, contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(make_socket(service.address, rcvbuf=4096)) for _ in range(2)]
        for sock in sockets:
            sock.connect(service.address)
        clients = [Client(sock, 32 << 20, number, window=32 << 20) for number, sock in enumerate(sockets)]
        other = stack.enter_context(connect_blocking(service.address))
        fill(clients)
        assert all(client.wants_to_send for client in clients), "everything was taken from clients that read nothing"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            exchange([other], 20_000)
        finish(clients, 60 * UNIT)
    record_property("seconds shut", greatest(seconds))
    record_property("bytes", sum(client.received for client in clients))


@pytest.mark.usefixtures("wire")
@pytest.mark.proof("Bytes that come in segments of one byte are echoed, once and in order.")
def test_segments_of_one_byte(
    hosts: tuple[Host, Host], service: Service, amount: Amount, record_property: Record
) -> None:
    size = amount(suite=1000, proof=20_000, release=200_000)
    with connected(hosts[1], service, 4) as sockets:
        for sock in sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # With few bytes under way, none waits for the one before and leaves with it.
        record_property("bytes", exchange(sockets, size, pieces=1, window=8, limit=60 * UNIT))
        segments = [tcp_info(sock, DATA_SEGMENTS_OUT) for sock in sockets]
    assert min(segments) >= size
    record_property("segments", sum(segments))


@pytest.mark.proof("A path with an MTU of 576 bytes costs no byte.")
def test_an_mtu_of_576(hosts: tuple[Host, Host], service: Service, amount: Amount, record_property: Record) -> None:
    join(*hosts, mtu=576)
    size = amount(suite=100_000, proof=2_000_000, release=50_000_000)
    try:
        with connected(hosts[1], service, 4) as sockets:
            record_property("bytes", exchange(sockets, size, limit=60 * UNIT))
            assert max(tcp_info(sock, SEND_MSS) for sock in sockets) <= 536
    finally:
        hosts[0].ip("link del eth0")
    record_property("connections", len(sockets))


def p99(sock: socket.socket, seconds: float) -> float:
    """Of the round trips of one byte, for so long."""
    trips, end = [], time.monotonic() + seconds
    while (begin := time.monotonic()) < end:
        assert echoes(sock, b"x")
        trips.append(time.monotonic() - begin)
    return statistics.quantiles(trips, n=100)[-1]


@contextlib.contextmanager
def flood(host: Host, port: int, rate: int) -> Iterator[list[int]]:
    """SYNs from forged addresses; the list gets their number at the end."""
    sent: list[int] = []
    with host.entered():
        process = subprocess.Popen(
            [sys.executable, str(FLOOD), SERVER, str(port), str(rate), FORGED],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    try:
        yield sent
    finally:
        out, _ = process.communicate(timeout=DEADLINE)
        sent.append(int(out))


@pytest.mark.alone
@pytest.mark.timeout(200 * UNIT)
@pytest.mark.usefixtures("wire")
@pytest.mark.proof(
    "Under 10,000 SYNs a second from forged addresses, the p99 of an open connection stays within 3 times, and new "
    "clients connect."
)
def test_a_flood_of_syns(hosts: tuple[Host, Host], service: Service, amount: Amount, record_property: Record) -> None:
    seconds = amount(suite=0, proof=8, release=60)
    if not seconds:
        pytest.skip("only in a proof run: it measures")
    rate, (server, client) = 10_000, hosts
    server.ip(f"route add {FORGED}.0.0/16 via {CLIENT} dev eth0")
    with connected(client, service, 1) as [sock]:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        p99(sock, 0.5)
        before = p99(sock, seconds / 2)
        with flood(client, service.address[1], rate) as sent:
            busy = p99(sock, seconds)
            with connected(client, service, 20) as sockets:
                exchange(sockets, 10_000)
        quiet = min(before, p99(sock, seconds / 2))
    record_property("SYNs", sent[0])
    record_property("p99 without the flood in us", greatest(round(quiet * 1e6)))
    record_property("p99 with it in us", greatest(round(busy * 1e6)))
    assert sent[0] >= 0.9 * rate * seconds
    assert busy <= 3 * quiet
