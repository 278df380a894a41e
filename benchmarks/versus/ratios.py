"""The statistics.

Absolute figures drift with the machine from round to round; ratios taken inside one round do not. So each
quoted ratio is the median of the rounds' ratios, with the lowest and the highest as its spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.versus.record import Cell, Record, present
from benchmarks.versus.rows import Figure, Row


@dataclass(frozen=True)
class Spread:
    """Median, lowest and highest of a few rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        return cls(median(values), min(values), max(values), len(values)) if values else None


def ratio(ours: Sequence[Cell], theirs: Sequence[Cell], figure: Figure) -> Spread | None:
    """ours / theirs of the rounds in which both ran; None without such a round."""
    by_round = {cell.round: cell.figure(figure) for cell in theirs}
    found = []
    for cell in ours:
        mine, other = cell.figure(figure), by_round.get(cell.round)
        if mine is not None and other is not None and other > 0:
            found.append(mine / other)
    return Spread.of(found)


@dataclass(frozen=True)
class Comparison:
    """fastecho against one server in one row; below 1 is ahead. ceiling: the ratio to hold, if any."""

    row: Row
    peer: str
    ratio: Spread | None
    ceiling: float | None

    @property
    def missed(self) -> bool:
        """There is a ratio to hold, and it was measured and exceeded; as it is printed, to two digits."""
        if self.ceiling is None or self.ratio is None:
            return False
        return round(self.ratio.median, 2) > self.ceiling

    @property
    def behind(self) -> bool:
        return self.ratio is not None and round(self.ratio.median, 2) > 1

    @property
    def certain(self) -> bool:
        """Every round says the same about who leads."""
        return self.ratio is not None and (self.ratio.low > 1 or self.ratio.high < 1)


def compare(record: Record, row: Row, peer: str, subject: str | None = None) -> Comparison:
    ours = record.of(row, subject or row.subject)
    return Comparison(row, peer, ratio(ours, record.of(row, peer), row.figure), row.ceilings.get(peer))


def typical(cells: Sequence[Cell], of: str) -> Spread | None:
    """The spread of one quantity of the cells that have it; `of` is an attribute of Cell."""
    return Spread.of(present(getattr(cell, of) for cell in cells))
