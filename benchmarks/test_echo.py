"""Echo over TCP: round trips and throughput by message size and number of connections, all servers in one run.

One round sends a message on every connection and receives all echoes: with one connection that is a round trip, with
many it is throughput. The client is Python and the same for every server, so that it is the ratios that mean something;
`fastecho bench` and `make versus` measure with a client in C, and CPU instead of time.
"""

from __future__ import annotations

import socket
import threading

import pytest

from conftest import SERVERS

SIZES = {"64B": 64, "1KiB": 1024, "16KiB": 16384, "256KiB": 262144}


def connect(address: tuple[str, int], count: int) -> list[socket.socket]:
    clients = [socket.create_connection(address, 10) for _ in range(count)]
    for client in clients:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return clients


def receive(client: socket.socket, view: memoryview) -> None:
    while view:
        count = client.recv_into(view)
        assert count, "the server closed the connection"
        view = view[count:]


def exchange(clients: list[socket.socket], message: bytes, echo: bytearray) -> None:
    for client in clients:
        client.sendall(message)
    for client in clients:
        receive(client, memoryview(echo))


def exchange_large(clients: list[socket.socket], message: bytes, echo: bytearray) -> None:
    """Messages that may not fit the kernel's buffers are sent from a second thread."""
    sender = threading.Thread(target=lambda: [client.sendall(message) for client in clients])
    sender.start()
    for client in clients:
        receive(client, memoryview(echo))
    sender.join()


@pytest.mark.parametrize("address", SERVERS, indirect=True, ids=SERVERS)
@pytest.mark.parametrize("connections", [1, 16, 64])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_echo(benchmark, address, connections, size):
    benchmark.group = f"echo {size} B, {connections} connections"
    clients = connect(address, connections)
    message, echo = bytes(range(256)) * (size // 256) if size >= 256 else bytes(range(size)), bytearray(size)
    work = exchange_large if size > 65536 else exchange
    try:
        benchmark.pedantic(work, (clients, message, echo), rounds=max(20, 400 // connections), warmup_rounds=5)
    finally:
        for client in clients:
            client.close()
    assert echo == message
    median = benchmark.stats.stats.median
    benchmark.extra_info |= {"echoes_per_s": connections / median, "MB_per_s": connections * size / median / 1e6}
