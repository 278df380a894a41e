"""The fixture: how long it takes to be there, and to be gone. What it adds to a test: fixture_cost.py.

    make bench ARGS="-k fixture"

What the issue asks for stands in each group's name; whether it holds is for the reader: nothing here fails for time.
"""

from __future__ import annotations

import socket

import pytest

from fastecho.testing import Server, echo_server

MANY = 1000


def test_start(benchmark):
    benchmark.group = "echo_server() to a connectable address, median <= 60 us"
    started: list[Server] = []

    def start() -> None:
        server = echo_server().start()
        started.append(server)
        server.address  # noqa: B018 - asked for, as a test does

    def setup() -> None:
        while started:
            started.pop().stop()

    benchmark.pedantic(start, setup=setup, rounds=3000, warmup_rounds=100)
    setup()


def test_start_and_stop(benchmark):
    benchmark.group = "start and stop, idle, median <= 0.3 ms, p95 <= 1 ms"
    benchmark.pedantic(lambda: echo_server().start().stop(), rounds=3000, warmup_rounds=100)
    data = sorted(benchmark.stats.stats.data)
    benchmark.extra_info["p95_us"] = data[int(len(data) * 0.95)] * 1e6
    print(f"\nstart and stop: p95 {benchmark.extra_info['p95_us']:.0f} us")


@pytest.mark.parametrize(("clients", "rounds"), [(1, 500), (MANY, 20)])
def test_stop_with_clients(benchmark, clients, rounds):
    benchmark.group = f"stop() with {clients} open, <= {2 if clients == 1 else 50} ms"
    opened: list[socket.socket] = []

    def setup() -> tuple[tuple[Server], dict[str, object]]:
        while opened:
            opened.pop().close()
        server = echo_server(timeout=30).start()
        opened.extend(socket.create_connection(server.address) for _ in range(clients))
        server.wait_connections(clients)
        server.wait_idle()
        return (server,), {}

    def stop(server: Server) -> None:
        assert len(server.stop(timeout=1)) == clients

    benchmark.pedantic(stop, setup=setup, rounds=rounds, warmup_rounds=2)
    while opened:
        opened.pop().close()
