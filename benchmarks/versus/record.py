"""What a run leaves behind: every cell of every round, the machine, the versions, the method. Plain JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.versus.rows import Figure, Row

FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """One server, one row, one round. With an error there are no figures: a failure is never a zero.

    cpu: server CPU seconds inside the window; seconds: its length; p50, p99: seconds; resident: bytes a
    connection; server_busy, client_busy: shares of their cores, 0..1; wakeups: of the server's threads inside
    the window.
    """

    row: str
    peer: str
    round: int
    error: str | None = None
    echoes: int | None = None
    seconds: float | None = None
    cpu: float | None = None
    p50: float | None = None
    p99: float | None = None
    resident: float | None = None
    server_busy: float | None = None
    client_busy: float | None = None
    wakeups: int | None = None

    @property
    def cpu_per_echo(self) -> float | None:
        return self.cpu / self.echoes if self.cpu is not None and self.echoes else None

    @property
    def wakeups_per_echo(self) -> float | None:
        return self.wakeups / self.echoes if self.wakeups is not None and self.echoes else None

    @property
    def per_core(self) -> float | None:
        """Echoes per second of CPU time: the rate of a server that keeps one core full."""
        return self.echoes / self.cpu if self.echoes and self.cpu else None

    @property
    def rate(self) -> float | None:
        return self.echoes / self.seconds if self.echoes and self.seconds else None

    def figure(self, which: Figure) -> float | None:
        return {"cpu": self.cpu_per_echo, "p50": self.p50, "resident": self.resident}[which]


@dataclass(frozen=True)
class Method:
    """How a run measured. Times in seconds."""

    rounds: int
    duration: float
    warmup: float
    server_cpu: int
    load_cpu: int
    verify: bool


@dataclass(frozen=True)
class Record:
    """A whole run.

    unfit: servers that were asked for and not measured, and why (not built, or not conforming).
    """

    started: str
    command: str
    method: Method
    machine: dict[str, str]
    versions: dict[str, str]
    rows: tuple[str, ...]
    peers: tuple[str, ...]
    unfit: dict[str, str] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()
    seconds: float = 0.0

    def of(self, row: Row | str, peer: str) -> list[Cell]:
        """The cells of one server in one row, in the order of the rounds."""
        name = row if isinstance(row, str) else row.name
        found = (cell for cell in self.cells if cell.row == name and cell.peer == peer)
        return sorted(found, key=lambda cell: cell.round)

    def failures(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.error is not None]

    def failure_lines(self) -> list[str]:
        """A line for every failed cell and for every server that was not measured."""
        return [
            *(f"{cell.row}, {cell.peer}, round {cell.round + 1}: {cell.error}" for cell in self.failures()),
            *(f"{peer} was not measured: {reason}" for peer, reason in self.unfit.items()),
        ]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, **asdict(self)}
        cells = content.pop("cells")
        # A line a cell: a difference between two runs can be read.
        known = [{key: value for key, value in cell.items() if value is not None} for cell in cells]
        lines = ",\n".join(f"  {json.dumps(cell)}" for cell in known)
        head = json.dumps(content, indent=1)
        path.write_text(f'{head[:-2]},\n "cells": [\n{lines}\n ]\n}}\n')

    @classmethod
    def load(cls, path: Path) -> Record:
        """Reads what save() wrote; ValueError when it is something else."""
        content = json.loads(path.read_text())
        if content.pop("format", None) != FORMAT:
            raise ValueError(f"{path}: not a record of this comparison, format {FORMAT}")
        return cls(
            **{
                **content,
                "method": Method(**content["method"]),
                "rows": tuple(content["rows"]),
                "peers": tuple(content["peers"]),
                "cells": tuple(Cell(**cell) for cell in content["cells"]),
            }
        )


def present(values: Iterable[float | None]) -> Sequence[float]:
    return [value for value in values if value is not None]
