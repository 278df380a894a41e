"""Records made up for the tests: no server, no load, no clock."""

from __future__ import annotations

from benchmarks.versus.peers import BY_NAME as PEERS
from benchmarks.versus.record import Cell, Method, Record
from benchmarks.versus.rows import BY_NAME as ROWS

METHOD = Method(rounds=3, duration=1.0, warmup=0.2, server_cpu=1, load_cpu=0, verify=True)


def cell(row: str, peer: str, round_: int, value: float, client_busy: float = 0.9) -> Cell:
    """A cell whose figure is `value`: microseconds of CPU or of round trip, or bytes."""
    figure = ROWS[row].figure
    if figure == "resident":
        return Cell(row, peer, round_, resident=value)
    seconds = value / 1e6
    cpu, p50 = (seconds * 1000, 1e-4) if figure == "cpu" else (0.01, seconds)
    return Cell(
        row,
        peer,
        round_,
        echoes=1000,
        seconds=1.0,
        cpu=cpu,
        p50=p50,
        p99=2 * p50,
        server_busy=0.9,
        client_busy=client_busy,
    )


def record(*cells: Cell, unfit: dict[str, str] | None = None, load: str = "0.03") -> Record:
    rows = tuple(name for name in ROWS if any(found.row == name for found in cells))
    peers = tuple(name for name in PEERS if any(found.peer == name for found in cells))
    return Record(
        started="2026-01-01 12:00 UTC",
        command="python -m benchmarks.versus",
        method=METHOD,
        machine={"processor": "a processor", "load average at the start": load},
        versions={"Python": "3.13.0"},
        rows=rows,
        peers=peers,
        unfit=unfit or {},
        cells=cells,
        seconds=90.0,
    )


def full_record() -> Record:
    """Every row and every server: fastecho at 4, the C family at 4.2 and at 3.6 in churn, the others at 5."""
    cells = []
    for row in ROWS.values():
        for peer in PEERS.values():
            if not row.takes(peer):
                continue
            value = {"c": 4.2, "c++": 4.2, "fastecho": 4.0}.get(peer.family, 5.0)
            if row.churn and peer.family in ("c", "c++"):
                value = 3.6
            cells += [cell(row.name, peer.name, round_, value * (1 + 0.01 * round_)) for round_ in range(3)]
    return record(*cells)
