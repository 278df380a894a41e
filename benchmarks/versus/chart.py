"""The chart of absolute numbers: echoes per second on one core, and KiB per idle connection."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.versus import peers, rows
from benchmarks.versus.peers import Peer
from benchmarks.versus.ratios import Spread, compare, typical
from benchmarks.versus.record import Record
from benchmarks.versus.rows import Row

KIB = 1024


@dataclass(frozen=True)
class Panel:
    """One half of the chart."""

    row: Row
    title: str
    note: str


SPEED = Panel(rows.SPEED, "Echoes per second on one core", "64 B messages over 50 connections; more is better")
MEMORY = Panel(rows.MEMORY, "Memory per idle connection, in KiB", "after an echo of 64 KiB; less is better")
PANELS = (SPEED, MEMORY)


@dataclass(frozen=True)
class Bar:
    """One server on one panel.

    certain: in every round the server was on the same side of fastecho.
    """

    peer: Peer
    value: Spread
    text: str
    certain: bool

    @property
    def name(self) -> str:
        """The name in a sentence, where the number stands in the parentheses."""
        return self.peer.chart_name.partition(" (")[0]


def value_text(value: float) -> str:
    """Three digits of a large number, two of a small one: `183,000`, `69`, `1.6`, `0.27`."""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def figure(record: Record, panel: Panel, name: str) -> Spread | None:
    cells = record.of(panel.row, name)
    if panel is SPEED:
        return typical(cells, "per_core")
    found = typical(cells, "resident")
    return found and Spread(found.median / KIB, found.low / KIB, found.high / KIB, found.rounds)


def bars(record: Record, panel: Panel) -> list[Bar]:
    """The servers that were measured, the best first."""
    found = []
    for peer in peers.ON_CHART:
        if (value := figure(record, panel, peer.name)) is not None:
            certain = compare(record, panel.row, peer.name).certain
            found.append(Bar(peer, value, value_text(value.median), certain))
    return sorted(found, key=lambda bar: bar.value.median, reverse=panel is SPEED)


@dataclass(frozen=True)
class Standing:
    """fastecho on one panel, and the others: worse than it, about equal, better; the best first."""

    ours: Bar
    worse: list[Bar]
    equal: list[Bar]
    better: list[Bar]


def standing(record: Record, panel: Panel) -> Standing | None:
    """None when fastecho was not measured. Equal: the rounds disagree, or the numbers are printed alike."""
    found = bars(record, panel)
    ours = next((bar for bar in found if bar.peer.name == peers.FASTECHO), None)
    if ours is None:
        return None
    place = found.index(ours)
    equal = [bar for bar in found if bar is not ours and (not bar.certain or bar.text == ours.text)]
    better, worse = ([bar for bar in side if bar not in equal] for side in (found[:place], found[place + 1 :]))
    return Standing(ours, worse, equal, better)


def absent(record: Record) -> list[str]:
    """The servers that a panel lacks, each with the reason as far as it is known."""
    shown = [{bar.peer.name for bar in bars(record, panel)} for panel in PANELS]
    found = []
    for peer in peers.ON_CHART:
        if not all(peer.name in names for names in shown):
            reason = record.unfit.get(peer.name)
            found.append(f"{peer.chart_name} ({reason})" if reason else peer.chart_name)
    return found
