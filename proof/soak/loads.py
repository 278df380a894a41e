"""The kinds of load, each in a separate process: what it sends in a round, and what came back."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from fastecho.bench import LoadSpec
from fastecho.bench.run import run_load
from fastecho.bench.spec import SizeRange
from fastecho.bench.stop import Stop
from fastecho.errors import FastechoError
from proof.soak.slow import slow_readers

# Seconds without an answer: a worker that is replaced answers within its drain.
PATIENCE = 30.0
# Every power of two, and its neighbours, are where buffers and cuts have their borders.
BORDERS = tuple(size + k for size in (1, 512, 4096, 65536, 262144) for k in (-1, 0, 1) if 1 <= size + k <= 262144)


@dataclass(frozen=True)
class Load:
    """options: of LoadSpec; None for the slow readers. rate: echoes a second in all; what has none fills the CPUs."""

    name: str
    options: Mapping[str, Any] | None
    scheme: str = "tcp"
    connections: int = 8


COMMON = (
    Load("bulk", {"size": SizeRange(65536, 262144), "depth": 2, "connections": 8}),
    Load("borders", {"size": BORDERS, "depth": 3, "connections": 32, "rate": 500.0}),
    Load("small", {"size": SizeRange(1, 128), "depth": 8, "connections": 200, "rate": 10_000.0}),
    Load("churn", {"size": SizeRange(1, 16384), "churn": True, "connections": 32, "rate": 300.0}),
    Load("slow", None, connections=12),
    Load("udp", {"size": SizeRange(16, 1400), "depth": 4, "connections": 32, "rate": 2000.0}, scheme="udp"),
)
TLS = (
    Load("tls", {"size": SizeRange(1, 65536), "depth": 2, "connections": 8, "rate": 300.0}, scheme="tls"),
    Load("tls churn", {"size": SizeRange(1, 16384), "churn": True, "connections": 4, "rate": 20.0}, scheme="tls"),
)


@dataclass
class Outcome:
    """What one load has seen: echoes and bytes that were verified, errors by kind, and a line for the first of each."""

    echoes: int = 0
    bytes: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    details: tuple[str, ...] = ()

    def add(self, other: Outcome) -> None:
        self.echoes += other.echoes
        self.bytes += other.bytes
        for kind, count in other.errors.items():
            self.errors[kind] = self.errors.get(kind, 0) + count
        self.details = (*self.details, *other.details)[:10]


def carry_out(load: Load, port: int, seconds: float, seed: int, stop: Stop) -> Outcome:
    if load.options is None:
        counts = slow_readers(port, load.connections, seconds, PATIENCE, seed, stop)
        return Outcome(counts.echoes, counts.bytes, dict(counts.errors))
    target = f"{load.scheme}://127.0.0.1:{port}" if load.scheme != "tcp" else f"127.0.0.1:{port}"
    timeout = 2.0 if load.scheme == "udp" else PATIENCE
    spec = LoadSpec(
        target=target, duration=seconds, warmup=0.0, terminator=None, timeout=timeout, seed=seed,
        tls_insecure=load.scheme == "tls", interval=1.0, **load.options,
    )  # fmt: skip
    try:
        result = run_load(spec, stop=stop, count_all=True)
    except FastechoError as error:
        return Outcome(errors={"no load": 1}, details=(str(error),))
    errors = {kind: count for kind, count in result.errors.items() if count}
    details = result.error_details
    if result.stopped and not result.partial:
        errors["no load"] = 1
        details = (*details, result.stopped)
    return Outcome(result.echoes, result.bytes, errors, details)


def _serve(load: Load, port: int, orders: Connection, stops: Connection) -> None:
    """The body of a load's process: a round for each order (seconds, seed), until None or the end of its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = Stop()

    def watch() -> None:
        with contextlib.suppress(EOFError):
            stops.recv()
        stop.request()

    threading.Thread(target=watch, daemon=True).start()
    while True:
        try:
            order = orders.recv()
        except EOFError:
            return
        if order is None:
            return
        orders.send(carry_out(load, port, *order, stop))


class LoadProcess:
    """A process that carries out `load`; a context manager that ends it."""

    def __init__(self, load: Load, port: int) -> None:
        self.load = load
        context = multiprocessing.get_context("spawn")
        self._orders, orders = context.Pipe()
        stops, self._stops = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(load, port, orders, stops), daemon=True)
        self._process.start()
        orders.close()
        stops.close()

    def begin(self, seconds: float, seed: int) -> None:
        self._orders.send((seconds, seed))

    def stop(self) -> None:
        """End the round under way early, and each that begins."""
        with contextlib.suppress(OSError):
            self._stops.send(None)

    def is_done(self, seconds: float) -> bool:
        return self._orders.poll(seconds)

    def outcome(self) -> Outcome:
        try:
            found: Outcome = self._orders.recv()
        except EOFError:
            return Outcome(errors={"no load": 1}, details=(f"the process of {self.load.name} ended",))
        return found

    def __enter__(self) -> LoadProcess:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._orders.send(None)
        self.stop()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._orders.close()
        self._stops.close()
