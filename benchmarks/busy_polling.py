"""What `--busy-poll auto` costs and gives, in CPU per echo and round trips, against a server that sleeps.

    python -m benchmarks.busy_polling [--rounds N] [--seconds S] [--rows NAME,...]

Each row is one kind of load; its servers (off, auto, 50, and Asio in the row `one`) take turns, in an order that
changes from round to round. Ratios to `off` are taken round by round; quoted are the median, and lowest and highest.
`auto` is held to 1.02 of the CPU per echo in every row, to 0.35 of Asio's p50 in the row `one` (after `make peers`),
and an idle server to no CPU beyond that of `off`. The exit code is 1 when one is missed. The defaults take about 15
minutes, on a quiet machine: another busy process is a reason for `auto` not to poll.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.processes import CLIENT_CPU, CPUS, SERVER_CPU
from benchmarks.versus.measuring import CpuWindow
from benchmarks.versus.peers import BY_NAME, Peer, fastecho
from benchmarks.versus.process import Server, ServerError
from benchmarks.versus.rows import ROWS

from fastecho.bench import LoadSpec, run_load

OFF, AUTO, FIXED, ASIO = "off", "auto", "50", "asio-64k"
SERVERS = {mode: fastecho(mode, f"fastecho --busy-poll {mode}", "--busy-poll", mode) for mode in (OFF, AUTO, FIXED)}
MOST_CPU, MOST_P50 = 1.02, 0.35
IDLE_CONNECTIONS = 8


@dataclass(frozen=True)
class Work:
    """One row. `load`: of the LoadSpec. `workers`: more than one share all CPUs with the load."""

    name: str
    load: dict[str, Any]
    workers: int = 1
    neighbour: bool = False


@dataclass(frozen=True)
class Cell:
    cpu: float  # seconds an echo
    p50: float


def versus_rows() -> Iterator[Work]:
    for row in ROWS:
        if row.figure != "resident":
            load = {"connections": row.connections, "size": row.size, "depth": row.depth, "churn": row.churn}
            yield Work(row.name, load)


def load(connections: int, rate: float | None = None) -> dict[str, Any]:
    return {"connections": connections, "size": 64, "rate": rate}


WORK = (
    *versus_rows(),
    Work("two", load(2)),
    Work("four", load(4)),
    Work("every-200us", load(1, rate=5000)),
    Work("every-5ms", load(1, rate=200)),
    *(Work(f"4-workers-{n}", load(n), workers=4) for n in (1, 4, 50)),
    Work("neighbour-one", load(1), neighbour=True),
    Work("neighbour-50", load(50), neighbour=True),
    Work("neighbour-200us", load(1, rate=5000), neighbour=True),
)
IDLE = "idle"


@contextlib.contextmanager
def busy_neighbour(wanted: bool) -> Iterator[None]:
    """A loop without end on the server's CPU."""
    if not wanted:
        yield
        return
    with subprocess.Popen(
        ["taskset", "-c", str(SERVER_CPU), sys.executable, "-c", "while True: pass"], stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.kill()


def measure(peer: Peer, work: Work, seconds: float) -> Cell:
    shared = work.workers > 1
    with (
        Server(peer, None if shared else SERVER_CPU, ("--workers", str(work.workers)) if shared else ()) as server,
        busy_neighbour(work.neighbour),
    ):
        window = CpuWindow(server)
        spec = LoadSpec(
            target=f"tcp://127.0.0.1:{server.port}",
            duration=seconds,
            warmup=0.5,
            cpus=None if shared else (CLIENT_CPU,),
            **work.load,
        )
        result = run_load(spec, on_window=window)
        if not result.echoes or any(result.errors.values()):  # a late message is no error here
            sys.exit(f"{work.name}, {peer.label}: the run failed: {result.errors}")
        return Cell(window.seconds / result.echoes, result.percentiles["p50"])


def idle_cpu(peer: Peer, seconds: float) -> float:
    """The share of a core that a server uses while its clients say nothing."""
    with Server(peer, SERVER_CPU) as server, contextlib.ExitStack() as clients:
        for _ in range(IDLE_CONNECTIONS):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            for _ in range(1000):
                client.send(b"x")
                client.recv(1)
        processes = server.processes()
        before = server.cpu_seconds(processes)
        time.sleep(seconds)
        return (server.cpu_seconds(processes) - before) / seconds


def ratios(cells: dict[str, list[Cell]], name: str, figure: str, base: str = OFF) -> list[float]:
    return [getattr(a, figure) / getattr(b, figure) for a, b in zip(cells[name], cells[base], strict=True)]


def spread(found: list[float]) -> str:
    return f"{statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run  [1]")
    parser.add_argument("--rows", help=f"of {', '.join(work.name for work in WORK)}, {IDLE}  [all]")
    options = parser.parse_args()
    chosen = options.rows.split(",") if options.rows else [*(work.name for work in WORK), IDLE]
    missed = []
    with_asio = BY_NAME[ASIO].missing() is None
    print(f"{len(CPUS)} CPUs, {options.rounds} rounds of {options.seconds:g} s; ratios to off: median (lowest-highest)")
    print(f"{'row':<16}{'off: CPU us':>12}{'p50 us':>9}  {'auto: CPU':<18}{'p50':<18}{'50: CPU':<18}p50")
    for work in WORK:
        if work.name not in chosen:
            continue
        servers = [*SERVERS.values(), *([BY_NAME[ASIO]] if with_asio and work.name == "one" else [])]
        cells: dict[str, list[Cell]] = {server.name: [] for server in servers}
        for round_ in range(options.rounds):
            for k in range(len(servers)):
                server = servers[(k + round_) % len(servers)]
                cells[server.name].append(measure(server, work, options.seconds))
        typical = [statistics.median(getattr(cell, figure) for cell in cells[OFF]) * 1e6 for figure in ("cpu", "p50")]
        columns = [spread(ratios(cells, name, figure)) for name in (AUTO, FIXED) for figure in ("cpu", "p50")]
        print(f"{work.name:<16}{typical[0]:>12.2f}{typical[1]:>9.1f}  {''.join(f'{each:<18}' for each in columns)}")
        if round(statistics.median(ratios(cells, AUTO, "cpu")), 2) > MOST_CPU:
            missed.append(work.name)
        if ASIO in cells:
            to_asio = [ratios(cells, AUTO, "p50", ASIO), ratios(cells, AUTO, "cpu", ASIO)]
            print(f"{'':<16}auto relative to {BY_NAME[ASIO].label}: p50 {spread(to_asio[0])}, CPU {spread(to_asio[1])}")
            if round(statistics.median(to_asio[0]), 2) > MOST_P50:
                missed.append("p50 of one connection")
        sys.stdout.flush()
    if IDLE in chosen:
        idle = {name: idle_cpu(SERVERS[name], 2 * options.seconds) for name in (OFF, AUTO)}
        print(f"{IDLE:<16}" + ", ".join(f"{name}: {share:.2%} of a core" for name, share in idle.items()))
        if idle[AUTO] > idle[OFF] + 0.001:
            missed.append(IDLE)
    print(f"missed: {', '.join(missed)}" if missed else "held in every row")
    return int(bool(missed))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerError as error:
        sys.exit(str(error))
