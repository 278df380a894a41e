"""The fixture: how long it takes to be there, to be gone, and what it adds to a test.

    make bench ARGS="-k fixture"

What the issue asks for stands in each group's name; whether it holds is for the reader: nothing here fails for time.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastecho.testing import Server, echo_server

MANY = 1000
A_TEST = """
import socket
import pytest

@pytest.fixture
def nothing():
    yield

@pytest.mark.parametrize("number", range({count}))
def test_nothing(nothing, number):
    pass

@pytest.mark.parametrize("number", range({count}))
def test_echo(fastecho_server, number):
    with socket.create_connection(fastecho_server.address) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
"""
IMPORT = """
import time, pytest
begin = time.perf_counter()
import fastecho.testing.plugin
print(time.perf_counter() - begin)
"""


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


def test_a_test_with_it_over_one_without(tmp_path: Path) -> None:
    """Whole pytest runs in turn: a no-op fixture, and ours with connect and echo. <= 1.0 ms a test."""
    count = 400
    (tmp_path / "test_it.py").write_text(A_TEST.format(count=count))

    def seconds(which: str) -> float:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", which, "--durations=0",
                   "--durations-min=0", "-vv", "test_it.py"]
        begin = time.perf_counter()
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert f"{count} passed" in done.stdout, done.stdout[-2000:]
        return time.perf_counter() - begin

    seconds("test_echo")
    over = []
    for _ in range(7):
        without = seconds("test_nothing")
        over.append((seconds("test_echo") - without) / count * 1000)
    low, middle, high = statistics.quantiles(over, n=4)
    print(f"\nover a no-op fixture: {middle:.2f} ms a test ({low:.2f}..{high:.2f}), with start-up / {count}")


def test_import_of_the_plugin() -> None:
    """On top of pytest, in every run, used or not. <= 1 ms."""
    took = [float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout)
            for _ in range(21)]
    low, middle, high = statistics.quantiles([each * 1000 for each in took], n=4)
    print(f"\nimport of the plugin: {middle:.2f} ms ({low:.2f}..{high:.2f})")
