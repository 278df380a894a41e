"""One cell: a fresh server on its core, the load on the other or in turns on the same, the server's CPU clock read
at both ends of the measured window."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from benchmarks.versus.peers import Peer
from benchmarks.versus.process import Server, ServerError, taking_turns
from benchmarks.versus.record import Cell, Method
from benchmarks.versus.rows import Row

from fastecho.bench import LoadError, LoadSpec, run_load

IDLE_TIMEOUT = 10.0


class MeasuringError(Exception):
    """A cell that gave no figure; one line."""


class CpuWindow:
    """Takes the server's CPU time and its wake-ups at the ends of the window, where the load engine calls it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._processes: tuple[int, ...] = ()
        self._start = 0.0
        self._asleep = 0
        self.seconds = 0.0
        self.wakeups = 0

    def __call__(self, event: str) -> None:
        if event == "start":
            self._processes = self._server.processes()
            self._asleep = self._server.wakeups(self._processes)
            self._start = self._server.cpu_seconds(self._processes)
        elif event == "end":
            self.seconds = self._server.cpu_seconds(self._processes) - self._start
            self.wakeups = max(0, self._server.wakeups(self._processes) - self._asleep)


def under_load(server: Server, row: Row, method: Method, round_: int) -> Cell:
    window = CpuWindow(server)
    spec = LoadSpec(
        target=f"{'tls' if row.tls else 'udp' if row.udp else 'tcp'}://127.0.0.1:{server.port}",
        tls_insecure=row.tls,
        connections=row.connections,
        size=row.size,
        depth=row.depth,
        churn=row.churn,
        server_closes=row.server_closes,
        duration=method.duration,
        warmup=method.warmup,
        cpus=(method.server_cpu if row.take_turns else method.load_cpu,),
        verify=method.verify,
    )
    try:
        with taking_turns(row.take_turns):
            result = run_load(spec, on_window=window)
    except LoadError as error:
        raise MeasuringError(str(error)) from None
    if not result.ok:
        kinds = ", ".join(f"{count} {kind}" for kind, count in result.errors.items() if count)
        raise MeasuringError("; ".join([kinds or "no echo came back", *result.error_details]))
    return Cell(
        row.name,
        server.peer.name,
        round_,
        echoes=result.echoes,
        seconds=result.seconds,
        cpu=window.seconds,
        p50=result.percentiles["p50"],
        p99=result.percentiles["p99"],
        server_busy=window.seconds / result.seconds,
        client_busy=result.client_utilisation,
        wakeups=window.wakeups,
    )


def idle_memory(server: Server, row: Row, method: Method, round_: int) -> Cell:
    """Resident bytes that a connection adds, once it has had one echo and nothing is under way."""
    message = bytes(1 + i % 255 for i in range(row.size))
    connections = min(row.connections, server.peer.most_idle or row.connections)
    before = server.resident_bytes()
    clients: list[socket.socket] = []
    try:
        for _ in range(connections):
            client = socket.create_connection(("127.0.0.1", server.port), timeout=IDLE_TIMEOUT)
            clients.append(client)
            # Reset instead of FIN at the end: no thousands of ports in TIME_WAIT for the next cell.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(message)
            echo = bytearray()
            while len(echo) < len(message):
                chunk = client.recv(len(message))
                if not chunk:
                    raise MeasuringError(f"connection {len(clients)} ended after {len(echo)} bytes")
                echo += chunk
            if echo != message:
                raise MeasuringError(f"connection {len(clients)} got a wrong echo")
        resident = (server.resident_bytes() - before) / connections
    except OSError as error:
        raise MeasuringError(f"connection {len(clients)}: {error}") from None
    finally:
        for client in clients:
            client.close()
    return Cell(row.name, server.peer.name, round_, resident=resident)


def started(peer: Peer, row: Row) -> Peer:
    """The server as this row starts it."""
    if row.tls:
        return peer.serving_tls() or peer
    return (peer.ending_at_nul() or peer) if row.server_closes else peer


def measure(peer: Peer, row: Row, method: Method, round_: int) -> Cell:
    """Runs one cell; what went wrong stands in its `error`."""
    run: Callable[[Server, Row, Method, int], Cell] = idle_memory if row.figure == "resident" else under_load
    try:
        with Server(started(peer, row), method.server_cpu, take_turns=row.take_turns) as server:
            try:
                return run(server, row, method, round_)
            finally:
                # A server that is gone explains every error of the load.
                server.check_alive()
    except (ServerError, MeasuringError) as error:
        return Cell(row.name, peer.name, round_, error=str(error))
