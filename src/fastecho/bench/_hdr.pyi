"""The HDR histogram that the load engine fills in C."""

from typing_extensions import disjoint_base

HIGHEST: int

@disjoint_base
class Histogram:
    """Counts of nanoseconds, 0 .. 100e9, to 3 significant digits, laid out as in HdrHistogram(1, 100e9, 3)."""

    def __len__(self) -> int: ...
    def record(self, value: int, times: int = 1) -> None:
        """Count `value`, `times` times; above the highest it counts as the highest."""
    def add(self, other: Histogram) -> None:
        """Count everything that `other` counted."""
    def since(self, earlier: Histogram) -> Histogram:
        """What was counted after `earlier`, an older state of this histogram, which is brought up to date."""
    def percentile(self, percent: float) -> int:
        """The value that `percent` of the values do not exceed (0 when nothing was counted)."""
    def items(self) -> list[tuple[int, int]]:
        """Each value counted (the least of its counter) with its count, ascending."""
    @property
    def min(self) -> int: ...
    @property
    def max(self) -> int: ...
    @property
    def mean(self) -> float: ...
