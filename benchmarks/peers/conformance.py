"""The check that every server passes before it is measured: what comes back is what was sent.

    python -m benchmarks.peers.conformance [PEER...]

Each server declares in benchmarks/versus/peers.py what is expected of it beyond the echo.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.versus.peers import BY_NAME, PEERS, Peer
from benchmarks.versus.process import Server, ServerError

TIMEOUT = 10.0
SIZES = (1, 2, 63, 64, 65, 1023, 1024, 1025, 4096, 65535, 65536, 65537, 262144, 262145, 1 << 20, 6 << 20)

DATAGRAMS = (1, 2, 64, 1472, 1473, 9000, 65506, 65507)


class ConformanceError(Exception):
    """A server that does not do what it is expected to do; one line."""


def binary(length: int, seed: int) -> bytes:
    """All byte values but NUL, without a period: a shift by any offset shows."""
    return random.Random(seed).randbytes(length).replace(b"\0", b"\1")


class SecureSocket:
    """A TLS client that two threads may use: until Python 3.13, an SSLSocket must not be read while it is written."""

    def __init__(self, client: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._sock = context.wrap_socket(client, suppress_ragged_eofs=False)
        self._sock.setblocking(False)
        self._lock = threading.Lock()

    def recv(self, length: int) -> bytes:
        return self._when_ready(lambda: self._sock.recv(length))

    def sendall(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._when_ready(lambda left=left: self._sock.send(left[: 1 << 14])) :]

    def _when_ready(self, call: Callable[[], Any]) -> Any:
        while True:
            with self._lock:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    readers, writers = [self._sock], []
                except ssl.SSLWantWriteError:
                    readers, writers = [], [self._sock]
            if not any(select.select(readers, writers, [], TIMEOUT)):
                raise TimeoutError("timed out")

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> SecureSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Client = socket.socket | SecureSocket


def connect(port: int, peer: Peer) -> Client:
    client = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return SecureSocket(client) if peer.tls else client


def receive(client: Client, length: int) -> bytes:
    """Up to `length` bytes; fewer at end of file only."""
    found = bytearray()
    while len(found) < length and (chunk := client.recv(min(1 << 18, length - len(found)))):
        found += chunk
    return bytes(found)


def compare(found: bytes, due: bytes, what: str) -> None:
    if found == due:
        return
    wrong = next((i for i, (a, b) in enumerate(zip(found, due, strict=False)) if a != b), None)
    if wrong is None:
        raise ConformanceError(f"{what}: {len(found)} of {len(due)} bytes came back")
    raise ConformanceError(f"{what}: byte {wrong} of {len(due)} came back wrong")


def sending(client: Client, pieces: Sequence[bytes], finish: bool = False) -> threading.Thread:
    """Sends the pieces, and a FIN if so asked, from a thread: so that no full buffer blocks the test."""

    def send() -> None:
        # What could not be sent shows as an echo that is too short.
        with contextlib.suppress(OSError):
            for piece in pieces:
                client.sendall(piece)
            if finish and isinstance(client, socket.socket):
                client.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def exchange(client: Client, pieces: Sequence[bytes], what: str) -> None:
    sender = sending(client, pieces)
    due = b"".join(pieces)
    compare(receive(client, len(due)), due, what)
    sender.join(TIMEOUT)


def echoes_every_size(port: int, peer: Peer) -> None:
    with connect(port, peer) as client:
        for size in SIZES:
            exchange(client, [binary(size, size)], f"echo of {size} bytes")


def echoes_every_cut(port: int, peer: Peer) -> None:
    text = binary(3000, 7)
    with connect(port, peer) as client:
        for step in (1, 10, 1000, 1023, 1024, 1025, 2999):
            pieces = [text[start : start + step] for start in range(0, len(text), step)]
            exchange(client, pieces, f"echo in pieces of {step}")


def echoes_nul_inside(port: int, peer: Peer) -> None:
    with connect(port, peer) as client:
        exchange(client, [bytes(range(256))], "echo of all byte values")


def serves_many(port: int, peer: Peer) -> None:
    clients = [connect(port, peer) for _ in range(50 if peer.parallel else 1)]
    try:
        for round_ in range(3):
            for number, client in enumerate(clients):
                client.sendall(binary(500 + number, number + round_))
            for number, client in enumerate(clients):
                due = binary(500 + number, number + round_)
                compare(receive(client, len(due)), due, f"echo to client {number} of {len(clients)}")
    finally:
        for client in clients:
            client.close()


def keeps_what_is_not_read(port: int, peer: Peer) -> None:
    """The client takes its echo only when the server can no longer pass it on: partial sends."""
    due = binary(16 << 20, 3)
    with connect(port, peer) as client:
        sender = sending(client, [due])
        sender.join(0.3)
        compare(receive(client, len(due)), due, "echo to a client slow to read")
        sender.join(TIMEOUT)


def ends_at_nul(port: int, peer: Peer) -> None:
    with connect(port, peer) as client:
        client.sendall(b"the last read\0")
        found = receive(client, 1 << 16)
    compare(found, b"the last read\0", "echo of a read that ends in NUL, then end of file")


def plain_at_nul(port: int, peer: Peer) -> None:
    with connect(port, peer) as client:
        exchange(client, [b"a read\0"], "echo of a read that ends in NUL")
        exchange(client, [b"and another"], "echo after a read that ended in NUL")


def half_close(port: int, peer: Peer) -> None:
    for size in (1, 64, 300_000):
        due = binary(size, size)
        with connect(port, peer) as client:
            sender = sending(client, [due], finish=True)
            compare(receive(client, size + 1), due, f"echo of {size} bytes before the client's FIN")
            sender.join(TIMEOUT)


def echoes_datagrams(port: int, peer: Peer) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT)
        client.connect(("127.0.0.1", port))
        for size in DATAGRAMS:
            due = binary(size, size)
            client.send(due)
            compare(client.recv(1 << 16), due, f"echo of a datagram of {size} bytes")


def checks_of(peer: Peer) -> tuple[Callable[[int, Peer], None], ...]:
    if peer.udp:
        return (echoes_datagrams,)
    common = (echoes_every_size, echoes_every_cut, echoes_nul_inside, serves_many, keeps_what_is_not_read)
    at_nul = ends_at_nul if peer.ends_at_nul else plain_at_nul
    return (*common, at_nul, half_close) if peer.half_close else (*common, at_nul)


def check(peer: Peer) -> None:
    """Starts the server and runs every check that applies; raises ConformanceError or ServerError.

    A server that has an option to end sessions at NUL, or to serve TLS, is checked with it, too.
    """
    check_started(peer)
    for other in (peer.ending_at_nul(), peer.serving_tls()):
        if other is not None and other != peer:
            check_started(other)


def check_started(peer: Peer) -> None:
    with Server(peer, None) as server:
        for run in checks_of(peer):
            try:
                run(server.port, peer)
            except OSError as error:
                raise ConformanceError(f"{run.__name__}: {type(error).__name__} {error}") from None
            finally:
                server.check_alive()


def main(names: Iterable[str]) -> int:
    failed = 0
    for peer in [BY_NAME[name] for name in names] or PEERS:
        try:
            check(peer)
            print(f"{peer.name:<16} ok")
        except (ConformanceError, ServerError) as error:
            failed += 1
            print(f"{peer.name:<16} {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
